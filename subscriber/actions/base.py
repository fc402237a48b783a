"""What the engine and an action say to each other: a `Job` goes in, a `Verdict` comes out.

An action never raises for what goes wrong with its task: a missing script, a timeout, a refused
connection are verdicts, because each of them is a receipt that an operator reads.
"""

import os
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

OUTPUT_LIMIT = 64 * 1024
"""Bytes of output kept in a receipt: the last ones, since errors stand at the end."""


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
    `truncated`: `output` lacks its beginning.
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


class Cancel:
    """Breaks off one running attempt, from any thread: a flag that a poll loop can wait for.

    Usable as a context manager, which closes its descriptors; `set` after that does nothing.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._reason: str | None = None
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

    def fileno(self) -> int:
        """A descriptor that becomes readable, and stays so, when `set` was called."""
        return self._read

    def set(self, reason: str) -> None:
        """Ask the attempt to end. The first reason stays."""
        with self._lock:
            if self._reason is not None or self._closed:
                return
            self._reason = reason
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
