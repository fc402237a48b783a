"""The head of an events file: up to where it is committed, and whose journals it holds.

`zmqhooks-head` is one JSON object. A journal that ended stays in front of its successor:

    {"version":1,"journal":"9f0c…","first":1,"sequence":42,"start":8120,"size":31337,
     "ended":false,"continuing":true,"repo":"team/app","dev":2049,"ino":131,"certificate":"5e…",
     "closed":[{"journal":"77aa…","repo":"team/app","first":1,"sequence":16,"start":0,"size":8120}]}

`start` and `size` are offsets: the journal's records stand in [start, size). `first` to `sequence`
are the events kept. `ended`: what was told was undone; the next event begins a new journal, and so
it does when `repo`, `dev` or `ino` are not those of the events file at hand any more (a copy, a
renamed repository, a restored backup). `continuing`: the journal took over from another.
`certificate`: SHA-256 of the one that the journal's last event names.

The head is never ahead of what is committed. It may be behind, after a crash: `extend` computes
from the records past it what it would be, for the writer who heals it and for readers.
Consumers ignore keys that they do not know.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from ..wire import events
from ..wire.errors import Refused
from .format import (
    CERTIFICATE,
    EVENT,
    MARK,
    JournalError,
    Record,
    Torn,
    fingerprint,
    read_mark,
    read_signed,
)
from .glance import glance

VERSION = 1
MOST = 2**64 - 1
"""The largest number: a device or an inode."""
FARTHEST = 2**61
"""The largest sequence or offset: sums of two are still what `pread` and the wire take."""


class BadHead(JournalError):  # noqa: N818 - the state of a file
    """The head file is not a head: it is treated as if it were not there."""


class NewerHead(JournalError):  # noqa: N818 - the state of a file
    """A newer zmqhooks wrote the head; this one must neither read nor write the journal."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A journal that ended, in the file region [start, size); empty where nothing is kept."""

    journal: str
    repo: str
    first: int
    sequence: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Head:
    """The committed state. `Head()` is that of a store without a journal."""

    journal: str = ""
    repo: str = ""
    first: int = 1
    sequence: int = 0
    start: int = 0
    size: int = 0
    ended: bool = False
    continuing: bool = False
    dev: int = 0
    ino: int = 0
    certificate: str = ""
    closed: tuple[Closed, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the head file."""
        return json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":")).encode()

    @property
    def current(self) -> Closed:
        """This journal as `closed` would list it."""
        return Closed(self.journal, self.repo, self.first, self.sequence, self.start, self.size)

    def journal_at(self, offset: int) -> str:
        """Which journal the byte before `offset` belongs to; "" for none."""
        for region in (*self.closed, self.current):
            if region.start < offset <= region.size:
                return region.journal
        return ""


T = TypeVar("T", Head, Closed)


def decode(data: bytes) -> Head:
    """The head in these bytes; BadHead if they are none (an empty file after power loss, say)."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise BadHead("not JSON") from None
    if not isinstance(document, dict) or type(document.get("version")) is not int:
        raise BadHead("not an object with a version")
    if document["version"] > VERSION:
        raise NewerHead(f"the head has version {document['version']}, known is {VERSION}")
    return typed(document)


def typed(document: Any) -> Head:
    """The head in a JSON object; BadHead if it is none."""
    closed = document.get("closed") if isinstance(document, dict) else None
    if not isinstance(closed, list):
        raise BadHead("closed is not a list")
    regions = tuple([_typed(Closed, region) for region in closed])
    return _typed(Head, {**document, "closed": regions})


def _typed(kind: type[T], document: Any) -> T:
    """An instance of `kind` from a JSON object, each value of the very type of its field."""
    if not isinstance(document, dict):
        raise BadHead("a closed journal is not an object")
    values: dict[str, Any] = {item.name: document.get(item.name) for item in fields(kind)}
    for item in fields(kind):
        value = values[item.name]
        expected = tuple if item.name == "closed" else item.type
        if type(value) is not expected or (type(value) is int and not 0 <= value <= MOST):
            raise BadHead(f"{item.name} is {value!r}")
    region = kind(**values)
    if max(region.size, region.sequence, region.first) > FARTHEST:
        raise BadHead("offsets or sequences beyond what a file can have")
    if region.start > region.size or region.sequence < region.first - 1:
        raise BadHead("offsets or sequences run backwards")
    return region


def begin(head: Head, journal: str, repo: str, start: int) -> Head:
    """The head of a new journal that takes over at byte `start`; `head`'s own is closed there."""
    closed = head.closed
    if head.journal:
        closed += (replace(head.current, size=start),)
    return Head(
        journal=journal,
        repo=repo,
        start=start,
        size=start,
        continuing=bool(head.journal),
        closed=closed,
    )


def extend(head: Head, records: Iterable[Record], end: int) -> Head:
    """The head after the records past it, which reach to byte `end`.

    With `Head()` and all records of a file: the head of a file that lost it. Such a head, and one
    whose new journal began after the last one written, has the `dev` and `ino` of `head`, not
    those of the file: nothing says that the file was not copied meanwhile. Torn if an event is
    malformed, has not the next sequence, or its certificate does not stand before it.
    """
    transaction = head.size
    certificate = head.certificate
    for record in records:
        if record.kind == CERTIFICATE:
            certificate = fingerprint(record.payload)
        elif record.kind == EVENT:
            head = _with_event(head, record, transaction, certificate)
        elif record.kind == MARK:
            read_mark(record)
            transaction = record.end
    return replace(head, size=end)


def _with_event(head: Head, record: Record, transaction: int, certificate: str) -> Head:
    found = read_signed(record)
    if found.certificate != certificate:
        raise Torn(record.offset, "its certificate does not stand before the event")
    place = glance(record.offset, found.event)
    if place.journal != head.journal:
        head = _take_over(head, record, found.event, transaction)
    if place.sequence != head.sequence + 1:
        raise Torn(record.offset, f"sequence {place.sequence} after {head.sequence}")
    # An `ended` journal that goes on: the rollback that ended it was killed before it cut the file.
    return replace(head, sequence=place.sequence, certificate=certificate, ended=False)


def _take_over(head: Head, record: Record, event: bytes, transaction: int) -> Head:
    """The head of the journal whose first kept event this is."""
    try:
        first = events.decode(event)
    except Refused as refused:
        raise Torn(record.offset, str(refused)) from None
    taken = begin(head, first.journal, first.repo, transaction)
    return replace(
        taken,
        first=first.sequence,
        sequence=first.sequence - 1,
        continuing=first.continuing,
        dev=head.dev,
        ino=head.ino,
    )


def lower(head: Head, records: Iterable[Record], cut: int) -> Head:
    """The head before a rollback cuts the file at byte `cut`; `records` are those to be cut.

    All of them are of the current journal: a transaction begins at most one journal, with its
    first record.
    """
    undone = sum(record.kind == EVENT for record in records)
    return replace(head, size=cut, sequence=head.sequence - undone, ended=bool(head.journal))


def emptied(head: Head) -> Head:
    """The head after somebody removed the events file: journals are remembered, without events."""
    closed = tuple([empty(region) for region in head.closed])
    return replace(empty(head), closed=closed, ended=bool(head.journal), certificate="")


def empty(region: T) -> T:
    """A journal of which no event is kept."""
    return replace(region, first=region.sequence + 1, start=0, size=0)
