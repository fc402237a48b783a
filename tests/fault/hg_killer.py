"""SIGKILL of hg at lines spread over all that an operation executes; what it left must be whole.

    python hg_killer.py FOLDER POINTS SEED OPERATION...

Run it with the Python of the Mercurial under test, the checkout and its `tests` in PYTHONPATH. It
has imported everything before it forks, so a kill costs no start of hg. After each kill comes `hg
recover` where a transaction was left, what else hg asks for, and one further transaction.
Then must hold:

    `hg verify` and `hg events --verify` find nothing
    what was announced and not removed is what the repository serves
    every record is there once, sequences are dense, and each names the one before it
    what a follower had read before the kill, and right after it, is a prefix of what it reads then

Prints one JSON object per operation: the row of the table, and what was wrong.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fault import hg_oracle, killhg
from fault.hg_scenes import OPERATIONS, Scene
from mercurial import util

from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.format import JournalError

KILLED = -9
SETTLED = 3600.0
"""Seconds by which the follower's clock is ahead: it believes that every file has settled."""
AT_ONCE = {"commit", "push", "bookmark", "phase"}
"""Operations of one transaction, after which nothing may be left for the next one to tell."""


class Reader:
    """A follower that reads everything each time; `seen` is all that it was ever told."""

    def __init__(self, scene: Scene) -> None:
        self._follower = Follower(scene.store, clock=lambda: time.time() + SETTLED)
        self._before: dict[str, list[bytes]] = {}
        self._shrinks = scene.operation == "rollback"
        self.seen: list[bytes] = []
        self.problems: list[str] = []

    def look(self, when: str) -> None:
        """Read, and compare with the time before."""
        try:
            self._follower.poll()
            now = {info.journal: self._read(info.journal) for info in self._follower.journals()}
        except JournalError as problem:
            self.problems.append(f"{when}: a follower reads {problem!r}")
            return
        for journal, before in self._before.items():
            after = now.get(journal, [])
            common = min(len(before), len(after)) if self._shrinks else len(before)
            if before[:common] != after[:common]:
                self.problems.append(f"{when}: a follower had read what is not there any more")
        for journal, events in now.items():
            self.seen += events[len(self._before.get(journal, ())) :]
        self._before = now

    def _read(self, journal: str) -> list[bytes]:
        found: list[bytes] = []
        while more := self._follower.read(journal, len(found)):
            found += [stored.event for stored in more]
        return found


class State:
    """What `hg log` says of the repository, and whether `hg verify` is content with it."""

    def __init__(self, scene: Scene) -> None:
        self.verified, self.report = killhg.hg("-R", scene.target, "verify", "-q")
        shown = ["-r", "not (secret() or obsolete())", "-T", "{node} {phase} {bookmarks}\n"]
        status, self.text = killhg.hg("-R", scene.target, "log", "--hidden", *shown)
        self.served = {line.split()[0] for line in self.text.splitlines()} if not status else set()


def _mend_more(scene: Scene) -> None:
    """Where `hg recover` is not enough, which is so without the extension too (measured).

    A rollback that was cut short is called again, with -f because the working copy moved first. A
    working copy whose parent was stripped gets another, and an interrupted rebase is ended.
    """

    def hg(*command: str) -> None:
        killhg.hg("-R", scene.target, *command)

    if scene.operation == "rollback":
        hg("rollback", "-q", "-f")
    if (scene.target / ".hg/rebasestate").exists():
        hg("rebase", "-q", "--abort")
    if State(scene).verified:
        hg("debugrebuilddirstate", "-q", "-r", "tip")


def _events(scene: Scene) -> list[bytes]:
    return hg_oracle.raw_events((scene.store / "zmqhooks-events").read_bytes())


def mend(scene: Scene) -> dict[str, Any]:
    """What a user does after a crash, and how it is then: for `judged`."""
    problems: list[str] = []

    def must(*command: str) -> None:
        status, output = killhg.hg("-R", scene.target, *command)
        if status:
            problems.append(f"hg {' '.join(command)}: {status}: {output[-600:]}")

    if (scene.store / "journal").exists():
        must("recover", "-q")
    state = State(scene)
    mended = bool(state.verified)
    if mended:
        _mend_more(scene)
        state = State(scene)
    at_once = hg_oracle.Verdict([], [], [], [])
    if scene.operation in AT_ONCE:
        must("events", "--verify")
        at_once = hg_oracle.judge(_events(scene), state.served)
    head = json.loads((scene.store / "zmqhooks-head").read_bytes())
    if head["size"] > (scene.store / "zmqhooks-events").stat().st_size:
        problems.append("the head is ahead of the events")
    outcome = state.text
    must("bookmark", "-q", "-f", "-r", "0", "afterwards")
    must("events", "--verify")
    state = State(scene)
    if state.verified:
        problems.append(f"hg verify: {state.report[-600:]}")
    return {
        "problems": problems,
        "outcome": outcome,
        "mended": mended,
        "served": sorted(state.served),
        "at once": at_once,
    }


class Run:
    """All kills of one operation, and the row and the problems that they give."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._answer = scene.place.with_name("answer")
        scene.fresh()
        self._before = self._outcome()
        scene.fresh()
        status = scene.act(0)
        assert status == 0, f"{scene.operation}, not killed, ended with {status}"
        self.lines = int(scene.place.read_text())
        self._after = self._outcome()

    def _outcome(self) -> str:
        return str(self._asked()["outcome"])

    def _asked(self) -> dict[str, Any]:
        """`mend` in a child, so that this process stays as it is."""
        self._answer.unlink(missing_ok=True)
        status = killhg.forked(lambda: self._answer.write_text(json.dumps(mend(self.scene))))
        assert status == 0, f"looking at the repository ended with {status}"
        answer: dict[str, Any] = json.loads(self._answer.read_text())
        return answer

    def kill(self, line: int) -> None:
        """One kill, and all that is to be seen afterwards."""
        scene = self.scene
        scene.fresh()
        reader = Reader(scene)
        reader.look("before the kill")
        self.counts["points"] += 1
        self.counts["killed"] += scene.act(line) == KILLED
        reader.look("after the kill")
        answer = self._asked()
        reader.look("after the next transaction")
        self._count(answer)
        problems = [*answer["problems"], *reader.problems]
        problems += self._verdict(hg_oracle.Verdict(*answer["at once"]))
        problems += self._judged(reader, set(answer["served"]))
        where = scene.place.read_text()
        self.problems += [f"line {line}, {where}: {text}" for text in problems]

    def _count(self, answer: dict[str, Any]) -> None:
        ways = {self._before: "rolled back", self._after: "committed"}
        self.counts[ways.get(answer["outcome"], "between")] += 1
        self.counts["mended"] += answer["mended"]

    def _verdict(self, verdict: hg_oracle.Verdict) -> list[str]:
        for name in verdict._fields:
            self.counts[name] += len(getattr(verdict, name))
        return verdict.words()

    def _judged(self, reader: Reader, served: set[str]) -> list[str]:
        events = _events(self.scene)
        self.counts["events"] += len(events)
        problems = self._verdict(hg_oracle.judge(events, served))
        told = hg_oracle.live(reader.seen) ^ served
        return [*problems, *[f"a follower was not told right about {node}" for node in told]]

    def row(self) -> dict[str, object]:
        """For the table."""
        names = ("points", "killed", "rolled back", "between", "committed", "mended", "events")
        return {
            "operation": self.scene.operation,
            "mercurial": util.version().decode(),
            "lines": self.lines,
            **{name: self.counts[name] for name in names},
            "lost": self.counts["lost"],
            "doubled": self.counts["doubled"],
            "out of order": self.counts["disordered"],
            "phantom": self.counts["phantom"],
        }


def spread(lines: int, points: int, seed: int) -> list[int]:
    """So many different lines of 1 to `lines`, in equal distances from a seeded beginning."""
    distance = max(1.0, lines / points)
    start = random.Random(seed).random() * distance
    return [1 + int(start + number * distance) for number in range(min(points, lines))]


def main() -> None:
    folder, points, seed, *operations = sys.argv[1:]
    for operation in operations or OPERATIONS:
        place = Path(folder, operation)
        place.mkdir()
        started = time.monotonic()
        run = Run(Scene(place, operation))
        for line in spread(run.lines, int(points), int(seed)):
            run.kill(line)
        seconds = time.monotonic() - started
        answer = {"row": run.row(), "seconds": round(seconds, 1), "problems": run.problems}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    main()
