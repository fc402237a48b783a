"""`redeliver`, `dead`, `pause`, `resume`: what an operator does, with and without a daemon."""

import pytest
from relaykit import draft
from subscriberkit import Site, burst, site
from support.daemons import Daemon
from support.waiting import wait_for

from subscriber.engine.dispatch import IDLE
from subscriber.operate import MAX_IDS
from subscriber.selection import SHOWN

pytestmark = pytest.mark.timeout(200)

GATE = """#!/bin/sh
[ -e ok ] && exec ./run.py
echo "no ok here"
exit 65
"""
SOON = IDLE / 2
"""The engine is called: it does not find it when it looks by itself."""
WAYS = pytest.mark.parametrize("daemon_runs", [True, False], ids=["daemon", "direct"])


@pytest.fixture
def here():
    with site() as made:
        made.script("gate.sh", GATE)
        made.configure(rules=[made.rule(exec=["./gate.sh"]), made.rule("other", when=OTHER)])
        yield made


OTHER = {"topic": "hg:**:other:"}


def mend(here: Site) -> None:
    (here.folder / "ok").touch()


def states(here: Site) -> list[str]:
    return [row["state"] for row in here.rows("deliveries")]


def in_state(here: Site, state: str, count: int) -> None:
    def found() -> bool:
        return len(here.rows("deliveries", "--state", state, "-n", "1000")) == count

    wait_for(found, f"{count} are {state}")


def fail(here: Site, count: int, *, daemon_runs: bool = True) -> Daemon:
    """Dead deliveries; afterwards their cause is mended."""
    burst(here.repo(), count)
    daemon = here.start()
    in_state(here, "dead", count)
    mend(here)
    if not daemon_runs:
        daemon.end()
    return daemon


def wait(here: Site, count: int, *, daemon_runs: bool = True) -> None:
    """Deliveries that nothing has run yet, of a rule that is paused."""
    repo = here.repo()
    burst(repo, 1)  # a repository that appears later is found within half a minute only
    daemon = here.start()
    in_state(here, "dead", 1)
    here.rows("pause", "build")
    burst(repo, count)
    in_state(here, "pending", count)
    if not daemon_runs:
        daemon.end()


@WAYS
def test_a_dead_delivery_runs_again(here: Site, *, daemon_runs: bool) -> None:
    daemon = fail(here, 1, daemon_runs=daemon_runs)
    (dead,) = here.rows("dead")

    (row,) = here.rows("redeliver", dead["id"][:8])

    assert (row["kind"], row["delivery"]) == ("redelivered", dead["id"])
    if daemon_runs:
        assert f"who={row['who']}" in daemon.wait_line("redelivered by an operator", dead["id"])
    else:
        assert states(here) == ["pending"]
        here.start()
    (run,) = here.wait_runs(1, SOON)
    assert run["delivery_id"] == dead["id"]
    in_state(here, "done", 1)
    _, first, second = here.rows("show", dead["id"])
    assert (first["verdict"], second["verdict"]) == ("dead", "done")
    assert first["output"] == "no ok here\n"


@WAYS
def test_more_than_one_by_filter_is_listed_first(here: Site, *, daemon_runs: bool) -> None:
    fail(here, 3, daemon_runs=daemon_runs)

    asked = here.ask("redeliver", "--rule", "build")
    *listed, selection = here.rows("redeliver", "--rule", "build")

    assert asked.returncode == 1
    assert asked.stdout.splitlines()[-1] == (
        "3 deliveries (build 3; dead 3) would run again; nothing is done yet: repeat it with --yes"
    )
    assert [row["state"] for row in listed] == ["dead"] * 3
    assert (selection["count"], selection["rules"]) == (3, {"build": 3})
    assert states(here) == ["dead"] * 3

    done = here.ask("redeliver", "--rule", "build", "--yes")

    assert done.returncode == 0
    assert done.stdout.count("runs again, says ") == 3
    assert ("daemon: does not run" in done.stdout) == (not daemon_runs)
    if not daemon_runs:
        here.start()
    here.wait_runs(3)


def test_one_by_filter_is_done_at_once(here: Site) -> None:
    fail(here, 2)

    (row,) = here.rows("redeliver", "--branch", "stable", "--since", "1h")

    (run,) = here.wait_runs(1)
    assert run["delivery_id"] == row["delivery"]
    assert run["branch"] == "stable"


def test_filters_choose_by_state_and_time(here: Site) -> None:
    fail(here, 1)
    here.rows("redeliver", "--rule", "build")
    in_state(here, "done", 1)

    for words in (
        ["--rule", "build"],
        ["--state", "done", "--until", "1h"],
        ["--state", "done", "--since", "2100-01-01T00:00Z"],
        ["--state", "done", "--repo", "none"],
    ):
        done = here.ask("redeliver", *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert "fits" in done.stderr
    (row,) = here.rows("redeliver", "--state", "done", "--since", "2026-01-01", "--repo", "app")

    assert row["kind"] == "redelivered"
    here.wait_runs(2)


def test_what_does_not_go_is_said_and_nothing_is_done(here: Site) -> None:
    fail(here, 1, daemon_runs=False)
    (dead,) = here.rows("dead")

    for words, status, hint in (
        (["redeliver"], 2, "--rule"),
        (["redeliver", dead["id"], "--rule", "build"], 2, "--rule"),
        (["redeliver", "zzzz"], 1, "deliveries"),
        (["redeliver", dead["id"], "zzzz"], 1, "deliveries"),
        (["redeliver", "--rule", "bild"], 1, 'did you mean "build"?'),
        (["redeliver", "--state", "running"], 2, "running"),
        (["redeliver", "--since", "soon"], 2, "2h"),
        (["dead", dead["id"]], 2, "show ID"),
        (["dead", "--reason", "x"], 2, "--give-up"),
        (["dead", "--give-up"], 2, "--rule"),
        (["dead", "--give-up", "--rule", "build"], 1, "deliveries"),
        (["pause"], 2, "RULE"),
        (["pause", "bild"], 1, 'did you mean "build"?'),
        (["resume", "bild"], 1, 'did you mean "build"?'),
    ):
        done = here.ask(*words)
        assert (done.returncode, done.stdout) == (status, ""), words
        assert hint in done.stderr, words
        assert "Traceback" not in done.stderr
    assert states(here) == ["dead"]


def test_what_runs_by_itself_is_left_as_it_is(here: Site) -> None:
    wait(here, 1, daemon_runs=False)
    (pending,) = here.rows("deliveries", "--state", "pending")

    done = here.ask("redeliver", pending["id"])

    assert done.returncode == 1
    assert done.stdout.endswith("left as it is\n")


def test_dead_letters_are_listed_with_the_reason(here: Site) -> None:
    assert here.ask("dead").returncode == 1  # there is no store yet
    fail(here, 2)

    done = here.ask("dead", "--limit", "1")

    head, line, more = done.stdout.splitlines()
    assert head.split()[:2] == ["delivery", "rule"]
    assert "exit status 65" in line
    assert more == "the newest 1; --limit shows more"
    assert done.returncode == 0
    assert here.ask("dead", "--rule", "other").stdout == "no dead letters\n"


@WAYS
def test_open_deliveries_are_given_up(here: Site, *, daemon_runs: bool) -> None:
    wait(here, 3, daemon_runs=daemon_runs)
    first, *_ = here.rows("deliveries", "--state", "pending")

    (row,) = here.rows("dead", "--give-up", first["id"], "--reason", "of yesterday")
    asked = here.ask("dead", "--give-up", "--rule", "build")
    rest = here.rows("dead", "--give-up", "--rule", "build", "--yes")

    assert (row["kind"], row["delivery"]) == ("given-up", first["id"])
    assert asked.returncode == 1
    assert "2 deliveries (build 2; pending 2) would be given up" in asked.stdout
    assert len(rest) == 2
    reasons = [one["reason"] for one in here.rows("dead") if "given up" in one["reason"]]
    assert reasons[0] == f"given up by {row['who']}: of yesterday"
    assert reasons[1:] == [f"given up by {row['who']}"] * 2
    assert here.rows("deliveries", "--state", "pending") == []


def test_very_many_are_told_in_one_line(here: Site) -> None:
    many = MAX_IDS + 50
    wait(here, many)

    asked = here.ask("dead", "--give-up", "--rule", "build")
    done = here.ask("dead", "--give-up", "--rule", "build", "-y")

    *listed, last = asked.stdout.splitlines()
    assert len(listed) == SHOWN
    assert last.startswith(f"and {many - SHOWN} older; {many} deliveries (build {many}; pending")
    assert (done.returncode, done.stdout) == (0, f"{many} deliveries: given up\n")
    assert {row["state"] for row in here.rows("deliveries", "-n", "1000")} == {"dead"}


@WAYS
def test_a_paused_rule_waits_until_it_is_resumed(here: Site, *, daemon_runs: bool) -> None:
    mend(here)
    repo = here.repo()
    daemon = here.start()
    if not daemon_runs:
        daemon.end()

    (row,) = here.rows("pause", "build", "--reason", "the machine is full")
    again = here.ask("pause", "build", "--reason", "other")
    daemon = daemon if daemon_runs else here.start()
    repo.commit(draft())
    repo.commit(draft("other"))

    # Then the other rule goes on, and this one does not
    (run,) = here.wait_runs(1)
    assert run["rule"] == "other"
    in_state(here, "pending", 2)
    assert (row["changed"], row["reason"]) == (True, "the machine is full")
    assert f"is paused already, by {row['who']} at {row['at']}: the machine is full" in again.stdout
    assert again.returncode == 0

    # When it is resumed, then it goes on
    if not daemon_runs:
        daemon.end()
    (row,) = here.rows("resume", "build")
    assert row["changed"]
    if not daemon_runs:
        here.start()
    here.wait_runs(3, SOON)
    again = here.ask("resume", "build")
    assert (again.returncode, again.stdout) == (0, "rule build: is not paused: nothing to do\n")


def test_what_shall_run_again_says_why_it_waits(here: Site) -> None:
    daemon = fail(here, 1)
    here.rows("pause", "build")
    said = daemon.wait_line("paused by an operator", "rule=build")
    assert "who=" in said
    assert " at=" not in said

    paused = here.ask("redeliver", "--rule", "build")
    here.rows("dead", "--give-up", "--rule", "build")
    here.configure(rules=[here.rule("other")])
    gone = here.ask("redeliver", "--rule", "build")

    assert "rule build is paused, by " in paused.stdout
    assert "rule build is not configured: its deliveries wait until it is again" in gone.stdout
    # And the pause of a rule that is gone can be taken back
    assert here.ask("resume", "build").returncode == 0
    daemon.wait_line("resumed by an operator", "rule=build")


@pytest.mark.parametrize(
    "words",
    [
        ["redeliver", "--rule", "build"],
        ["dead"],
        ["dead", "--give-up", "--rule", "build"],
        ["pause", "build"],
        ["resume", "build"],
        ["trace", "abcdef"],
        ["deliveries", "--follow"],
    ],
)
def test_a_store_that_cannot_be_used_is_named(here: Site, *, words: list[str]) -> None:
    missing = here.ask(*words)
    here.store.write_bytes(b"not a database, and long enough to be looked at" * 100)
    damaged = here.ask(*words)

    for done in (missing, damaged):
        assert done.returncode == 1
        assert str(here.store) in done.stderr
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
