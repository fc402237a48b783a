"""The action `redis`: adds the event to a stream, and keeps the branch's head under a key.

Both in one step (MULTI). An entry of the stream, one for each part of the event:

    id         journal/sequence of the event
    delivery   the idempotency key: the same in every attempt
    fence      a number that grows with every attempt
    topic      hg:REPOSITORY:BRANCH:
    event      its exact bytes

The head is a JSON object, which expires when the branch has not changed for long:

    {"node":…, "repo":…, "branch":…, "journal":…, "sequence":…, "delivery":…, "fence":…}

`node` is the branch's newest head, null where it has none left. An event that tells nothing of
heads leaves it as it is. It never goes back: not by an attempt with a lower fence, which a newer
one has overtaken, and not by an older event of the same journal that is delivered again. An attempt
that a newer one of the same delivery has overtaken adds nothing to the stream either.

The comparison is made under WATCH, and not by a script: a user of the server who may run scripts
may do much else. Where the answer to the last command is lost nobody knows whether it was done:
then it is done again, so that an entry may stand in the stream twice, with the same `delivery`.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from hgext_zmqhooks.service.redis_client import RedisAddress, connect, explain
from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.values import Event

from .base import LEASE_OVER, Cancel, Job, Kind, Verdict
from .template import Template, values

_TRIES = 5
"""Times that somebody else may change the head while we look at it."""

_LASTING = (redis.exceptions.NoPermissionError, redis.DataError)
_LASTING_WORDS = ("WRONGTYPE", "ERR")


Check = Callable[[], None]
"""Raises Over when the attempt has to end."""


class Over(Exception):  # noqa: N818 - a finding, read as a sentence
    """The attempt has to end; nothing was written. `ours`: it must not count against it."""

    def __init__(self, reason: str, *, ours: bool) -> None:
        super().__init__(reason)
        self.ours = ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """Writes to the server at `address`; `ttl` in seconds."""

    address: RedisAddress
    stream: Template
    maxlen: int
    head: Template | None
    ttl: float
    _clients: list[redis.Redis] = field(default_factory=list, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def run(self, job: Job, cancel: Cancel) -> Verdict:
        """One attempt; see `subscriber.actions.base.Action`.

        Each step of it is bounded by the client; between two of them it is seen whether it must
        end.
        """
        started = time.time()
        until = time.monotonic() + job.timeout
        try:
            reason = self._write(job, lambda: _check(cancel, until, job.timeout))
        except Over as over:
            return _retry(str(over), started, interrupted=over.ours)
        except redis.RedisError as error:
            reason, hint = explain(error)
            reason = f"{self.address}: {reason}" + (f"; {hint}" if hint else "")
            return _retry(reason, started, patient=not _lasting(error))
        return Verdict(Kind.DONE, reason, started, time.time())

    def _client(self) -> redis.Redis:
        """The client, made at first use; any number of threads share it."""
        with self._lock:
            if not self._clients:
                self._clients.append(connect(self.address, name="zmqhooks-action"))
            return self._clients[0]

    def _write(self, job: Job, check: Check) -> str:
        names = self.stream.names | (self.head.names if self.head else frozenset())
        given = values(job, names)
        parts = [events.decode(line) for line in job.lines]
        stream = self.stream.fill(given)
        head = self.head.fill(given) if self.head else None
        for _ in range(_TRIES):
            try:
                return self._step(job, parts, stream, head, check)
            except redis.WatchError:
                continue
        raise Over(f"others change {head} all the time", ours=True)

    def _step(
        self, job: Job, parts: Sequence[Event], stream: str, head: str | None, check: Check
    ) -> str:
        check()
        with self._client().pipeline(transaction=True) as pipe:
            newer = False
            if head is not None:
                pipe.watch(head)  # type: ignore[no-untyped-call]
                before = _read(pipe.get(head))
                newer = _is_newer(before, job, parts[-1])
                if newer and before.get("delivery") == job.delivery_id:
                    raise Over("a newer attempt of the same delivery has written it", ours=True)
                check()
                pipe.multi()
            for part, line in zip(parts, job.lines, strict=True):
                entry = _entry(job, part, line)
                pipe.xadd(stream, entry, maxlen=self.maxlen, approximate=True)
            told = _told(parts)
            if head is not None and told and not newer:
                value = _head(job, parts[-1], told[0])
                pipe.set(head, value, px=int(self.ttl * 1000))
            check()
            _raise_first(pipe.execute(raise_on_error=False))
        return f"in the stream {stream}" + ("; the head is newer" if newer else "")


def _check(cancel: Cancel, until: float, limit: float) -> None:
    if cancel.reason is not None:
        raise Over(f"stopped: {cancel.reason}", ours=True)
    if cancel.left <= 0:
        raise Over(LEASE_OVER, ours=True)
    if time.monotonic() >= until:
        raise Over(f"the time limit of {limit:g} s was reached", ours=False)


def _retry(
    reason: str, started: float, *, interrupted: bool = False, patient: bool = False
) -> Verdict:
    now = time.time()
    return Verdict(Kind.RETRY, reason, started, now, interrupted=interrupted, patient=patient)


def _lasting(error: redis.RedisError) -> bool:
    """Whether it will not go away by itself: then it counts as a failure, as that of a script."""
    word = str(error).partition(" ")[0]
    return isinstance(error, _LASTING) or (
        type(error) is redis.ResponseError and word in _LASTING_WORDS
    )


def _raise_first(answers: Sequence[object]) -> None:
    """An error of one command, as the server said it: redis-py would put the event before it."""
    for answer in answers:
        if isinstance(answer, redis.RedisError):
            raise answer


def _entry(job: Job, part: Event, line: bytes) -> dict[Any, Any]:
    return {
        "id": part.id,
        "delivery": job.delivery_id,
        "fence": job.fence,
        "topic": part.topic,
        "event": line,
    }


def _told(parts: Sequence[Event]) -> tuple[str | None] | None:
    """The branch's newest head after the event, None inside if none is left; None: not told."""
    last = parts[-1]
    if last.heads:
        return (last.heads.tip,)
    return (last.summary.tip,) if last.summary else None


def _head(job: Job, last: Event, node: str | None) -> str:
    return json.dumps(
        {
            "node": node,
            "repo": last.repo,
            "branch": last.branch,
            "journal": last.journal,
            "sequence": last.sequence,
            "delivery": job.delivery_id,
            "fence": job.fence,
        },
        separators=(",", ":"),
    )


def _read(value: object) -> dict[str, object]:
    """What a head says; nothing if it is not one of ours."""
    try:
        found = json.loads(value) if isinstance(value, bytes) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_newer(before: dict[str, object], job: Job, last: Event) -> bool:
    """Whether the head that is there must stay."""
    fence, sequence = before.get("fence"), before.get("sequence")
    overtaken = isinstance(fence, int) and fence > job.fence
    older = (
        before.get("journal") == last.journal
        and isinstance(sequence, int)
        and sequence > last.sequence
    )
    return overtaken or older
