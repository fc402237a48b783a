"""The action `exec`: runs a command of the operator for a delivery.

The command gets the exact event bytes on stdin, one line per part, and in its environment the
names below (all set, empty when unknown; TRACEPARENT only when known) beside a few inherited ones.
No shell is involved. What it prints is kept in the receipt, the last 64 KiB of it.

    ZMQHOOKS_EVENT_ID      journal/sequence of the event, of its last part if it has several
    ZMQHOOKS_DELIVERY_ID   the idempotency key: the same in every attempt
    ZMQHOOKS_FENCE         a number that grows with every attempt
    ZMQHOOKS_ATTEMPT       1, 2, …
    ZMQHOOKS_RULE, ZMQHOOKS_TOPIC, ZMQHOOKS_REPO, ZMQHOOKS_BRANCH
    ZMQHOOKS_NODE          the changeset concerned, else the branch's new tip
    ZMQHOOKS_USER          who pushed
    TRACEPARENT            W3C trace context

It runs in a session of its own under `guard.py`, which ends it at its time limit, and also when
this process dies. What it leaves running in its process group ends with it.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subscriber.actions.base import OUTPUT_LIMIT, Cancel, Job, Kind, Verdict

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_GUARD = str(Path(__file__).with_name("guard.py"))
_INHERITED = frozenset(("PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"))
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_VALUE_LIMIT = 4096
_CHUNK = 65536
_LAST_READS = 16
"""Pieces read after the end: more than a pipe holds. What it left running may write for ever."""
_LOST_AFTER = 30.0
_EX_DATAERR = 65
_EX_TEMPFAIL = 75
_SHORT_OF_RESOURCES = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))


@dataclass(frozen=True, slots=True)
class Exec:
    """Runs `command` in `folder`; `lock` is the file that tells a new daemon what still runs.

    `descriptors`: the soft limit of open files that the command gets, None for ours.
    """

    command: tuple[str, ...]
    folder: str
    lock: str = ""
    grace: float = GRACE
    descriptors: int | None = None

    def run(self, job: Job, cancel: Cancel) -> Verdict:
        """One attempt; see `subscriber.actions.base.Action`."""
        started = time.time()
        try:
            outcome = _Attempt(self, job).run(cancel)
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


@dataclass(slots=True)
class Outcome:
    """What was seen of one attempt; `report` lines as in guard.py, `lost` when they broke off."""

    exit_status: int | None = None
    signal: int | None = None
    failed: int | None = None
    expired: bool = False
    stopped: bool = False
    locked: bool = False
    pid: int | None = None
    lost: str = ""
    output: bytes = b""
    truncated: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        known = (self.exit_status, self.signal, self.failed)
        return self.locked or any(each is not None for each in known)

    def learn(self, line: str) -> None:
        """Take one line of the runner's report."""
        word, _, number = line.partition(" ")
        match word:
            case "exit":
                self.exit_status = int(number)
            case "signal":
                self.signal = int(number)
            case "failed":
                self.failed = int(number)
            case "started":
                self.pid = int(number)
            case "expired":
                self.expired = True
            case "stopped":
                self.stopped = True
            case "locked":
                self.locked = True


def judge(
    outcome: Outcome,
    *,
    where: str,
    cancelled: str | None,
    limit: float,
    started: float,
    ended: float,
) -> Verdict:
    """What an attempt means for its delivery (pure).

    Exit 0 is done, 65 dead at once, 75 a wish for another try; everything else is a failure. Being
    stopped by us is neither: it does not count.
    """
    kind, reason, patient, interrupted = Kind.RETRY, "", False, False
    if outcome.expired:
        reason = f"the time limit of {limit:g} s was reached; {_end(outcome)}"
    elif outcome.stopped:
        reason, interrupted = f"stopped: {cancelled or 'the daemon ends'}", True
    elif outcome.locked:
        reason, interrupted = "another daemon has taken over", True
    elif outcome.failed is not None:
        reason = f"cannot start {where}: {_why(outcome.failed)}"
        interrupted = outcome.failed in _SHORT_OF_RESOURCES
    elif outcome.lost:
        reason, interrupted = outcome.lost, True
    else:
        reason = _end(outcome)
        patient = outcome.exit_status == _EX_TEMPFAIL
        if outcome.exit_status == 0:
            kind = Kind.DONE
        elif outcome.exit_status == _EX_DATAERR:
            kind = Kind.DEAD
    return Verdict(
        kind=kind,
        reason=reason,
        started=started,
        ended=ended,
        exit_status=outcome.exit_status,
        signal=outcome.signal,
        output=outcome.output,
        truncated=outcome.truncated,
        patient=patient,
        interrupted=interrupted,
    )


def _end(outcome: Outcome) -> str:
    if outcome.signal is not None:
        try:
            name = signal.Signals(outcome.signal).name
        except ValueError:  # a real-time signal has no name
            name = str(outcome.signal)
        return f"ended by signal {name}"
    if outcome.exit_status is not None:
        return f"exit status {outcome.exit_status}"
    return outcome.lost or "its end was not seen"


def _why(number: int) -> str:
    hints = {
        errno.ENOENT: "it, or the interpreter in its first line, does not exist",
        errno.EACCES: "it is not executable (chmod +x)",
        errno.ENOEXEC: "it is no program, and has no #! line",
    }
    hint = hints.get(number)
    return f"{os.strerror(number)}" + (f" ({hint})" if hint else "")


def environment(job: Job, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the command sees. Values from the event are data: no NUL, bounded in length."""
    kept = {
        name: value
        for name, value in inherited.items()
        if name in _INHERITED or name.startswith("LC_")
    }
    kept.setdefault("PATH", _DEFAULT_PATH)
    said = {
        "EVENT_ID": job.event_id,
        "DELIVERY_ID": job.delivery_id,
        "FENCE": str(job.fence),
        "ATTEMPT": str(job.attempt),
        "RULE": job.rule,
        "TOPIC": job.topic,
        "REPO": job.repo,
        "BRANCH": job.branch,
        "NODE": job.node or "",
        "USER": job.user or "",
    }
    kept.update({f"ZMQHOOKS_{name}": _clean(value) for name, value in said.items()})
    if job.traceparent:
        kept["TRACEPARENT"] = _clean(job.traceparent)
    return kept


def _clean(value: str) -> str:
    """A value that fits into an environment.

    >>> _clean("a" + chr(0) + "b") == "a" + chr(0xFFFD) + "b"
    True
    >>> len(_clean("é" * 9999).encode())
    4096
    """
    data = value.replace("\0", "\ufffd").encode(errors="replace")
    return data[:_VALUE_LIMIT].decode(errors="ignore")


@dataclass(slots=True)
class _Tail:
    """The last bytes of a stream of any length."""

    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def add(self, chunk: bytes) -> None:
        self.data += chunk
        if len(self.data) > 2 * OUTPUT_LIMIT:
            self._cut()

    def result(self) -> tuple[bytes, bool]:
        self._cut()
        return bytes(self.data), self.truncated

    def _cut(self) -> None:
        if len(self.data) > OUTPUT_LIMIT:
            self.truncated = True
            del self.data[:-OUTPUT_LIMIT]


class _Attempt:
    """The daemon's side of one run: feeds stdin, drains output, listens to the runner."""

    def __init__(self, action: Exec, job: Job) -> None:
        self._action = action
        self._job = job
        self._outcome = Outcome()
        self._tail = _Tail()
        self._reports = b""
        self._stack = contextlib.ExitStack()
        self._poller = select.poll()
        self._input = memoryview(b"".join(line + b"\n" for line in job.lines))

    def run(self, cancel: Cancel) -> Outcome:
        with self._stack:
            guard = self._start()
            try:
                self._talk(cancel)
            finally:
                self._control.close()
                self._see_off(guard)
        self._outcome.output, self._outcome.truncated = self._tail.result()
        return self._outcome

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the runner, connected by three descriptors of ours, and tell it the environment."""
        self._control, theirs = socket.socketpair()
        self._stack.enter_context(self._control)
        read_input, self._stdin = os.pipe()
        self._stack.callback(self._close_input)
        self._output, write_output = os.pipe()
        self._stack.callback(os.close, self._output)
        action, job = self._action, self._job
        files = "" if action.descriptors is None else str(action.descriptors)
        options = (str(theirs.fileno()), action.lock, str(job.timeout), str(action.grace), files)
        with theirs, os.fdopen(read_input, "rb") as stdin, os.fdopen(write_output, "wb") as stdout:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, *options, *action.command],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd=action.folder,
                env={"PATH": os.environ.get("PATH", _DEFAULT_PATH)},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        values = environment(job, os.environ).items()
        told = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in values)
        with contextlib.suppress(OSError):  # a runner that died is noticed below
            self._control.sendall(told + b"\0")
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
            left = lost_at - time.monotonic()
            if left <= 0:
                outcome.lost = "the runner did not report in time"
            for fd, _ in poller.poll(max(0.0, left) * 1000):
                if fd == self._output:
                    self._drain_once()
                elif fd == self._stdin:
                    self._feed()
                elif fd == cancel.fileno():
                    poller.unregister(cancel)
                    self._control.shutdown(socket.SHUT_WR)
                else:
                    self._listen()
        for _ in range(_LAST_READS):
            if not self._drain_once():
                break

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
