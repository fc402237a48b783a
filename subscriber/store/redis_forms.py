"""What the Redis store keeps, as bytes: MessagePack of the values, and back.

The Lua library reads some of these fields by their place, so the order here is part of the format
(see redis.lua); new fields go to the end. Bytes travel as text of Latin-1, because the server's
MessagePack knows no bytes.
"""

import uuid
from typing import Any

import msgspec

from .base import (
    Claim,
    Contact,
    Decision,
    Delivery,
    Held,
    Incoming,
    JournalRow,
    Link,
    NewDelivery,
    Outcome,
    Paused,
    Receipt,
    State,
    StoredEvent,
)

pack = msgspec.msgpack.encode
Answer = list[Any]


class _Record(msgspec.Struct, array_like=True):
    """An event. `held` is what it was when it came; what it is now stands before the record."""

    sequence: int
    sha256: str
    branch: str
    certificate: str
    received: float
    held: bool
    nodes: tuple[str, ...]
    journal: str
    repo: str
    topic: str
    event_id: str
    type: str
    transaction: str
    part: int
    parts: int
    event: str
    signature: str


class _Work(msgspec.Struct, array_like=True):
    """What a delivery is, never changed."""

    id: str
    rule: str
    order_key: str
    latest: bool
    journal: str
    branch: str
    first: int
    last: int
    created: float
    event_id: str
    repo: str
    topic: str
    node: str | None
    user: str | None


class _State(msgspec.Struct):
    """How a delivery stands."""

    state: State
    attempts: int = 0
    lost: int = 0
    fence: int = 0
    reason: str = ""
    owner: str | None = None
    claimed: float | None = None
    lease_until: float | None = None
    due: float | None = None
    ended: float | None = None
    lock: str | None = None
    renewed: int = 0


class _Delivery(msgspec.Struct, array_like=True):
    number: int
    work: _Work
    state: _State


class _Outcome(msgspec.Struct, array_like=True):
    started: float
    ended: float
    verdict: str
    reason: str = ""
    output: str = ""
    truncated: bool = False
    exit_status: int | None = None
    signal: int | None = None


class _Receipt(msgspec.Struct, array_like=True):
    fence: int
    attempt: int
    owner: str
    counted: bool
    outcome: _Outcome


class _Row(msgspec.Struct):
    """A journal; `number`: in the order in which they became known."""

    number: int
    repo: str
    relay: str
    head: int
    first_seen: float
    scanned: int | None = None
    since: float | None = None
    stopped: str | None = None
    origin: int | None = None
    pruned: int = 0


class _Contact(msgspec.Struct):
    seen: float | None = None
    failed: float | None = None
    error: str = ""


_read_record = msgspec.msgpack.Decoder(_Record).decode
_read_delivery = msgspec.msgpack.Decoder(_Delivery).decode
_read_receipt = msgspec.msgpack.Decoder(_Receipt).decode
_read_row = msgspec.msgpack.Decoder(_Row).decode
_read_contact = msgspec.msgpack.Decoder(_Contact).decode
_read_link = msgspec.msgpack.Decoder(tuple[int, str]).decode
_read_decision = msgspec.msgpack.Decoder(Decision).decode
_read_paused = msgspec.msgpack.Decoder(Paused).decode


def text(data: bytes) -> str:
    """Bytes as text, one character for each.

    >>> raw(text(bytes(range(256)))) == bytes(range(256))
    True
    """
    return data.decode("latin-1")


def raw(characters: str) -> bytes:
    """The bytes of such a text."""
    return characters.encode("latin-1")


def record(item: Incoming) -> bytes:
    """An event on its way into the store."""
    return pack(
        _Record(
            sequence=item.sequence,
            sha256=item.sha256,
            branch=item.branch,
            certificate=item.certificate,
            received=item.received,
            held=item.held,
            nodes=item.nodes,
            journal=item.journal,
            repo=item.repo,
            topic=item.topic,
            event_id=item.event_id,
            type=item.type,
            transaction=item.transaction,
            part=item.part,
            parts=item.parts,
            event=text(item.event),
            signature=text(item.signature),
        )
    )


def work(item: NewDelivery) -> bytes:
    """A delivery on its way into the store."""
    return pack(
        _Work(
            id=item.id,
            rule=item.rule,
            order_key=item.order_key,
            latest=item.latest,
            journal=item.journal,
            branch=item.branch,
            first=item.first,
            last=item.last,
            created=item.created,
            event_id=item.event_id,
            repo=item.repo,
            topic=item.topic,
            node=item.node,
            user=item.user,
        )
    )


def outcome(item: Outcome) -> bytes:
    """How an attempt ended."""
    return pack(
        _Outcome(
            started=item.started,
            ended=item.ended,
            verdict=item.verdict,
            reason=item.reason,
            output=text(item.output),
            truncated=item.truncated,
            exit_status=item.exit_status,
            signal=item.signal,
        )
    )


def incoming(stored: bytes) -> Incoming:
    """The event of what is stored: "1" before it while it is held."""
    found = _read_record(memoryview(stored)[1:])
    values = msgspec.structs.asdict(found)
    values |= {
        "held": stored[:1] == b"1",
        "event": raw(found.event),
        "signature": raw(found.signature),
    }
    return Incoming(**values)


def event(answer: Answer) -> StoredEvent:
    """A stored event from its number and what is stored."""
    return StoredEvent(number=answer[0], record=incoming(answer[1]))


def delivery(stored: bytes) -> Delivery:
    """A delivery from its number, work and state."""
    found = _read_delivery(stored)
    return Delivery(
        number=found.number,
        **msgspec.structs.asdict(found.work),
        **msgspec.structs.asdict(found.state),
    )


def claim(stored: bytes) -> Claim:
    """A delivery that was claimed."""
    item = delivery(stored)
    return Claim(item, item.fence, item.attempts + 1)


def receipt(delivery_id: str, stored: bytes) -> Receipt:
    """A receipt of a delivery."""
    found = _read_receipt(stored)
    values = msgspec.structs.asdict(found.outcome)
    return Receipt(
        delivery=delivery_id,
        fence=found.fence,
        attempt=found.attempt,
        owner=found.owner,
        counted=found.counted,
        outcome=Outcome(**{**values, "output": raw(found.outcome.output)}),
    )


def pairs(answer: Answer) -> list[tuple[str, bytes]]:
    """Fields and values of a hash."""
    return [(name.decode(), value) for name, value in zip(answer[::2], answer[1::2], strict=True)]


def rows(answer: Answer) -> list[JournalRow]:
    """All journals, in the order in which they became known."""
    found = sorted(
        ((_read_row(stored), journal) for journal, stored in pairs(answer)),
        key=lambda each: each[0].number,
    )
    return [JournalRow(journal=journal, **_without_number(row)) for row, journal in found]


def _without_number(row: _Row) -> dict[str, Any]:
    values = msgspec.structs.asdict(row)
    del values["number"]
    return values


def contact(relay: str, stored: bytes) -> Contact:
    """Our dealings with a relay."""
    return Contact(relay=relay, **msgspec.structs.asdict(_read_contact(stored)))


def link(stored: bytes) -> Link:
    """The newest event of a branch."""
    return Link(*_read_link(stored))


def held(answer: Answer) -> Held:
    """What is held of a branch."""
    journal, branch, first_event, first, last, count, _ = answer
    return Held(
        journal=journal.decode(),
        repo=incoming(first_event).repo,
        branch=branch.decode(),
        first=int(first),
        last=int(last),
        count=count,
    )


def decision(stored: bytes) -> Decision:
    """What an operator decided."""
    return _read_decision(stored)


def paused(stored: bytes) -> Paused:
    """A rule that is paused."""
    return _read_paused(stored)


def new_identity() -> str:
    """An id for a store that is made now."""
    return uuid.uuid4().hex
