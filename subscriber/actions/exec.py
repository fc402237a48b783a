"""The action `exec`: runs a command of the operator for a delivery.

The command gets the exact event bytes on stdin, one line per part, and an environment that tells of
the delivery (environment.py). No shell is involved. What it prints is kept in the receipt, the last
64 KiB of it.

It runs in a session of its own under `guard.py`, which ends it at its time limit, before its lease
ends, and also when this process dies. What it leaves running in its process group ends with it.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .base import Cancel, Job, Verdict
from .environment import DEFAULT_PATH, environment
from .outcome import Outcome, judge
from .tail import Tail

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_GUARD = str(Path(__file__).with_name("guard.py"))
_CHUNK = 65536
_LAST_READS = 16
"""Pieces read after the end: more than a pipe holds. What it left running may write for ever."""
_LOST_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class Exec:
    """Runs `command` in `folder`; `lock` is the file that tells a new daemon what still runs.

    `setup`: what it starts with, as guard.py takes it. `passed`: names that it gets of our
    environment beside the usual ones. `given`: names and values that it gets of the operator.
    """

    command: tuple[str, ...]
    folder: str
    lock: str = ""
    grace: float = GRACE
    setup: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()

    def run(self, job: Job, cancel: Cancel) -> Verdict:
        """One attempt; see `subscriber.actions.base.Action`."""
        started = time.time()
        try:
            over = cancel.left <= 0
            outcome = Outcome(late=True) if over else _Attempt(self, job).run(cancel)
        except OSError as error:
            outcome = Outcome(lost=f"the runner could not be started: {error}")
        return judge(
            outcome,
            where=self.where,
            cancelled=cancel.reason,
            limit=job.timeout,
            started=started,
            ended=time.time(),
        )

    @property
    def where(self) -> str:
        """The command as an operator can find it."""
        name = self.command[0]
        return os.path.normpath(Path(self.folder, name)) if "/" in name else name


class _Attempt:
    """The daemon's side of one run: feeds stdin, drains output, listens to the runner."""

    def __init__(self, action: Exec, job: Job) -> None:
        self._action = action
        self._job = job
        self._outcome = Outcome()
        self._tail = Tail()
        self._reports = b""
        self._stack = contextlib.ExitStack()
        self._poller = select.poll()
        self._input = memoryview(b"".join(line + b"\n" for line in job.lines))

    def run(self, cancel: Cancel) -> Outcome:
        with self._stack:
            guard = self._start(cancel)
            try:
                self._talk(cancel)
            finally:
                self._control.close()
                self._see_off(guard)
        self._outcome.output, self._outcome.truncated = self._tail.result()
        return self._outcome

    def _start(self, cancel: Cancel) -> subprocess.Popen[bytes]:
        """Start the runner, connected by three descriptors of ours, and tell it what it needs."""
        self._control, theirs = socket.socketpair()
        self._stack.enter_context(self._control)
        read_input, self._stdin = os.pipe()
        self._stack.callback(self._close_input)
        self._output, write_output = os.pipe()
        self._stack.callback(os.close, self._output)
        action, job = self._action, self._job
        limit, grace, setup = str(job.timeout), str(action.grace), ",".join(action.setup)
        options = (str(theirs.fileno()), action.lock, limit, grace, setup)
        with theirs, os.fdopen(read_input, "rb") as stdin, os.fdopen(write_output, "wb") as stdout:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, *options, *action.command],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd=action.folder,
                env={"PATH": os.environ.get("PATH", DEFAULT_PATH)},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        values = environment(job, os.environ, action.passed, dict(action.given)).items()
        told = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in values)
        with contextlib.suppress(OSError):  # a runner that died is noticed below
            self._control.sendall(told + b"\0" + _deadline(cancel))
        return guard

    def _talk(self, cancel: Cancel) -> None:
        """Until the runner has reported the end, or was silent for too long after the limit."""
        outcome, poller = self._outcome, self._poller
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._output, False)
        poller.register(self._control, select.POLLIN)
        poller.register(self._output, select.POLLIN)
        poller.register(self._stdin, select.POLLOUT)
        poller.register(cancel, select.POLLIN)
        lost_at = time.monotonic() + self._job.timeout + 3 * self._action.grace + _LOST_AFTER
        while not outcome.complete and not outcome.lost:
            left = min(lost_at - time.monotonic(), cancel.left)
            for fd, _ in poller.poll(max(0.0, left) * 1000):
                if fd == self._output:
                    self._drain_once()
                elif fd == self._stdin:
                    self._feed()
                elif fd == cancel.fileno():
                    self._obey(cancel)
                else:
                    self._listen()
            if left <= 0 and not outcome.complete:
                outcome.lost = "the runner did not report in time"
                outcome.late = cancel.left <= 0
        for _ in range(_LAST_READS):
            if not self._drain_once():
                break

    def _obey(self, cancel: Cancel) -> None:
        """Pass on what is new: the end, or a later end of the lease."""
        cancel.hear()
        with contextlib.suppress(OSError):  # a runner that died is noticed where it is listened to
            if cancel.reason is None:
                self._control.sendall(_deadline(cancel))
            else:
                self._poller.unregister(cancel)
                self._control.shutdown(socket.SHUT_WR)

    def _feed(self) -> None:
        """Give the command what it takes; it need not read its input."""
        try:
            taken = os.write(self._stdin, self._input[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:
            self._input = memoryview(b"")
        else:
            self._input = self._input[taken:]
        if not self._input:
            self._poller.unregister(self._stdin)
            self._close_input()

    def _close_input(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _drain_once(self) -> bool:
        """Take one piece of output; False when there is none now or ever."""
        try:
            chunk = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            with contextlib.suppress(KeyError):
                self._poller.unregister(self._output)
            return False
        self._tail.add(chunk)
        return True

    def _listen(self) -> None:
        """Take the runner's reports; their early end means that somebody killed it."""
        try:
            chunk = self._control.recv(4096)
        except OSError:
            chunk = b""
        *lines, self._reports = (self._reports + chunk).split(b"\n")
        for line in lines:
            self._outcome.learn(line.decode())
        if not chunk and not self._outcome.complete:
            self._outcome.lost = "the runner was killed"

    def _see_off(self, guard: subprocess.Popen[bytes]) -> None:
        """Leave no process behind: neither the runner nor, when it was killed, its command."""
        if self._outcome.lost:
            guard.kill()
            if self._outcome.pid is not None:
                with contextlib.suppress(OSError):
                    os.killpg(self._outcome.pid, signal.SIGKILL)
        guard.wait()


def _deadline(cancel: Cancel) -> bytes:
    """The line that tells a runner how long the lease lasts; empty when nobody said."""
    return b"" if cancel.deadline is None else f"until {cancel.deadline!r}\n".encode()
