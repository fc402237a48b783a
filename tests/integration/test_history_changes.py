"""Rollback, copy, restore, rename, deletion, and two repositories of one name: what readers see.

Real hg, relay and subscriber. See docs/howto/when-history-changes.md.
"""

import shutil

import pytest
from support.site import Repository, Site
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(300)


def rows(site: Site, kind: str, name: str = "ci") -> list[dict]:
    return [row for row in site.status(name) if row["kind"] == kind]


def stored(site: Site) -> int:
    return int(rows(site, "status")[0]["events"])


def wait_level(site: Site, repo: str) -> dict[str, str]:
    """The audit's states, as soon as they are all equal."""

    def look() -> dict[str, str]:
        found = site.ask("ci", "audit", repo, status=None)
        states = {row["branch"]: row["state"] for row in found}
        return states if set(states.values()) == {"equal"} else {}

    return wait_for(look, f"{repo} is level")


@pytest.fixture
def app(site: Site) -> Repository:
    """A repository with two events, both received."""
    site.configure(start="earliest")
    site.subscriber()
    app = site.repository("team/app")
    app.commit("one")
    app.commit("two")
    site.wait_runs(2)
    return app


def test_after_a_rollback_a_new_journal_continues_and_tells_what_is_gone(
    site: Site, app: Repository
) -> None:
    gone = app.nodes("--rev", ".")
    app.hg("rollback", "--quiet")
    app.commit("three")

    runs = site.wait_runs(4)

    assert [node for run in runs for node in run.all("removed")] == gone
    line = site.daemons[0].wait_line("a new journal continues", "repo=team/app", "branch=default")
    assert "sequence=1" in line
    assert wait_level(site, "team/app") == {"default": "equal"}
    wait_for(lambda: not any(row["stopped"] for row in rows(site, "journal")), "nothing is held")


def test_a_restored_backup_is_held_until_its_next_transaction(site: Site, app: Repository) -> None:
    # Given a backup that is older than what was read
    backup = site.folder / "backup"
    shutil.copytree(app.path, backup, symlinks=True)
    app.commit("three")
    site.wait_runs(3)
    # When it is restored
    shutil.rmtree(app.path)
    shutil.move(backup, app.path)
    line = site.daemons[0].wait_line("journal held", "repo=team/app")
    assert "ends at sequence 2, but was read up to 3" in line
    (row,) = [row for row in rows(site, "journal") if row["stopped"]]
    assert "audit team/app" in row["next"]
    # Then the next transaction begins a journal that goes on where the backup ended
    app.commit("four")
    site.wait_runs(4)
    site.daemons[0].wait_line("a new journal continues", "repo=team/app")
    wait_for(lambda: not any(row["stopped"] for row in rows(site, "journal")), "nothing is held")


def test_a_copy_and_a_renamed_repository_are_repositories_of_their_own(
    site: Site, app: Repository
) -> None:
    copy = Repository(site, site.root / "team/copy")
    shutil.copytree(app.path, copy.path, symlinks=True)
    copy.commit("in the copy")
    app.commit("three")
    assert {run.repo for run in site.wait_runs(4)[2:]} == {"team/app", "team/copy"}
    app.path.rename(site.root / "team/new")
    Repository(site, site.root / "team/new").commit("under the new name")
    assert site.wait_runs(5)[-1].repo == "team/new"
    assert [row["stopped"] for row in rows(site, "journal")] == [None] * 3


def test_a_deleted_journal_waits_for_a_person(site: Site, app: Repository) -> None:
    for path in app.store.glob("zmqhooks-*"):
        path.unlink()
    app.commit("three")
    line = site.daemons[0].wait_line("journal stopped", "kind=unfit-journal", "repo=team/app")
    (row,) = [row for row in rows(site, "journal") if row["stopped"]]
    assert f"accept team/app --journal {row['journal']}" in line

    site.ask("ci", "accept", "team/app", "--journal", row["journal"])

    wait_for(lambda: not any(row["stopped"] for row in rows(site, "journal")), "it goes on")
    assert wait_level(site, "team/app") == {"default": "equal"}


@pytest.mark.long
def test_a_deleted_repository_leaves_its_history(site: Site, app: Repository) -> None:
    shutil.rmtree(app.path)

    site.daemons[0].wait_line("repository gone", str(app.path), deadline=100)

    assert stored(site) == 2
    assert rows(site, "journal")[0]["stopped"] is None


@pytest.mark.long
def test_a_second_repository_of_the_same_name_behind_another_relay_is_held(site: Site) -> None:
    # Given two hosts, each with a relay, of which both have a repository team/app
    hosts = {name: site.root / name for name in ("one", "two")}
    for name, root in hosts.items():
        section = {
            "key": "keys/relay.key",
            "trust": ["keys/root.pub"],
            "publish": site.endpoint(f"publish-{name}"),
            "subscribe": [site.endpoint(f"subscribe-{name}")],
            "repositories": [f"{root}/**"],
            "state": f"{name}.relay",
        }
        site.write(f"{name}.yml", section)
        relay = site.start(name, "zmq-relay", "--config", f"{name}.yml")
        relay.wait_line("relay serves")
    apps = [Repository(site, root / "app") for root in hosts.values()]
    for app in apps:
        site.command("hg", "init", str(app.path))
        (app.path / ".hg/hgrc").write_text("[zmqhooks]\nrepo = team/app\n")
    addresses = [site.endpoint(f"subscribe-{name}") for name in hosts]
    site.configure(relays=addresses, start="earliest")
    daemon = site.subscriber()
    apps[0].commit("the true one")
    site.wait_runs(1)
    # When the second one speaks
    apps[1].commit("the other one")
    # Then it is held, and the first one goes on
    daemon.wait_line("journal stopped", "kind=unfit-journal", "repo=team/app", deadline=100)
    apps[0].commit("goes on")
    site.wait_runs(2)
    held = [row["relay"] for row in rows(site, "journal") if row["stopped"]]
    assert held == [addresses[1]]
    assert {row["relay"] for row in rows(site, "relay") if row["seen"]} == set(addresses)
