"""What relay and subscriber say to each other in a session; messages.py says how it is sent.

Positions are sequences. Credit is in bytes of header and payload. Two values are filled in by
`session.Session`, not by who speaks. `number` counts all messages of a side from 1, so that one
that is taken out on the way is missed. `round` counts the FOLLOWs of a session: EVENTS and ACK
carry the one they belong to, so that what was under way when a new FOLLOW was sent is not taken
for its answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CREDIT = 4_194_304
"""Bytes that a subscriber lets a relay have under way by default."""


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """One journal as a relay sees it: the first sequence kept and the last one committed.

    `closed`: another journal took over from it; nothing will be added.
    """

    journal: str
    repo: str
    first: int
    sequence: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Since:
    """A position by time: the first event that is not older, unix seconds."""

    seconds: float


Position = int | Since | None
"""Last sequence handled; or by time; None: do not send this journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbered:
    """`number` does not count when two messages are compared."""

    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Hello(_Numbered):
    """Subscriber: who I am. `store` names my memory, `instance` this process."""

    certificate: bytes
    name: str
    store: str
    instance: str


@dataclass(frozen=True, slots=True)
class Welcome(_Numbered):
    """Relay: who I am and which journals you may read, in the order of their repositories."""

    name: str
    journals: tuple[JournalInfo, ...]


@dataclass(frozen=True, slots=True)
class Follow(_Numbered):
    """Subscriber: what I want and where I stand; replaces an earlier one.

    A journal that `positions` does not name is sent from its first event.
    """

    patterns: tuple[str, ...]
    positions: Mapping[str, Position]
    credit: int = CREDIT
    round: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a batch; `certificate` is the hex SHA-256 of one of the batch's tokens."""

    sequence: int
    certificate: str
    signature: bytes
    event: bytes


@dataclass(frozen=True, slots=True)
class Events(_Numbered):
    """Relay: the matching events of one journal, in order, and how far it was looked through."""

    journal: str
    scanned: int
    certificates: tuple[bytes, ...] = ()
    records: tuple[Record, ...] = ()
    round: int = 0


@dataclass(frozen=True, slots=True)
class Ack(_Numbered):
    """Subscriber: stored up to here; `credit` bytes may be sent again."""

    positions: Mapping[str, int]
    credit: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True)
class Beat(_Numbered):
    """Either side: I live. A relay adds the journals whose heads moved since its last one."""

    heads: tuple[JournalInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Bye(_Numbered):
    """Either side: I leave in order."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class SessionRefused(_Numbered):
    """Relay: no, and why; the session is over."""

    kind: str
    detail: str


Message = Hello | Welcome | Follow | Events | Ack | Beat | Bye | SessionRefused

VERBS: Mapping[type[Any], bytes] = {
    Hello: b"HELLO",
    Welcome: b"WELCOME",
    Follow: b"FOLLOW",
    Events: b"EVENTS",
    Ack: b"ACK",
    Beat: b"BEAT",
    Bye: b"BYE",
    SessionRefused: b"REFUSED",
}
