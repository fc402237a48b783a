"""What one subscriber is to be sent next: a cursor over the journals it follows.

Only events whose topic fits both what the subscriber asked for and what its certificate allows are
taken. How far was looked is told with every batch (`scanned`), so that a filtered reader that
comes back does not make us look through the same events again.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import msgspec

from ..journal.follow import Stored
from ..journal.format import JournalError, Torn
from ..wire import topics
from ..wire.events import MAX_LENGTH
from ..wire.messages import MAX_BATCH, MAX_RECORDS
from ..wire.session import Events, Follow, JournalInfo, Record, Since
from ..wire.topics import Pattern, matches_any
from .shelf import Repository, Shelf

LOOK_RECORDS = 2000
"""Events looked at for one message; then others get their turn."""
QUIET_RECORDS = 10_000
"""A subscriber is told how far we looked at least every so many events without a match."""
RECORD_OVERHEAD = 64 + 100
"""Bytes of a record in a batch besides its event: signature, and its line in the header."""


class _Envelope(msgspec.Struct):
    source: str
    subject: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True)
class Scope:
    """What a subscriber asked for, and what it may read."""

    wanted: tuple[Pattern, ...]
    allowed: tuple[Pattern, ...]

    def passes(self, topic: str) -> bool:
        """Whether it is to have this event."""
        return matches_any(self.wanted, topic) and matches_any(self.allowed, topic)


def may_read(allowed: Iterable[Pattern], repo: str) -> bool:
    """Whether some branch of a repository may be read."""
    source = topics.source("hg", repo)
    return any(pattern.matches_source(source) for pattern in allowed)


class Quiet(Enum):
    """What `Cursor.next` answers when there is nothing to send."""

    DONE = "done"
    """Everything there is was sent."""
    LOOKING = "looking"
    """Many events were looked at, none matched; ask again when others had their turn."""


class Cursor:
    """Where one subscriber stands in each journal, since its last FOLLOW."""

    def __init__(self, follow: Follow, allowed: tuple[Pattern, ...]) -> None:
        """Refused "bad-pattern" for a pattern that is none."""
        self._scope = Scope(tuple(map(Pattern.parse, follow.patterns)), allowed)
        self._scanned: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._never: set[str] = set()
        self._told: dict[str, int] = {}
        for journal, position in follow.positions.items():
            if position is None:
                self._never.add(journal)
            elif isinstance(position, Since):
                self._since[journal] = position.seconds
            else:
                self._scanned[journal] = position

    def after(self, info: JournalInfo) -> int | None:
        """The sequence after which the journal is read next; None: it is not to be read."""
        if info.journal in self._never or not may_read(self._scope.allowed, info.repo):
            return None
        return max(self._scanned.get(info.journal, 0), info.first - 1)

    def next(self, shelf: Shelf, repository: Repository, room: int) -> Events | Quiet:
        """The next batch of a repository's journals, of about `room` bytes.

        One without records says only how far was looked. Raises JournalError or OSError.
        """
        for info in shelf.served(repository):
            self._settle(repository, info.journal)
            after = self.after(info)
            if after is not None and after < info.sequence:
                events = self._batch(repository, info, after, min(room, MAX_BATCH))
                told = self._told.get(info.journal, after)
                if events.records or events.scanned >= min(info.sequence, told + QUIET_RECORDS):
                    self._told[info.journal] = events.scanned
                    return events
                self._told.setdefault(info.journal, after)
                return Quiet.LOOKING
        return Quiet.DONE

    def _settle(self, repository: Repository, journal: str) -> None:
        """Turn a position by time into a sequence, when its journal has its first turn."""
        if journal in self._since:
            self._scanned[journal] = repository.follower.since(journal, self._since[journal])
            del self._since[journal]

    def _batch(self, repository: Repository, info: JournalInfo, after: int, room: int) -> Events:
        batch = _Batch(room)
        end = min(info.sequence, after + LOOK_RECORDS)
        self._scanned[info.journal] = after
        try:
            while self._scanned[info.journal] < end and not batch.full:
                self._look(repository, info.journal, end, batch)
        except (JournalError, OSError):
            # What stands before it goes out; the next call meets it again with nothing in hand.
            if self._scanned[info.journal] == after:
                raise
        scanned = self._scanned[info.journal]
        return Events(info.journal, scanned, tuple(batch.certificates), tuple(batch.records))

    def _look(self, repository: Repository, journal: str, end: int, batch: "_Batch") -> None:
        scanned = self._scanned[journal]
        for stored in repository.read(journal, scanned, min(MAX_RECORDS, end - scanned), MAX_BATCH):
            if self._wants(stored) and not batch.add(stored):
                return
            self._scanned[journal] = stored.sequence

    def _wants(self, stored: Stored) -> bool:
        if len(stored.event) > MAX_LENGTH:
            raise Torn(0, f"sequence {stored.sequence} has {len(stored.event)} bytes")
        try:
            envelope = _decode_envelope(stored.event)
        except msgspec.DecodeError as error:
            raise Torn(0, f"sequence {stored.sequence} is not an event: {error}") from None
        return self._scope.passes(topics.topic(envelope.source, envelope.subject))


class _Batch:
    """Records until there is no room; the first one always fits."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.records: list[Record] = []
        self.certificates: dict[bytes, str] = {}
        self.full = False

    def add(self, stored: Stored) -> bool:
        """Take one more event; False when it has to wait for the next batch."""
        needed = len(stored.event) + RECORD_OVERHEAD
        if stored.certificate not in self.certificates:
            needed += len(stored.certificate) + 3
        if self.records and (needed > self._room or len(self.records) >= MAX_RECORDS):
            self.full = True
            return False
        self._room -= needed
        name = self.certificates.get(stored.certificate)
        if name is None:
            name = hashlib.sha256(stored.certificate).hexdigest()
            self.certificates[stored.certificate] = name
        self.records.append(Record(stored.sequence, name, stored.signature, stored.event))
        self.full = self._room <= 0 or len(self.records) >= MAX_RECORDS
        return True
