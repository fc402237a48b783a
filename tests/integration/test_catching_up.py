"""A long catch-up of a real daemon whose verifying process, or itself, ends in the middle of it.

The journal has one event with a bad signature near its end. Whoever verifies, the subscriber stops
right before that one: what it stored was verified.
"""

import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import Daemon
from support.journals import Signer, write_journal
from support.site import Site, rule
from support.waiting import wait_for

EVENTS = 8000
BAD = 7500


class Liar(Signer):
    """Signs one event as if it were another."""

    signed = 0

    def sign(self, event: bytes) -> bytes:
        self.signed += 1
        return super().sign(event + b" " if self.signed == BAD else event)


@pytest.fixture
def here() -> Iterator[Site]:
    with Site.made() as site:
        write_journal(site, EVENTS, signer=Liar)
        nothing = rule("nothing", changes=["tags"])
        site.configure(rules=[nothing], start="earliest")
        yield site


def verifying(daemon: Daemon) -> int:
    """The pid of its verifying process, as soon as there is one."""
    return wait_for(daemon.children, "a verifying process")[0]


def ended(pid: int) -> bool:
    """Gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def stored(site: Site) -> list[int]:
    """The sequences in the store, each as often as it is there."""
    db = sqlite3.connect(f"file:{site.folder}/ci.db?mode=ro", uri=True)
    try:
        return [row[0] for row in db.execute("SELECT sequence FROM event ORDER BY number")]
    finally:
        db.close()


def assert_stopped_before_the_bad_one(site: Site, daemon: Daemon) -> None:
    daemon.wait_line("journal stopped", "kind=bad-signature", f"sequence={BAD}")
    assert stored(site) == list(range(1, BAD))


def test_a_verifying_process_that_is_killed_leaves_nothing_unverified(here: Site) -> None:
    daemon = here.subscriber()
    process = verifying(daemon)
    wait_for(lambda: stored(here), "the first batch")

    os.kill(process, signal.SIGKILL)

    assert_stopped_before_the_bad_one(here, daemon)
    assert daemon.lines("WARNING", "the process that verifies signatures is lost")
    assert daemon.terminate() == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_while_it_verifies_leaves_no_process_and_goes_on_later(
    here: Site, end: signal.Signals
) -> None:
    first = here.subscriber()
    process = verifying(first)
    os.kill(first.pid, end)
    assert first.process.wait(60) == (0 if end is signal.SIGTERM else -end)
    wait_for(lambda: ended(process), "the verifying process ends")
    before = stored(here)
    assert before == list(range(1, len(before) + 1))

    second = here.subscriber()

    assert_stopped_before_the_bad_one(here, second)
    assert second.terminate() == 0


def test_a_signal_to_the_whole_group_lets_a_daemon_end_in_order(here: Site) -> None:
    daemon = here.subscriber()
    verifying(daemon)

    os.killpg(daemon.pid, signal.SIGTERM)

    assert daemon.process.wait(60) == 0
    assert daemon.lines("stopped")
