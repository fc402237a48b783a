"""SIGKILL of the subscriber at every Python line of ours in a window; a restart must mend all.

    python line_killer.py intake|engine FOLDER [--step N] [--offset N]

    intake   from the receipt of a message to its ack: `_Dialogue._listen` and all it calls; a batch
             this small is verified by that thread itself, so that these lines are among them
    engine   from the claim to the receipt: `Dispatcher._round`, `_run_one`, and all they call

Every run is a forked child of this process, which has imported everything and started no thread. A
first run counts: which lines are executed in the window, how often. Then each line is a kill point
twice, at its first and at its last execution. The child runs the real daemon with the relay inside,
on a journal of five events on two branches, one of them in two parts; a tracer kills it. A second
child runs the daemon again until all is done. Then must hold:

    every event is stored, once, and its action ran to the end
    each delivery has exactly one receipt "done"
    per branch the actions ran in the order of the events (the one that was cut off again)
    a repeated run of a delivery has a higher fence
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import relaykit
import subscriberkit

import hgext_zmqhooks
import subscriber
from hgext_zmqhooks.service.life import Life, set_up_logging
from hgext_zmqhooks.wire.events import encode_item
from hgext_zmqhooks.wire.values import Move
from subscriber.daemon import Daemon
from subscriber.engine.dispatch import Dispatcher
from subscriber.intake import client
from subscriber.settings import load_settings
from subscriber.store.values import State

EVENTS = 5
DELIVERIES = 4
DEADLINE = 30.0

ROOTS = tuple(
    str(Path(package.__file__ or "").parent / room)
    for package, room in ((subscriber, ""), (hgext_zmqhooks, "wire"), (hgext_zmqhooks, "service"))
)
WINDOWS: dict[str, frozenset[CodeType]] = {
    "intake": frozenset({client._Dialogue._listen.__code__}),
    "engine": frozenset({Dispatcher._round.__code__, Dispatcher._run_one.__code__}),
}
SCRIPT = """#!/bin/sh
echo "$ZMQHOOKS_EVENT_ID $ZMQHOOKS_BRANCH $ZMQHOOKS_DELIVERY_ID $ZMQHOOKS_FENCE" >> runs
"""

Point = tuple[str, int]
"""File and line."""


class Tracer:
    """Sees each line of ours in the window; `hit` is called with its place and its count so far."""

    def __init__(self, window: str, hit: Callable[[Point, int], None]) -> None:
        self._entries = WINDOWS[window]
        self._hit = hit
        self._lock = threading.Lock()
        self._local = threading.local()
        self.count: Counter[Point] = Counter()

    def arm(self) -> None:
        threading.settrace(self._call)

    def _call(self, frame: FrameType, event: str, arg: object):
        del event, arg
        if frame.f_code in self._entries:
            self._local.depth = getattr(self._local, "depth", 0) + 1
            return self._entry
        if getattr(self._local, "depth", 0) and frame.f_code.co_filename.startswith(ROOTS):
            return self._line
        return None

    def _entry(self, frame: FrameType, event: str, arg: object):
        if event == "return":
            self._local.depth -= 1
        self._line(frame, event, arg)
        return self._entry

    def _line(self, frame: FrameType, event: str, arg: object):
        del arg
        if event == "line":
            point = (frame.f_code.co_filename, frame.f_lineno)
            with self._lock:
                self.count[point] += 1
                count = self.count[point]
            self._hit(point, count)
        return self._line


class Scene:
    """A folder with keys, a configuration and a journal; everything else is made new per run."""

    def __init__(self, folder: Path) -> None:
        self.site = subscriberkit.Site(folder)
        self.folder = folder
        self.site.script("run.sh", SCRIPT)
        self.site.configure(rules=[self.site.rule(exec=["./run.sh"])])
        repo = self.site.repo()
        subscriberkit.burst(repo, 3)
        large = [encode_item(Move(f"{n:0500d}", None, "0" * 40)) for n in range(600)]
        repo.commit(relaykit.draft("default", bookmarks=large))

    def fresh(self) -> None:
        for path in self.folder.iterdir():
            if path.name.startswith(("ci.db", "runs", "log")):
                path.unlink()

    def child(self, prepare: Callable[[], Callable[[], None]]) -> int:
        """Fork, run the daemon until all is done, return the wait status."""
        pid = os.fork()
        if pid == 0:
            try:
                os.chdir(self.folder)
                with Path("log").open("ab") as log:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                finish = prepare()
                status = self._daemon()
                finish()
            except BaseException:  # noqa: BLE001 - a forked child must never return from here
                traceback.print_exc()
                status = 99
            os._exit(status)
        return self._wait(pid)

    def _wait(self, pid: int) -> int:
        end = time.monotonic() + 2 * DEADLINE
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _daemon(self) -> int:
        set_up_logging()
        life = Life()
        daemon = Daemon(load_settings(self.site.config), life)
        daemon.start()
        end = time.monotonic() + DEADLINE
        while not self._done(daemon) and not life.failed and time.monotonic() < end:
            time.sleep(0.005)
        life.stop.set()
        status = daemon.wait()
        done = self._done(daemon)
        daemon.close()
        return status if done else 98

    def _done(self, daemon: Daemon) -> bool:
        assert daemon._store is not None
        return daemon._store.status().deliveries[State.DONE] == DELIVERIES

    # What must hold

    def problems(self) -> list[str]:
        return [*self._store_problems(), *self._run_problems()]

    def _sql(self, query: str) -> list[tuple]:
        db = sqlite3.connect(f"file:{self.folder}/ci.db?mode=ro", uri=True)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()

    def _store_problems(self) -> list[str]:
        from subscriber.store.base import Wanted
        from subscriber.store.sqlite_reader import SqliteReader

        found = []
        with SqliteReader.open(self.folder / "ci.db") as store:
            sequences = [each.record.sequence for each in store.events(0, 100)]
            if sequences != list(range(1, EVENTS + 1)):
                found.append(f"stored {sequences}")
            items = store.deliveries(Wanted(), 100)
            if len(items) != DELIVERIES:
                found.append(f"{len(items)} deliveries")
            for item in items:
                words = [receipt.outcome.verdict for receipt in store.receipts(item.id)]
                if item.state is not State.DONE or words.count("done") != 1:
                    found.append(f"{item.branch} {item.event_id}: {item.state}, receipts {words}")
                if set(words) - {"done", "lost"}:
                    found.append(f"{item.branch}: receipts {words}")
            (row,) = store.journals()
            if row.scanned != EVENTS or row.stopped:
                found.append(f"journal at {row.scanned}, stopped {row.stopped}")
        return found

    def _run_problems(self) -> list[str]:
        found = []
        path = self.folder / "runs"
        lines = path.read_text().splitlines() if path.exists() else []
        runs = [line.split(" ") for line in lines]
        if len({run[2] for run in runs}) != DELIVERIES:
            found.append(f"ran {runs}")
        for branch in ("default", "stable"):
            order = [int(run[0].rpartition("/")[2]) for run in runs if run[1] == branch]
            fences = [int(run[3]) for run in runs if run[1] == branch]
            if order != sorted(order) or fences != sorted(set(fences)):
                found.append(f"{branch}: order {order}, fences {fences}")
        return found


def counted(scene: Scene, window: str) -> Counter[Point]:
    """One run that is not killed: which lines there are."""
    scene.fresh()
    where = scene.folder / "runs.count"

    def prepare() -> Callable[[], None]:
        tracer = Tracer(window, lambda _point, _count: None)
        tracer.arm()
        return lambda: where.write_text(json.dumps([[*key, n] for key, n in tracer.count.items()]))  # type: ignore[func-returns-value]

    status = scene.child(prepare)
    assert status == 0, (scene.folder / "log").read_text()
    assert not scene.problems(), scene.problems()
    return Counter({(file, line): n for file, line, n in json.loads(where.read_text())})


def killed(scene: Scene, window: str, point: Point, count: int) -> tuple[bool, list[str]]:
    """Kill at this execution of this line, restart, look; (whether it was met, problems)."""
    scene.fresh()

    def prepare() -> Callable[[], None]:
        def hit(here: Point, times: int) -> None:
            if here == point and times == count:
                os.kill(os.getpid(), signal.SIGKILL)

        Tracer(window, hit).arm()
        return lambda: None

    status = scene.child(prepare)
    met = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not met and status:
        return met, [f"the first run ended with {status}"]
    again = scene.child(lambda: lambda: None)
    problems = scene.problems()
    if again:
        problems.append(f"the restart ended with {again}")
    return met, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("window", choices=WINDOWS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    given = parser.parse_args()
    scene = Scene(given.folder)
    lines = counted(scene, given.window)
    points = [(key, n) for key, times in lines.items() for n in sorted({1, times})]
    begin, met, bad = time.monotonic(), 0, []
    chosen = points[given.offset :: given.step]
    for (file, line), count in chosen:
        hit, problems = killed(scene, given.window, (file, line), count)
        met += hit
        place = f"{Path(file).parent.name}/{Path(file).name}:{line} ({count})"
        bad += [f"{place}: {problem}" for problem in problems]
        if problems:
            print("BAD", place, problems, (scene.folder / "log").read_text()[-2000:], flush=True)
    print(
        f"{given.window}: {len(lines)} lines, {len(points)} kill points, {len(chosen)} tried,"
        f" {met} killed, {len(bad)} bad, {time.monotonic() - begin:.0f} s"
    )
    return 1 if bad or met < 0.9 * len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
