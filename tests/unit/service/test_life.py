import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from itertools import count

import pytest

from hgext_zmqhooks.service.life import (
    Bell,
    JsonFormatter,
    Life,
    Stop,
    TextFormatter,
    Throttle,
    fields,
    set_up_logging,
)


@pytest.fixture
def log():
    """A logger whose records are kept in `seen`, as (message, fields)."""
    logger = logging.getLogger("test-of-life")
    logger.seen = []

    def keep(record):
        logger.seen.append((record.getMessage(), record.fields))
        return False

    logger.addFilter(keep)
    yield logger
    logger.removeFilter(keep)


class TestStop:
    def test_wakes_waiters_and_polls(self):
        stop = Stop()
        assert not stop.wait(0)
        waiter = threading.Thread(target=stop.wait)
        waiter.start()
        stop.set()
        stop.set()
        waiter.join(10)
        assert not waiter.is_alive()
        assert stop.is_set()
        assert select.select([stop], [], [], 0)[0] == [stop]


class TestBell:
    def test_is_heard_once_however_often_it_was_rung(self):
        bell, stop = Bell(), Stop()
        assert not bell.wait(stop, 0)
        bell.ring()
        bell.ring()
        assert select.select([bell], [], [], 0)[0] == [bell]
        assert bell.wait(stop, 10)
        assert not bell.hush()

    def test_wakes_who_waits_in_another_thread(self):
        bell, heard = Bell(), []
        waiter = threading.Thread(target=lambda: heard.append(bell.wait(Stop(), 10)))
        waiter.start()
        bell.ring()
        waiter.join(10)
        assert heard == [True]

    def test_its_wait_ends_when_all_stops(self):
        stop = Stop()
        stop.set()
        assert not Bell().wait(stop, 10)


class TestLife:
    def test_threads_end_together(self):
        life = Life()
        ended = []
        for name in ("a", "b"):
            life.spawn(name, lambda stop, name=name: (stop.wait(), ended.append(name)))
        life.stop.set()
        assert life.join(10) == []
        assert sorted(ended) == ["a", "b"]
        assert not life.failed

    def test_a_thread_that_fails_stops_all(self):
        life = Life()
        life.spawn("good", lambda stop: stop.wait())
        life.spawn("bad", lambda _: 1 // 0)
        assert life.join(10) == []
        assert life.failed

    def test_join_names_who_is_late(self):
        life = Life()
        go = threading.Event()
        life.spawn("slow", lambda _: go.wait())
        assert life.join(0.01) == ["slow"]
        go.set()
        assert life.join(10) == []

    def test_a_process_allows_itself_what_it_may(self):
        text = (
            "import resource as r; from hgext_zmqhooks.service.life import raise_descriptors;"
            "r.setrlimit(r.RLIMIT_NOFILE, (100, 200));"
            "print(raise_descriptors(), *r.getrlimit(r.RLIMIT_NOFILE))"
        )
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        )
        assert done.stdout == "100 200 200\n"

    PROGRAM = """
import sys
from hgext_zmqhooks.service.life import Life, set_up_logging
set_up_logging("text")
life = Life()
life.catch_signals()
print("ready", flush=True)
life.wait()
print("finishing", flush=True)
if sys.argv[1] == "slow":
    sys.stdin.read()
"""

    def start(self, how):
        return subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_the_first_signal_finishes(self, number):
        with self.start("quick") as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "finishing\n")
        assert f"INFO life: stopping signal={number.name}" in err

    def test_a_hangup_rings_and_the_process_goes_on(self):
        # Given a process that prints a line whenever it is rung for
        program = self.PROGRAM.replace(
            "life.wait()",
            "def listen(stop):\n"
            "    while not stop.is_set():\n"
            "        if life.hangup.wait(stop, 10):\n"
            "            print('rung', flush=True)\n"
            "life.spawn('listen', listen)\n"
            "life.wait()",
        )
        command = [sys.executable, "-c", program, "quick"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            for _ in range(3):
                process.send_signal(signal.SIGHUP)
                assert process.stdout.readline() == "rung\n"
            # Then it still ends in order
            process.terminate()
            out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "finishing\n")

    def test_a_signal_that_reaches_another_thread_finishes(self):
        # So does one that comes when the main thread is about to wait, which is harder to time.
        program = self.PROGRAM.replace(
            "life.wait()",
            "import signal, threading\n"
            "def late(stop):\n"
            "    sys.stdin.readline()\n"
            "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
            "    stop.wait()\n"
            "life.spawn('late', late)\n"
            "life.wait()",
        )
        command = [sys.executable, "-c", program, "quick"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            try:
                out, _ = process.communicate("now\n", timeout=20)
            finally:
                process.kill()
        assert (process.returncode, out) == (0, "finishing\n")

    def test_the_second_signal_leaves(self):
        with self.start("slow") as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "finishing\n"
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
        assert process.returncode == -signal.SIGTERM


class TestLines:
    def record(self, **values):
        record = logging.LogRecord(
            "zmqhooks.relay", logging.WARNING, "f", 1, "live copy %s", ("refused",), None
        )
        record.created = 1795252020.25
        record.fields = values
        return record

    def test_text(self):
        line = TextFormatter().format(self.record(repo="team/app", sequence=3, absent=None))
        assert line == (
            "2026-11-21T09:07:00.250Z WARNING relay: live copy refused repo=team/app sequence=3"
        )

    def test_text_from_outside_stays_on_one_line_and_in_its_field(self):
        line = TextFormatter().format(self.record(branch="a b=c\n2026 ERROR relay: x\x1b[2J"))
        assert line.endswith(r'branch="a b=c\\n2026 ERROR relay: x\\x1b[2J"')
        assert line.isprintable()

    def test_json(self):
        line = JsonFormatter().format(self.record(repo="té", sequence=3))
        assert json.loads(line) == {
            "time": "2026-11-21T09:07:00.250Z",
            "level": "warning",
            "logger": "relay",
            "message": "live copy refused",
            "repo": "té",
            "sequence": 3,
        }

    def test_a_traceback_is_kept(self):
        record = self.record()
        try:
            int("inside")
        except ValueError:
            record.exc_info = sys.exc_info()
        assert "ValueError: invalid literal" in TextFormatter().format(record)
        assert (
            "ValueError: invalid literal" in json.loads(JsonFormatter().format(record))["exception"]
        )

    def test_set_up_writes_to_stderr_once(self, capsys):
        root = logging.getLogger("zmqhooks")
        before = (root.handlers[:], root.level, root.propagate)
        try:
            set_up_logging("text")
            set_up_logging("json")
            logging.getLogger("zmqhooks.x").info("hello", extra=fields(a=1))
            written = capsys.readouterr().err.splitlines()
        finally:
            root.handlers[:], root.level, root.propagate = before
        assert [json.loads(line)["message"] for line in written] == ["hello"]


class TestThrottle:
    def test_one_line_per_kind_and_second_with_the_number_held_back(self, log):
        now, seen = [100.0], log.seen
        throttle = Throttle(log, clock=lambda: now[0])
        for _ in range(1000):
            throttle.warning("bad", "refused", reason="r")
            throttle.warning("worse", "refused")
        assert [given["kind"] for _, given in seen] == ["bad", "worse"]
        assert throttle.holds
        now[0] += 1
        throttle.warning("bad", "refused", reason="r")
        throttle.tick()
        assert [(given["kind"], given["suppressed"]) for _, given in seen[2:]] == [
            ("bad", 999),
            ("worse", 999),
        ]
        now[0] += 1
        throttle.tick()
        assert len(seen) == 4
        assert not throttle.holds

    def test_kinds_that_are_over_are_forgotten(self, log):
        ticks = count()
        throttle = Throttle(log, clock=lambda: next(ticks))
        for number in range(100):
            throttle.warning(f"kind-{number}", "m")
            throttle.tick()
        assert len(throttle._last) <= 2


def test_nothing_is_left_open():
    stop = Stop()
    descriptor = stop.fileno()
    del stop
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
