"""Catching up: how fast a subscriber takes a long journal, beside bare Ed25519 verification.

    PYTHONPATH=tests python -m bench.catchup [--events N]

A journal of N events (one repository, 50 branches, about 700 bytes each) is written by the
journal's own writer; that is not measured. Then a real zmq-relay and a real zmq-subscriber (SQLite,
synchronous=FULL, the whole repository, one rule that matches nothing of it) carry it from the first
event to the last. In the same run, `ROUNDS` times, these processes are stopped by SIGSTOP, the one
that verifies too, and the bench verifies the signatures of the same events with the bare library:
with as many threads as the subscriber has verifying processes, and with one and two. Whatever else
the machine does hits all alike.

The rate of catching up is that of positions stored, by the clock, without the time that the
processes stood still. It ends with status 1 if the rate is under 70 % of bare verification on as
many threads, or if relay or subscriber ever had more than 200 MB in memory.
"""

import argparse
import os
import platform
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import nacl
import zmq
from nacl import bindings
from support.daemons import Daemon, peak_memory
from support.journals import BRANCHES, write_journal
from support.site import Site, rule
from support.waiting import wait_for

from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.wire import certificates, envelope
from subscriber.intake.verify import WORKERS

EVENTS = 1_000_000
ROUNDS = 10
SAMPLE = 4000
"""Events whose signatures one bare measurement verifies."""
LEAST_SHARE = 0.70
MOST_MEMORY = 200_000_000
STALL = 120.0
"""Seconds without a further position after which the bench gives up."""


@dataclass(frozen=True)
class Signed:
    """What bare verification is given: signature and signed bytes in one piece, and the key."""

    messages: Sequence[bytes]
    public: bytes
    size: float

    @classmethod
    def sample(cls, store: Path, count: int) -> "Signed":
        """The first events of a journal."""
        follower = Follower(store)
        follower.poll()
        journal = follower.journals()[0].journal
        stored = []
        while len(stored) < count:
            found = follower.read(journal, len(stored))
            if not found:
                break
            stored += found
        public = certificates.decode(stored[0].certificate).public
        size = sum(len(one.event) for one in stored) / len(stored)
        return cls([one.signature + envelope.pae(one.event) for one in stored], public, size)

    def rate(self, threads: int) -> float:
        """Verified per second by so many threads, each with its part of the events."""
        parts = [self.messages[number::threads] for number in range(threads)]
        workers = [threading.Thread(target=self._verify, args=(part,)) for part in parts]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return len(self.messages) / (time.perf_counter() - begin)

    def _verify(self, messages: Sequence[bytes]) -> None:
        verify, public = bindings.crypto_sign_open, self.public
        for message in messages:
            verify(message, public)


@dataclass
class Result:
    """Rates per second, `bare` by number of threads; bytes of memory at the most."""

    events: int
    size: float
    rates: list[float] = field(default_factory=list)
    bare: dict[int, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Of the whole way."""
        return self.events / self.seconds

    def bare_rate(self, threads: int) -> float:
        """Harmonic mean over the rounds: the rate at which all of them together were verified."""
        rates = self.bare[threads]
        return len(rates) / sum(1 / rate for rate in rates)

    def share(self, threads: int) -> float:
        """Of bare verification by so many threads."""
        return self.rate / self.bare_rate(threads)


class Positions:
    """What the store holds, asked beside the subscriber."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def stored(self) -> int:
        """Up to which sequence the one journal is stored."""
        row = self._db.execute("SELECT max(scanned) FROM journal").fetchone()
        return row[0] or 0

    def close(self) -> None:
        self._db.close()


def measure(site: Site, events: int, rounds: int = ROUNDS, sample: int = SAMPLE) -> Result:
    """Catch up once, with a bare measurement before each of `rounds` parts of the way."""
    store = write_journal(site, events)
    signed = Signed.sample(store, sample)
    result = Result(events, signed.size)
    site.configure_relay()
    nothing = rule("nothing", "hg:**:**:", changes=["tags"])
    site.configure(relays=[site.endpoint("subscribe")], rules=[nothing], start="earliest")
    relay, subscriber = site.relay(), site.subscriber()
    positions = Positions(site.folder / "ci.db")
    try:
        _catch_up(result, signed, [relay, subscriber], positions, rounds)
    finally:
        positions.close()
    result.memory = {"relay": relay.memory(), "subscriber": subscriber.memory()}
    for pid in subscriber.children():
        result.memory["verifying process"] = peak_memory(pid)
    return result


def _catch_up(
    result: Result, signed: Signed, both: list[Daemon], positions: Positions, rounds: int
) -> None:
    """The clock runs from the first position, and stands while the bare library is measured."""
    wait_for(positions.stored, "the first events")
    first = at = positions.stored()
    for number in range(1, rounds + 1):
        goal = first + (result.events - first) * number // rounds
        begin = time.perf_counter()
        reached = _wait_position(positions, goal)
        seconds = time.perf_counter() - begin
        for daemon in both:
            daemon.freeze(children=True)
        result.rates.append((reached - at) / seconds)
        result.seconds += seconds
        at = reached
        for threads in sorted({1, 2, WORKERS}):
            result.bare.setdefault(threads, []).append(signed.rate(threads))
        for daemon in both:
            daemon.thaw(children=True)
    result.events = at - first


def _wait_position(positions: Positions, goal: int) -> int:
    last, end = 0, time.monotonic() + STALL
    while (stored := positions.stored()) < goal:
        if stored > last:
            last, end = stored, time.monotonic() + STALL
        assert time.monotonic() < end, f"it stands at {stored}"
        threading.Event().wait(0.01)
    return stored


def table(result: Result) -> str:
    """Rates side by side, then memory."""
    versions = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()},"
        f" Python {platform.python_version()}, libsodium of PyNaCl {nacl.__version__},"
        f" pyzmq {zmq.__version__}, SQLite {sqlite3.sqlite_version}"
    )
    form = "{:<42}{:>10}{:>10}"
    what = (
        f"catching up {result.events} events of {result.size:.0f} bytes on {BRANCHES} branches,"
        f" {WORKERS} verifying process(es)"
    )
    rows = [
        what,
        versions,
        form.format("events per second", "rate", "share"),
        form.format("catch-up, verified and stored", f"{result.rate:.0f}", ""),
    ]
    for threads in sorted(result.bare):
        name = f"bare verification, {threads} thread(s)"
        share = f"{result.share(threads):.0%}"
        rows.append(form.format(name, f"{result.bare_rate(threads):.0f}", share))
    rows.append("each part of the way: " + " ".join(f"{rate:.0f}" for rate in result.rates))
    rows += [f"memory of the {name}: {size / 1e6:.0f} MB" for name, size in result.memory.items()]
    return "\n".join(rows)


def verdict(result: Result) -> tuple[bool, str]:
    """Whether it is fast and small enough, in a sentence."""
    share, most = result.share(WORKERS), max(result.memory.values())
    text = (
        f"{share:.0%} of bare verification by {WORKERS} thread(s), at least {LEAST_SHARE:.0%};"
        f" {most / 1e6:.0f} MB, under {MOST_MEMORY / 1e6:.0f} MB"
    )
    return share >= LEAST_SHARE and most < MOST_MEMORY, text


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast a subscriber catches up.")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    with Site.made() as site:
        result = measure(site, given.events)
    good, text = verdict(result)
    print(f"{table(result)}\n{text}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
