"""Who only reads, or works elsewhere, pays nothing; and without the extension all is as before."""

import pytest
from support.site import Site

HEAVY = {"zmq", "nacl", "sqlite3", "yaml", "msgspec"}
"""What no hg process may import that has nothing to tell; three of them none at all."""


@pytest.mark.parametrize("command", ["status", "log", "summary", "identify", "bookmarks"])
def test_reading_imports_neither_zmq_nor_nacl(site: Site, command: str) -> None:
    app = site.repository("team/app")
    app.build(1)
    ran = app.hg(command)
    assert "hgext_zmqhooks" in ran.modules, "the extension was loaded"
    assert HEAVY & ran.modules == set()


def test_repositories_outside_the_root_are_left_alone(site: Site) -> None:
    # Given a repository outside the root
    app = site.repository("team/app")
    app.build(3)
    # When it is cloned, committed to and pushed to, by a process that has the extension
    made = site.folder / "work" / "clone"
    cloned = site.command("hg", "clone", "--pull", str(app.path), str(made))
    clone = site.clone(app)
    committed = clone.build(1)
    other = site.folder / "work" / "other"
    site.command("hg", "clone", "--quiet", str(clone.path), str(other))
    pushed = site.command("hg", "push", str(other), cwd=clone.path, status=None)
    # Then nothing was imported for it, and nothing was written into it
    for ran in (cloned, committed, pushed):
        assert "hgext_zmqhooks" in ran.modules
        assert HEAVY & ran.modules == set()
    for store in (made / ".hg/store", clone.store, other / ".hg/store"):
        assert list(store.glob("zmqhooks*")) == []


def test_what_writes_imports_only_what_it_needs(site: Site) -> None:
    app = site.repository("team/app")
    ran = app.build(1)
    assert HEAVY & ran.modules == {"zmq", "nacl"}
    ran = app.build(1, "default", "--config", "zmqhooks.relay=")
    assert HEAVY & ran.modules == {"nacl"}


def test_without_the_extension_a_repository_works_as_before(site: Site) -> None:
    # Given a repository with a journal
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    first = app.commit("with")
    # When hg works in it without the extension: commit, pull, bundle, verify, clone
    client = site.clone(app)
    client.build(2, plain=True)
    client.hg("push", plain=True)
    app.hg("update", "--quiet", plain=True)
    (app.path / "file").write_text("without\n")
    app.hg("commit", "--quiet", "--message", "without", plain=True)
    app.hg("verify", "--quiet", plain=True)
    app.hg("clone", "--quiet", ".", str(site.folder / "work" / "plain"), plain=True)
    app.hg("debugupgraderepo", "--run", "--quiet", plain=True)
    assert len(app.nodes()) == 4
    # Then the next transaction with it tells of what was made behind its back, and of its own
    own = app.commit("with again")
    runs = site.wait_runs(3)
    assert [node for run in runs for node in run.nodes] == app.nodes("--rev", "all()")
    assert runs[0].nodes == [first]
    assert runs[-1].nodes == [own]
    origins = [event["data"]["origin"] for run in runs for event in run.events]
    assert origins == ["live", "catchup", "live"]
    assert "no problems found" in app.verify()


def test_an_old_repository_begins_with_a_baseline_that_runs_nothing(site: Site) -> None:
    # Given a repository from before the extension
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    app.build(50, "default,stable", plain=True)
    # When it is first committed to with it
    own = app.commit("first")
    # Then only that commit runs a script, and all is known
    (run,) = site.wait_runs(1)
    assert run.nodes == [own]
    listed = app.hg("events", "--template", "{type} {branch}\n").out.split("\n")
    assert sorted(listed[1:-1]) == ["hg.baseline.v1 default", "hg.baseline.v1 stable"]
    assert "no problems found" in app.verify()
