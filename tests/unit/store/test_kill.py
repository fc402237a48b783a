"""SIGKILL at any moment: what a method had answered is still there."""

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from subscriber.store.base import State, Wanted
from subscriber.store.sqlite import SqliteStore

TESTS = Path(__file__).parents[2]

WORKER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from storekit import DONE, batch, delivery, record
from subscriber.store.sqlite import SqliteStore

store = SqliteStore.open(Path(sys.argv[1]))
store.release_leases(time.time())
rows = store.journals()
position = rows[0].scanned if rows else None
while True:
    n = (position or 0) + 1
    store.accept(batch(n, position, records=[record(n)], deliveries=[delivery(n)]))
    print("accepted", n, flush=True)
    position = n
    for claim in store.claim("w", 60.0, 1, time.time()):
        print("claimed", claim.delivery.last, claim.fence, flush=True)
        assert store.finish(claim.delivery.id, claim.fence, DONE, time.time())
        print("finished", claim.delivery.last, flush=True)
"""


def live_and_die(path, lines):
    """The worker's answers until it had given `lines` of them and was killed."""
    command = [sys.executable, "-c", WORKER, str(path), str(TESTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as worker:
        out, end = b"", time.monotonic() + 60
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while out.count(b"\n") < lines:
                assert selector.select(end - time.monotonic()), "the worker answers nothing"
                out += os.read(worker.stdout.fileno(), 65536)
        worker.send_signal(signal.SIGKILL)
        out += worker.stdout.read()
    return [line.split() for line in out.decode().splitlines(keepends=False) if line]


def test_what_was_answered_survives(tmp_path):
    path = tmp_path / "ci.db"
    accepted, finished, fences = [], [], []
    for lines in (1, 2, 3, 50, 101):
        for word, *numbers in live_and_die(path, lines):
            if word == "accepted":
                accepted.append(int(numbers[0]))
            elif word == "claimed":
                fences.append(int(numbers[1]))
            else:
                finished.append(int(numbers[0]))

    with SqliteStore.open(path) as store:
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        items = store.deliveries(Wanted(), 1000)
        # Each accepted event has its one delivery, and nothing is there twice
        assert set(accepted) <= {item.last for item in items}
        assert [item.last for item in items] == list(range(1, len(items) + 1))
        # What was finished is done, in order, and was done once
        assert finished == sorted(set(finished))
        done = {item.last for item in items if item.state is State.DONE}
        assert set(finished) <= done
        assert fences == sorted(set(fences))
        for item in items:
            verdicts = [receipt.outcome.verdict for receipt in store.receipts(item.id)]
            assert verdicts.count("done") == (item.state is State.DONE)
