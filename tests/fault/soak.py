"""Kill and stop everything at random while clients push and commit; then count.

    make soak SECONDS=3600 SEED=1        or: python -m fault.soak --seconds 3600 --seed 1

A seeded schedule sends SIGKILL and SIGSTOP (later SIGCONT) to hg processes (committing, pushing,
`hg serve --stdio` behind ssh, `hg serve` and its children), to the relay and to the subscribers of
soak_stage.py. What was killed is started again at once, as systemd would; `hg recover` is run where
a transaction was abandoned. At the end nothing is killed any more, everything has to become level,
and soak_ledger.py compares. Status 1 unless lost, doubled, out of order and phantom are 0.

Its bounds: clients wait while the subscribers are more than BEHIND events behind, and produce
nothing more above MAX_EVENTS or MAX_BYTES.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from fault import soak_ledger
from fault.soak_stage import SUBSCRIBERS, Process, Stage
from mercurial import __version__ as mercurial_version
from support import tables
from support.daemons import Daemon
from support.site import Site

from hgext_zmqhooks.journal.follow import Follower

TITLE = "Random SIGKILL and SIGSTOP"
BEHIND = 150
MAX_EVENTS = 60_000
MAX_BYTES = 2 << 30
LOOK_SECONDS = 0.1
MEASURE_SECONDS = 1.0
TELL_SECONDS = 60.0
LEVEL_SECONDS = 600.0
STOP_SECONDS = 60.0
LINES = 100
"""Of what a process said that did not end."""
SHORT_STOP = (0.05, 3.0)
LONG_STOP = (16.0, 22.0)
"""A session ends after 15 s of silence."""
BAD = ("lost", "doubled", "out of order", "phantom")


@dataclass(frozen=True)
class Plan:
    """`pause`: mean seconds between two faults; `pace`: between two steps of a client.

    `kills`: the share of the faults that kill, the others stop. `daemons`: the share that hits
    relay and subscribers, the others hit hg. `long_stops`: the share of stops that end sessions.
    `least`: it goes on for `more` seconds at most until so many were killed.
    """

    seconds: float
    seed: int
    pause: float = 0.8
    pace: float = 0.6
    kills: float = 0.75
    daemons: float = 0.15
    long_stops: float = 0.03
    least: int = 0
    more: float = 0.0


@dataclass(frozen=True)
class Outcome:
    row: dict[str, Any]
    problems: list[str]
    notes: list[str]

    @property
    def good(self) -> bool:
        return not self.problems and not any(self.row[name] for name in BAD)


class Schedule:
    """Who is hit when, by a seed."""

    def __init__(self, plan: Plan, stage: Stage) -> None:
        self._plan, self._stage = plan, stage
        self._random = random.Random(plan.seed)
        self._frozen: list[tuple[float, Process]] = []
        self._next = 0.0
        self.count: Counter[str] = Counter()

    def turn(self, now: float) -> float:
        """Do what is due; seconds until something is due again."""
        while now >= self._next:
            self._next = now + self._random.expovariate(1 / self._plan.pause)
            self._hit(now)
        for until, process in list(self._frozen):
            if now >= until:
                self._frozen.remove((until, process))
                process.send(signal.SIGCONT)
                process.close()
        return min([self._next, *(until for until, _ in self._frozen)]) - now

    def thaw_all(self) -> None:
        for _, process in self._frozen:
            process.send(signal.SIGCONT)
            process.close()
        self._frozen = []

    def _hit(self, now: float) -> None:
        rng, plan, stage = self._random, self._plan, self._stage
        at_daemon = rng.random() < plan.daemons
        kill = rng.random() < plan.kills
        length = rng.uniform(*(LONG_STOP if rng.random() < plan.long_stops else SHORT_STOP))
        found = list(stage.daemons() if at_daemon else stage.hg_processes())
        if not found:
            return
        chosen = rng.choice(found)
        for process in found:
            if process is not chosen:
                process.close()
        if kill:
            self._count("kill", chosen, sent=chosen.send(signal.SIGKILL))
            chosen.close()
        else:
            self._count("stop", chosen, sent=chosen.send(signal.SIGSTOP))
            self._frozen.append((now + length, chosen))

    def _count(self, what: str, process: Process, *, sent: bool) -> None:
        if sent:
            self.count[what] += 1
            self.count[f"{what} {process.kind}"] += 1


class Soak:
    """with Soak.made(plan) as soak: outcome = soak.run()."""

    def __init__(self, site: Site, plan: Plan) -> None:
        self.site, self.plan = site, plan
        self.stage = Stage(site, plan.seed, plan.pace)
        self.schedule = Schedule(plan, self.stage)
        self._wait = threading.Event()
        self._measured = 0.0
        self._told = 0.0
        self._begun = self._ended = time.monotonic()
        self._paused = False
        self._enough = False

    @classmethod
    @contextlib.contextmanager
    def made(cls, plan: Plan) -> Iterator["Soak"]:
        with Site.made() as site:
            soak = cls(site, plan)
            try:
                yield soak
            finally:
                soak.schedule.thaw_all()
                soak.stage.close()

    def run(self) -> Outcome:
        self.stage.begin()
        self._begun = time.monotonic()
        while (now := time.monotonic()) < (end := self._end()):
            due = self.schedule.turn(now)
            self.stage.keep_running()
            self._measure(now)
            self._wait.wait(max(0.0, min(due, LOOK_SECONDS, end - now)))
        self._ended = time.monotonic()
        self.schedule.thaw_all()
        problems = [*self._stop_clients(), *self._recover(), *self._level()]
        problems += self._stop_daemons()
        return self._outcome(problems)

    # While it goes on

    def _end(self) -> float:
        enough = self.schedule.count["kill"] >= self.plan.least
        return self._begun + self.plan.seconds + (0 if enough else self.plan.more)

    def _measure(self, now: float) -> None:
        """Let the clients wait while too much is on its way."""
        if now < self._measured + MEASURE_SECONDS:
            return
        self._measured = now
        events = sum(self._heads().values())
        behind = max(self._behind(name) for name in SUBSCRIBERS)
        self._enough = self._enough or events > MAX_EVENTS or self._bytes() > MAX_BYTES
        pause = self._enough or behind > (BEHIND // 2 if self._paused else BEHIND)
        if pause != self._paused:
            self._paused = pause
            file = self.site.folder / "run" / "pause"
            file.touch() if pause else file.unlink()
        if now >= self._told + TELL_SECONDS:
            self._told = now
            done = f"{now - self._begun:.0f} s: {events} events, {behind} behind"
            print(f"{done}, {dict(self.schedule.count)}", file=sys.stderr, flush=True)

    def _heads(self) -> dict[str, int]:
        """The newest sequence of each repository."""
        found = {}
        for one in self.stage.repositories:
            follower = Follower(one.store)
            follower.poll()
            found[one.name] = follower.head.sequence if follower.head else 0
        return found

    def _behind(self, subscriber: str) -> int:
        """Events not read, and deliveries not done."""
        heads = self._heads()
        wanted = sum(n for name, n in heads.items() if self._reads(subscriber, name))
        rows = self._sql(subscriber, "SELECT coalesce(sum(scanned), 0) FROM journal")
        still = self._sql(subscriber, "SELECT count(*) FROM delivery WHERE ended IS NULL")
        return wanted - rows + still if rows is not None and still is not None else wanted

    def _reads(self, subscriber: str, repository: str) -> bool:
        return subscriber == "second" or repository.startswith("team/")

    def _database(self, subscriber: str) -> Path:
        return self.site.folder / f"{SUBSCRIBERS[subscriber]}.db"

    def _sql(self, subscriber: str, query: str) -> int | None:
        """A number from a store; None while there is none."""
        with contextlib.suppress(sqlite3.OperationalError):
            db = sqlite3.connect(f"file:{self._database(subscriber)}?mode=ro", uri=True)
            try:
                return int(db.execute(query).fetchone()[0])
            finally:
                db.close()
        return None

    def _bytes(self) -> int:
        total = 0
        for folder, _, files in os.walk(self.site.folder):
            for name in files:
                with contextlib.suppress(OSError):
                    total += Path(folder, name).lstat().st_size
        return total

    # When it is over

    def _stop_clients(self) -> list[str]:
        (self.site.folder / "run" / "stop").touch()
        late = []
        for name, client in self.stage.clients.items():
            try:
                client.process.wait(180)
            except subprocess.TimeoutExpired:
                late.append(f"client {name} did not end; {self._where(client, children=True)}")
                late += [
                    f"meanwhile {self._where(service.daemon)}"
                    for service in self.stage.services
                    if service.kind == "hg" and service.running
                ]
        return late

    def _where(self, daemon: Daemon, *, children: bool = False) -> str:
        """End a process by SIGABRT, on which it writes where each of its threads stands."""
        for pid in daemon.children() if children else [daemon.pid]:
            os.kill(pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.process.wait(STOP_SECONDS)
        said = "\n".join(daemon.said().splitlines()[-LINES:])
        return f"{' '.join(daemon.command)} said last:\n{said}"

    def _recover(self) -> list[str]:
        found = []
        for one in self.stage.repositories:
            if (one.store / "journal").exists():
                one.hg("recover", status=None)
            for command in (("verify", "--quiet"), ("events", "--verify")):
                ran = one.hg(*command, status=None)
                if ran.status:
                    found.append(f"{one.name}: hg {command[0]}: {ran.out}{ran.err}"[:3000])
        return found

    def _level(self) -> list[str]:
        """Wait until both subscribers have done everything; then what is missing, if anything."""
        end = time.monotonic() + LEVEL_SECONDS
        while any(self._behind(name) for name in SUBSCRIBERS):
            if time.monotonic() > end:
                return [
                    f"{name} is still {self._behind(name)} behind after {LEVEL_SECONDS:g} s"
                    for name in SUBSCRIBERS
                ]
            self.stage.keep_running()
            self._wait.wait(LOOK_SECONDS)
        return []

    def _stop_daemons(self) -> list[str]:
        found = []
        for service in self.stage.services:
            daemon = service.daemon
            daemon.process.terminate()
            try:
                status = daemon.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                found.append(f"did not end in {STOP_SECONDS:g} s; {self._where(daemon)}")
                continue
            if service.kind != "hg" and status:
                found.append(f"{daemon.command} ended with {status} when told to stop")
        return found

    def _outcome(self, problems: list[str]) -> Outcome:
        verdict = soak_ledger.Verdict(problems)
        changelog = self._changelog()
        for name in SUBSCRIBERS:
            mine = {lane: nodes for lane, nodes in changelog.items() if self._reads(name, lane[0])}
            record = self.site.folder / "out" / name
            soak_ledger.judge(name, self._database(name), record, mine, verdict)
        count, log = self.schedule.count, self._client_log()
        row = {
            "seconds": round(self._ended - self._begun),
            "seed": self.plan.seed,
            "hg": os.fsdecode(mercurial_version.version),
            "python": ".".join(map(str, sys.version_info[:3])),
            "libzmq": zmq.zmq_version(),
            "sqlite": sqlite3.sqlite_version,
            "pushes": log["push"],
            "transactions": self._sql(
                "second", 'SELECT count(DISTINCT repo || "transaction") FROM event'
            ),
            "events": sum(self._heads().values()),
            "changesets": sum(map(len, changelog.values())),
            "killed hg": count["kill hg"],
            "relay": count["kill relay"],
            "subscriber": count["kill subscriber"],
            "kills": count["kill"],
            "stops": count["stop"],
            "recovers": log["recover"],
            **{name: verdict.count[name] for name in (*BAD[:2], "repeated", *BAD[2:])},
        }
        return Outcome(row, verdict.problems, self._notes(log))

    def _changelog(self) -> dict[soak_ledger.Lane, list[str]]:
        found: dict[soak_ledger.Lane, list[str]] = {}
        for one in self.stage.repositories:
            ran = one.hg("log", "-r", "all()", "--template", "{branch} {node}\n", plain=True)
            for line in ran.out.splitlines():
                branch, node = line.split()
                found.setdefault((one.name, branch), []).append(node)
        return found

    def _client_log(self) -> Counter[str]:
        """How often each command of the clients ended well; "NAME failed": otherwise."""
        found: Counter[str] = Counter()
        for file in (self.site.folder / "log").glob("hg.*"):
            for line in file.read_text().splitlines():
                what, status, *_ = line.split(" ", 2)
                found[what if status == "0" else f"{what} failed"] += 1
        return found

    def _notes(self, log: Counter[str]) -> list[str]:
        """What is no verdict, but worth a look."""
        found = [f"clients: {dict(log)}", f"signals: {dict(self.schedule.count)}"]
        found += [
            f"a {kind} ended with {status}: {times} times"
            for (kind, status), times in self.stage.ended.items()
        ]
        for file in sorted((self.site.folder / "log").glob("hg.*")):
            news = [line for line in file.read_text().splitlines() if line.count(" ") > 1]
            found += [f"{file.name}: {line}" for line in news[:5]]
        for file in sorted((self.site.folder / "log").glob("*.log")):
            lines = file.read_text(errors="replace").splitlines()
            found += [f"{file.name}: {line}" for line in lines if " ERROR " in line][:5]
            raised = Counter(tracebacks(lines))
            found += [f"{file.name}: {times} times {what}" for what, times in raised.items()][:5]
        return found


def tracebacks(lines: list[str]) -> Iterator[str]:
    """The last line of each traceback.

    >>> list(tracebacks(["Traceback (most recent call last):", "  File x", "OSError: y", "z"]))
    ['OSError: y']
    """
    inside = False
    for line in lines:
        if inside and not line.startswith(" "):
            yield line
            inside = False
        inside = inside or line.endswith("Traceback (most recent call last):")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=Plan.pause, help="seconds between faults")
    parser.add_argument("--pace", type=float, default=Plan.pace, help="seconds between steps")
    parser.add_argument("--keep", type=Path, help="where the folder goes when something is wrong")
    given = parser.parse_args()
    plan = Plan(given.seconds, given.seed, pause=given.pause, pace=given.pace)
    outcome = None
    with Soak.made(plan) as soak:
        try:
            outcome = soak.run()
        finally:
            if given.keep and not (outcome and outcome.good):
                shutil.copytree(soak.site.folder, given.keep, ignore=shutil.ignore_patterns("run"))
    print(*outcome.notes, sep="\n")
    print(*outcome.problems[:50], sep="\n")
    print(TITLE, *tables.lines([outcome.row]), sep="\n")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
