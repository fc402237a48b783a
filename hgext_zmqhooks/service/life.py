"""The life of a daemon: signals, threads that end, and log lines.

The first SIGTERM or SIGINT asks everything to finish; the second ends the process at once. SIGHUP
rings a `Bell`, for who reads files again. Every loop waits on a `Stop`, which is both an event and
something a poll can wait for.

A log line is one happening, with fields that a person searches for:

    2026-11-21T09:15:02.123Z INFO relay: session began subscriber=ci journals=12
    {"time":"2026-11-21T09:15:02.123Z","level":"info","logger":"relay","message":"session began",…}
"""

import contextlib
import json
import logging
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Literal

LogFormat = Literal["text", "json"]
ROOT = "zmqhooks"
"""Parent of all our loggers; its name is left out of the lines."""


class Stop:
    """A flag with a file descriptor that is readable from the moment it is set.

    Not a threading.Event: that one takes a lock, and a signal handler that sets it can meet the
    lock held by the very thread it interrupted.
    """

    def __init__(self) -> None:
        self._flag = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self) -> None:
        """Wake all who wait, in `wait` or in a poll. Safe in a signal handler."""
        if not self._flag:
            self._flag = True
            os.write(self._write, b"s")

    def is_set(self) -> bool:
        """Whether it is time to finish."""
        return self._flag

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, at most `seconds`; whether it is."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)
        return self._flag

    def fileno(self) -> int:
        """What a poller registers for POLLIN; nobody reads from it."""
        return self._read

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Bell:
    """Wakes a loop, again and again, where a `Stop` does it once and for good.

    bell.ring()                           # from any thread, or in a signal handler
    poller.register(bell.fileno(), POLLIN); … bell.hush()
    """

    def __init__(self) -> None:
        self._file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """Wake who waits; rung twice before it is heard, it is heard once."""
        os.eventfd_write(self._file, 1)

    def hush(self) -> bool:
        """Whether it was rung since the last time."""
        try:
            return os.eventfd_read(self._file) > 0
        except BlockingIOError:
            return False

    def wait(self, stop: Stop, seconds: float) -> bool:
        """Wait until it is rung, or `stop` is set, at most `seconds`; whether it was rung."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(stop.fileno(), select.POLLIN)
        poll.poll(seconds * 1000)
        return self.hush()

    def fileno(self) -> int:
        """What a poller registers for POLLIN."""
        return self._file

    def __del__(self) -> None:
        os.close(self._file)


class _Awake:
    """Makes every signal that has a handler wake the main thread, and nobody else.

    A handler runs between two steps of the main thread. A signal that comes when that thread is
    about to wait, but does not wait yet, would be handled only after the wait, that is never; the
    byte that Python's own C handler writes here ends the wait.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def wait(self, stop: Stop) -> None:
        """Until a signal came or `stop` is set."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.register(stop.fileno(), select.POLLIN)
        poll.poll()
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def __del__(self) -> None:
        signal.set_wakeup_fd(-1)  # else the next signal's byte goes to who gets the number next
        os.close(self._read)
        os.close(self._write)


def raise_descriptors() -> int:
    """Allow this process as many open files as it may allow itself; returns the former limit.

    libzmq ends the process when it cannot accept a connection on ipc for want of a descriptor.
    Commands that are started get the former limit: one that uses select(2) needs small numbers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


class Life:
    """Signals and threads of one process.

    life = Life()
    life.catch_signals()
    life.spawn("relay", relay.run)      # called with life.stop
    life.wait()
    late = life.join(10)
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self.hangup = Bell()
        """Rung by SIGHUP."""
        self.failed = False
        """Whether a thread ended by an exception; the process must not end with status 0 then."""
        self._threads: list[threading.Thread] = []
        self._signal: int | None = None
        self._awake: _Awake | None = None
        self._log = logging.getLogger(f"{ROOT}.life")

    def catch_signals(self) -> None:
        """First SIGTERM or SIGINT: finish. Second: the default action, which leaves at once.

        In the main thread only, as `wait` after it.
        """
        self._awake = _Awake()
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.hangup.ring())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Only what is safe in the middle of anything: no log line here.
        del frame
        for other in (signal.SIGTERM, signal.SIGINT):
            signal.signal(other, signal.SIG_DFL)
        self._signal = number
        self.stop.set()

    def wait(self) -> None:
        """Wait until something asks to stop, and say what it was."""
        while self._awake is not None and not self.stop.is_set():
            self._awake.wait(self.stop)
        self.stop.wait()
        cause = "none" if self._signal is None else signal.Signals(self._signal).name
        self._log.info("stopping", extra=fields(signal=cause))

    def spawn(self, name: str, target: Callable[[Stop], None]) -> threading.Thread:
        """A thread that runs `target(stop)`. If it raises, everything is asked to stop."""
        thread = threading.Thread(target=self._run, args=(name, target), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _run(self, name: str, target: Callable[[Stop], None]) -> None:
        try:
            target(self.stop)
        except Exception:  # noqa: BLE001 - whatever it is, the other parts must stop in order
            self.failed = True
            self._log.exception("a part failed; stopping all", extra=fields(part=name))
            self.stop.set()

    def join(self, seconds: float) -> list[str]:
        """Wait for all threads, `seconds` in total; the names of those that still run."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]


def fields(**values: object) -> dict[str, object]:
    """What `extra=` of a log call takes: fields such as repo, branch, sequence, delivery."""
    return {"fields": values}


def set_up_logging(form: LogFormat = "text", level: int = logging.INFO) -> None:
    """One handler on stderr for all our loggers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message key=value…`; whatever a peer sent cannot start a new line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        pairs = "".join(f" {key}={_plain(value)}" for key, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {_logger(record)}: "
        line += _one_line(record.getMessage()) + pairs
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is in the key `exception`."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": _logger(record),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given: dict[str, object] = getattr(record, "fields", {})
    return {key: value for key, value in given.items() if value is not None}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _logger(record: logging.LogRecord) -> str:
    return record.name.removeprefix(ROOT + ".")


def _plain(value: object) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Throttle:
    """Lines about what others did wrong: at most one per kind and period, with a count.

    `tick` writes what was held back once the period is over; call it now and then.
    """

    def __init__(
        self,
        log: logging.Logger,
        *,
        period: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._period = period
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def warning(self, kind: str, message: str, **values: object) -> None:
        """Write the line, or count it if one of this kind was written just now."""
        now = self._clock()
        with self._lock:
            if now - self._last.get(kind, -self._period) < self._period:
                self._held[kind] = self._held.get(kind, 0) + 1
                return
            self._last[kind] = now
            held = self._held.pop(kind, None)
        self._log.warning(message, extra=fields(kind=kind, suppressed=held, **values))

    @property
    def holds(self) -> bool:
        """Whether `tick` has something to write, now or soon."""
        return bool(self._held)

    def tick(self) -> None:
        """Write the counts whose period is over, and forget kinds that are quiet."""
        now = self._clock()
        with self._lock:
            over = [kind for kind, last in self._last.items() if now - last >= self._period]
            due = {kind: self._held.pop(kind) for kind in over if kind in self._held}
            for kind in over:
                del self._last[kind]
            self._last.update(dict.fromkeys(due, now))
        for kind, held in due.items():
            self._log.warning("more of the same", extra=fields(kind=kind, suppressed=held))
