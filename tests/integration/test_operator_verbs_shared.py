"""What an operator does to a store that hosts share: at once, whatever the daemons do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from relaykit import Repo, draft
from subscriberkit import Site, burst, site
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory

pytestmark = pytest.mark.timeout(200)

GATE = """#!/bin/sh
[ -e ok ] && exec ./run.py
exit 65
"""
SOON = 15.0
"""Seconds within which a daemon sees what another process wrote: far less than its retries take."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey") as made:
        yield made


@pytest.fixture
def here(server: Server) -> Iterator[Site]:
    with site() as made:
        made.script("gate.sh", GATE)
        configure(made, server)
        yield made


def configure(here: Site, server: Server) -> None:
    here.configure(store=server.url, state="one.state", rules=[here.rule(exec=["./gate.sh"])])


def in_state(here: Site, state: str, count: int) -> list[dict]:
    def found() -> list[dict]:
        rows = here.rows("deliveries", "--state", state)
        return rows if len(rows) == count else []

    return wait_for(found, f"{count} are {state}")


def test_dead_letters_run_again_within_a_moment(here: Site) -> None:
    burst(here.repo(), 3)
    here.start()
    in_state(here, "dead", 3)
    (here.folder / "ok").touch()

    asked = here.ask("redeliver", "--rule", "build", "--since", "1h")
    done = here.ask("redeliver", "--rule", "build", "--since", "1h", "--yes")

    assert (asked.returncode, done.returncode) == (1, 0)
    here.wait_runs(3, SOON)
    in_state(here, "done", 3)
    (first, *_) = here.rows("deliveries")
    kinds = [row["kind"] for row in here.rows("show", first["id"])]
    assert kinds == ["delivery", "receipt", "receipt"]


def test_nothing_waits_for_a_daemon_that_stands_still(here: Site) -> None:
    (here.folder / "ok").touch()
    repo = here.repo()
    repo.commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    daemon.freeze()

    (paused,) = here.rows("pause", "build", "--reason", "moved")
    daemon.thaw()
    burst(repo, 2)
    first, _ = in_state(here, "pending", 2)
    (given_up,) = here.rows("dead", "--give-up", first["id"])
    (resumed,) = here.rows("resume", "build")

    assert (paused["changed"], resumed["changed"]) == (True, True)
    (dead,) = here.rows("dead")
    assert (dead["id"], dead["reason"]) == (first["id"], f"given up by {given_up['who']}")
    here.wait_runs(2, SOON)


def test_a_store_without_a_daemon_is_worked_on(here: Site) -> None:
    burst(here.repo(), 1)
    daemon = here.start()
    in_state(here, "dead", 1)
    daemon.end()

    done = here.ask("redeliver", "--rule", "build")

    assert done.returncode == 0
    assert "daemon: does not run" in done.stdout
    in_state(here, "pending", 1)


def test_a_decision_is_seen_by_the_daemon_that_follows_the_journal(here: Site) -> None:
    # Given a journal that is stopped, since another one has its name already
    (here.folder / "ok").touch()
    here.repo("app").commit(draft())
    other = Repo(here.hg, "zz/app2", here.keys.publisher)
    other.writer = Writer(Directory(other.store), "app")
    other.commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    daemon.wait_line("journal stopped", "kind=unfit-journal")
    (stopped,) = [row for row in here.rows("status") if row.get("stopped")]

    # When a person admits it, then it goes on, long before it would be tried again
    here.rows("accept", "app", "--journal", stopped["journal"])

    here.wait_runs(2, SOON)


def test_a_server_that_is_gone_is_named(here: Site, server: Server) -> None:
    server.kill()

    for words in (
        ["dead"],
        ["redeliver", "--rule", "build"],
        ["pause", "build"],
        ["trace", "abcd"],
    ):
        done = here.ask(*words)
        assert done.returncode == 1, words
        assert str(server.port) in done.stderr
        assert "Traceback" not in done.stderr
