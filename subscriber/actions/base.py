"""What the engine and an action say to each other: a `Job` goes in, a `Verdict` comes out.

An action never raises for what goes wrong with its task: a missing script, a timeout, a refused
connection are verdicts, because each of them is a receipt that an operator reads.
"""

import contextlib
import errno
import os
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from hgext_zmqhooks.service.clock import boot_clock

OUTPUT_LIMIT = 64 * 1024
"""Bytes of output kept in a receipt: the last ones, since errors stand at the end."""


SHORT_OF_RESOURCES = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
"""Numbers of errors that are about this host, and not about what an attempt does."""

LEASE_OVER = "the lease ran out"
"""The reason of a verdict when an attempt ended because its lease was not extended."""


class Kind(StrEnum):
    """What should become of the delivery."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt of one delivery.

    `lines` holds the exact bytes of the event, one item per part. `delivery_id` is the idempotency
    key: the same in every attempt. `fence` grows with every attempt. `attempt` counts from 1.
    `node` is the changeset concerned, else the branch's new tip. `timeout` is in seconds.
    """

    delivery_id: str
    event_id: str
    fence: int
    attempt: int
    rule: str
    topic: str
    repo: str
    branch: str
    node: str | None
    user: str | None
    traceparent: str | None
    lines: list[bytes] = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended. Times are unix seconds.

    `exit_status` and `signal` are for actions that run a process; at most one of them is set.
    `patient` (only with RETRY): the action itself asked for another try later (exit status 75), so
    that the long retry table applies instead of the one for failures.
    `interrupted` (only with RETRY): our side broke the attempt off; it must not count against it.
    `truncated`: `output` lacks its beginning. `retry_after` (only with RETRY): seconds that the
    other side asked us to wait at least.
    """

    kind: Kind
    reason: str
    started: float
    ended: float
    exit_status: int | None = None
    signal: int | None = None
    output: bytes = b""
    truncated: bool = False
    patient: bool = False
    interrupted: bool = False
    retry_after: float | None = None


class Cancel:
    """Breaks off one running attempt, from any thread, at once or at the end of its lease.

    The engine tells it how long the lease lasts, counted from before the store was asked, so that
    no other process runs the delivery while the action still may:

        asked = boot_clock()
        claims = store.claim(…, lease, …)
        cancel.until(asked + lease)          # before the action starts
        …
        asked = boot_clock()
        if store.extend(…, lease, …):
            cancel.until(asked + lease)      # at each extension

    Whoever runs the attempt leaves nothing behind at the deadline, though this process be stopped:
    `exec` hands it to its runner. Without one the attempt has no deadline. The verdict is then
    `interrupted`, for the reason `LEASE_OVER`.

    Usable as a context manager, which closes its descriptors; `set` and `until` after that do
    nothing.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._deadline: float | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def reason(self) -> str | None:
        """Why the attempt is to end; None as long as it may go on."""
        return self._reason

    @property
    def deadline(self) -> float | None:
        """When the lease ends, by `boot_clock`; None: nobody said."""
        return self._deadline

    @property
    def left(self) -> float:
        """Seconds until the lease ends; infinity without a deadline."""
        return float("inf") if self._deadline is None else self._deadline - boot_clock()

    def fileno(self) -> int:
        """A descriptor that becomes readable at each `set` and `until`, and stays so until `hear`.

        For the one who runs the attempt.
        """
        return self._read

    def hear(self) -> None:
        """Take the news; then look at `reason` and `deadline`."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.read(self._read, 4096)

    def set(self, reason: str) -> None:
        """Ask the attempt to end. The first reason stays."""
        with self._lock:
            if self._reason is None and not self._closed:
                self._reason = reason
                self._call()

    def until(self, deadline: float) -> None:
        """The lease lasts until `deadline`, by `boot_clock`. The newest word counts."""
        with self._lock:
            if not self._closed:
                self._deadline = deadline
                self._call()

    def _call(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is readable already
            os.write(self._write, b".")

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read)
                os.close(self._write)


class Action(Protocol):
    """What one rule does. Called from several threads at once: it keeps no state of an attempt."""

    def run(self, job: Job, cancel: Cancel) -> Verdict:
        """Do it once; returns within `job.timeout` and a short grace."""
        ...
