"""`zmq-subscriber audit`: what was received, against what the repository has. Real hg, daemons."""

import pytest
from support.site import Repository, Site, rule
from support.waiting import wait_for

from subscriber.store.sqlite import SqliteStore

pytestmark = pytest.mark.timeout(300)


def audit(site: Site, repo: str = "team/app", *words: str, status: int = 0) -> dict[str, dict]:
    """The rows by branch."""
    rows = site.ask("ci", "audit", repo, *words, status=status)
    return {row["branch"]: row for row in rows}


def wait_stored(site: Site, count: int) -> None:
    def look() -> bool:
        return site.status()[0]["events"] >= count

    wait_for(look, f"{count} stored events")


@pytest.fixture
def app(site: Site) -> Repository:
    """A repository with three branches, one closed, one with two heads; all received."""
    site.configure(start="earliest")
    site.subscriber()
    app = site.repository("team/app")
    app.commit("one")
    app.hg("branch", "--quiet", "größe 'x'")
    app.commit("two")
    app.hg("update", "--quiet", "default")
    app.hg("branch", "--quiet", "old")
    app.commit("three")
    app.commit("four", "--close-branch")
    app.hg("update", "--quiet", "default")
    app.commit("five")
    app.hg("update", "--quiet", ".^")
    app.commit("six")
    app.commit("secret", "--secret")
    wait_stored(site, 6)
    return app


def test_what_was_received_in_full_is_equal(site: Site, app: Repository) -> None:
    rows = audit(site)

    assert {name: row["state"] for name, row in rows.items()} == {
        "default": "equal",
        "größe 'x'": "equal",
        "old": "equal",
    }
    assert len(rows["default"]["repository"]) == 2
    said = site.command("zmq-subscriber", "--config", "ci.yml", "audit", "team/app").out
    assert "team/app default: equal, 2 heads\n" in said


def test_newest_changesets_that_no_event_told_of_are_named(site: Site, app: Repository) -> None:
    # Given changesets of which no event comes
    app.hg("update", "--quiet", "--rev", "desc(six)", plain=True)
    (app.path / "file").write_text("untold\n")
    app.hg("commit", "--quiet", "--message", "untold", plain=True)
    (untold,) = app.nodes("--rev", "desc(untold)")
    # When it is audited, then they are named, with a reason to look further
    rows = audit(site, status=1)
    assert (rows["default"]["state"], rows["default"]["missing"]) == ("behind", [untold])
    assert rows["größe 'x'"]["state"] == "equal"
    command = ("zmq-subscriber", "--config", "ci.yml", "audit", "team/app")
    said = site.command(*command, "--repository", str(app.path), status=1).out
    assert f"1 missing: {untold[:12]}" in said
    assert "all that the relay told of was read" in said


def test_a_head_that_is_gone_and_one_that_came_instead(site: Site, app: Repository) -> None:
    (five,) = app.nodes("--rev", "desc(five)")
    app.hg("--config", "extensions.strip=", "strip", "--quiet", five, plain=True)
    rows = audit(site, status=1)
    assert (rows["default"]["state"], rows["default"]["unknown"]) == ("ahead", [five])
    assert rows["default"]["missing"] == []

    app.hg("update", "--quiet", "--rev", "desc(six)", plain=True)
    (app.path / "file").write_text("untold\n")
    app.hg("commit", "--quiet", "--message", "untold", plain=True)
    rows = audit(site, status=1)
    assert rows["default"]["state"] == "diverged"
    assert rows["default"]["missing"] == app.nodes("--rev", "desc(untold)")


def test_a_branch_closed_without_an_event_is_not_equal(site: Site, app: Repository) -> None:
    app.hg("update", "--quiet", "--rev", "desc(two)", plain=True)
    app.hg("commit", "--quiet", "--close-branch", "--message", "closed", plain=True)

    rows = audit(site, status=1)

    assert rows["größe 'x'"]["state"] == "behind"
    assert rows["größe 'x'"]["missing"] == app.nodes("--rev", "desc(closed)")


def test_heads_from_before_the_reading_need_not_be_known_by_name(site: Site) -> None:
    # Given a subscriber that began to read at the newest event
    app = site.repository("team/app")
    app.commit("one")
    app.hg("branch", "--quiet", "quiet")
    app.commit("two")
    app.hg("update", "--quiet", "default")
    app.commit("three")
    app.hg("update", "--quiet", ".^")
    site.configure(rules=[rule("build", "hg:**:*:")])
    site.subscriber()
    app.commit("four")
    wait_stored(site, 1)
    # Then the head that it was never told of is no problem
    rows = audit(site)
    assert {name: row["state"] for name, row in rows.items()} == {
        "default": "equal",
        "quiet": "unread",
    }
    # but a newer one of which no event came is one
    (app.path / "file").write_text("untold\n")
    app.hg("commit", "--quiet", "--message", "untold", plain=True)
    rows = audit(site, status=1)
    assert rows["default"]["missing"] == app.nodes("--rev", "desc(untold)")


def test_what_was_forgotten_is_no_problem(site: Site) -> None:
    # Given a subscriber that has forgotten its first events, and so all of a branch
    site.configure(rules=[rule("build", "hg:**:*:")], start="earliest")
    daemon = site.subscriber()
    app = site.repository("team/app")
    app.commit("one")
    app.hg("branch", "--quiet", "quiet")
    app.commit("two")
    app.hg("update", "--quiet", "default")
    app.commit("three")
    site.wait_settled(3)
    assert daemon.terminate() == 0
    with SqliteStore.open(site.folder / "ci.db") as store:
        (journal,) = store.journals()
        newest = store.event(journal.journal, 3)
        assert newest is not None
        assert store.prune(newest.record.received, 100) == 4
        assert store.events(0, 9) == [newest]
    # When it goes on
    site.subscriber()
    app.commit("four")
    wait_stored(site, 2)
    # Then nothing differs, and what was forgotten is said to be
    assert {name: row["state"] for name, row in audit(site).items()} == {
        "default": "equal",
        "quiet": "unread",
    }
    command = ("zmq-subscriber", "--config", "ci.yml")
    assert "or that was forgotten since" in site.command(*command, "audit", "team/app").out
    shown = site.command(*command, "show", f"{journal.journal}/1", status=1)
    assert "forgotten, as it is done and old" in shown.err
    assert site.status()[0]["events"] == 2


def test_branches_that_no_rule_wants_are_left_out(site: Site) -> None:
    site.configure(rules=[rule("build", "hg:**:stable:")], start="earliest")
    site.subscriber()
    app = site.repository("team/app")
    app.commit("one")
    app.hg("branch", "--quiet", "stable")
    app.commit("two")
    wait_stored(site, 1)

    assert {name: row["state"] for name, row in audit(site).items()} == {"stable": "equal"}


def test_what_cannot_be_audited_says_why(site: Site, app: Repository) -> None:
    command = ("zmq-subscriber", "--config", "ci.yml", "audit")
    unknown = site.command(*command, "team/none", "--repository", str(app.path), status=1)
    assert "known: team/app" in unknown.err
    nowhere = site.command(*command, "team/none", status=1)
    assert "--repository" in nowhere.err
    other = site.command(*command, "team/app", "--repository", "work", status=1)
    assert "work: not a Mercurial repository" in other.err
    (app.store / "00changelog.i").write_bytes(b"not a revlog at all")
    broken = site.command(*command, "team/app", status=1)
    assert "hg failed" in broken.err
    assert broken.out == ""
