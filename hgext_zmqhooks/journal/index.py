"""The last event of every branch, found without reading the journal.

`zmqhooks-index` is an open-addressing hash file, big-endian:

    header, 64 bytes    "zmqhidx1" | u64 covered | u64 slots | u64 used | journal (16) | u32 CRC-32
    slot, 32 bytes      SHA-256 of the branch (12) | i64 offset | u64 sequence | u32 CRC-32

It says what the file's bytes up to `covered` hold; `journal` is the one that the byte before
`covered` belongs to. What stands behind is scanned. The index is written after the head, slots
before the header, so that a kill between any two writes leaves it behind the truth, never ahead.
Every answer is checked against the record that it points to. That a branch has no event is
believed if as many slots are `used` as the header says: after a power cut one may be zeros. Whoever
removes bytes from the events file removes the index first. Anything odd, and it is made anew by a
scan of the file.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..wire import events
from .files import Files
from .format import BRANCH, EVENT, EVENTS, INDEX, Record, Torn, read_signed
from .glance import Glance, glance
from .heads import Head
from .origin import EventsFile, open_events, read_branch
from .reading import Source, record_at, records

_MAGIC = b"zmqhidx1"
_HEADER = struct.Struct(">8sQQQ16s")
_HEADER_ROOM = 64
_SLOT = struct.Struct(">12sqQ")
_SLOT_ROOM = 32
_CHECKSUM = struct.Struct(">I")
_EMPTY = bytes(_SLOT_ROOM)
_FEWEST = 64
_WINDOW = 8
"""Slots of one read while probing."""


class Place(NamedTuple):
    """Where the last event of a branch is."""

    offset: int
    sequence: int


class Last(NamedTuple):
    """The last event of a branch, in whichever journal of the file it is."""

    journal: str
    sequence: int
    sha256: str


class Odd(Exception):  # noqa: N818 - the state of the index; never leaves this file
    """The index cannot be trusted."""


class _Header(NamedTuple):
    covered: int
    slots: int
    used: int
    journal: str


def key(branch: str) -> bytes:
    """What stands for the branch in a slot."""
    return hashlib.sha256(branch.encode("utf-8", "surrogatepass")).digest()[:12]


class Index:
    """The index as it is for one head; used for one transaction, under the store lock.

    Raises Torn where the events file itself is, and OSError.
    """

    def __init__(self, files: Files, head: Head) -> None:
        self._files = files
        self._head = head
        self._recent: dict[bytes, Place] | None = None
        self._header: _Header | None = None
        self._whole = False
        """Whether the slots were counted."""

    def last(self, branch: str) -> Last | None:
        """The last event of the branch up to the head; None if it has none."""
        if not self._head.size:
            return None
        with open_events(self._files.path(EVENTS)) as source:
            try:
                self._prepare(source)
                return self._checked(source, branch, self._find(key(branch)))
            except (Odd, FileNotFoundError):
                self._make(source)
            return self._checked(source, branch, self._find(key(branch)))

    def update(self, places: Mapping[bytes, Place], head: Head) -> None:
        """Make the file cover `head`; `places` are the last events since this index's own head."""
        try:
            self._prepare_for_update()
            self._patch({**(self._recent or {}), **places}, head)
        except (Odd, FileNotFoundError):
            self._renew(places, head)

    def places(self) -> dict[bytes, Place]:
        """The last event of every branch up to the head, by `key`."""
        with open_events(self._files.path(EVENTS)) as source:
            try:
                self._prepare(source)
                former = self._former()
            except (Odd, FileNotFoundError):
                self._make(source)
                former = {}
        return {**former, **(self._recent or {})}

    def shorten(self, source: EventsFile, places: Mapping[bytes, Place], head: Head) -> None:
        """Write the index of the file `source`, of which the beginning was dropped: `prune.py`.

        `places`: what `places` gave before. Those of dropped events are what stands for them now.
        """
        cut = source.origin.cut
        kept = {wanted: place for wanted, place in places.items() if place.offset >= cut}
        self._write({**_scan(source, source.base, cut), **kept}, head)

    def _prepare_for_update(self) -> None:
        """As for `last`, but the events file is opened only if something must be scanned."""
        if self._recent is None:
            self._header = self._load()
            if self._header.covered == self._head.size:
                self._recent = {}
            else:
                with open_events(self._files.path(EVENTS)) as source:
                    self._prepare(source)

    def _prepare(self, source: Source) -> None:
        if self._recent is None:
            header = self._load()
            # Never before the file's beginning: no journal of the head has that byte, see `_judge`.
            self._recent = _scan(source, header.covered, self._head.size)
            self._header = header

    def _load(self) -> _Header:
        """The header of a file that fits the head; Odd, or FileNotFoundError."""
        with Source.open(self._files.path(INDEX)) as source:
            data = source.read(0, _HEADER_ROOM)
            size = source.stat().st_size
        return self._judge(data, size)

    def _judge(self, data: bytes, size: int) -> _Header:
        if len(data) < _HEADER_ROOM or not _sound(data[: _HEADER.size + _CHECKSUM.size]):
            raise Odd
        magic, covered, slots, used, journal = _HEADER.unpack_from(data)
        fits = magic == _MAGIC and size == _HEADER_ROOM + slots * _SLOT_ROOM and used < slots
        if not fits or covered > self._head.size:
            raise Odd
        if journal.hex() != (self._head.journal_at(covered) or _NOBODY):
            raise Odd
        return _Header(covered, slots, used, journal.hex())

    def _find(self, wanted: bytes) -> Place | None:
        assert self._recent is not None
        if wanted in self._recent or self._header is None:
            return self._recent.get(wanted)
        with Source.open(self._files.path(INDEX)) as source:
            _at, place = _probe(source, self._header.slots, wanted)
            if place is None and not self._whole:
                self._count(source, self._header)
        return place

    def _count(self, source: Source, header: _Header) -> None:
        """Odd unless as many slots are occupied as ought to be; once for a transaction.

        Only new branches need it, since it is the one thing here that reads the whole table.
        """
        empty = sum(slots.count(_EMPTY) for slots in _tables(source))
        if header.slots - empty != header.used:
            raise Odd
        self._whole = True

    def _former(self) -> dict[bytes, Place]:
        """All branches of the file; Odd if not as many as it had."""
        with Source.open(self._files.path(INDEX)) as source:
            former: dict[bytes, Place] = {}
            for slots in _tables(source):
                former.update(_read_slot(slot) for slot in slots if slot != _EMPTY)
        if self._header is None or len(former) != self._header.used:
            raise Odd
        return former

    def _checked(self, source: Source, branch: str, place: Place | None) -> Last | None:
        """The event that `place` points to; Odd if it is not what the slot says."""
        if place is None:
            return None
        try:
            record = record_at(source, place.offset, self._head.size)
            found = _told(record)
            if found is None or (found.branch, found.sequence) != (branch, place.sequence):
                raise Odd
            if record.kind == BRANCH:
                return Last(found.journal, found.sequence, read_branch(record).sha256)
            return Last(found.journal, found.sequence, events.digest(read_signed(record).event))
        except Torn as torn:
            raise Odd from torn

    def _make(self, source: Source) -> None:
        """Forget the file; hold everything in memory until the next update writes it anew."""
        self._header = None
        self._recent = _scan(source, source.base, self._head.size)

    def _patch(self, places: Mapping[bytes, Place], head: Head) -> None:
        if self._header is None:
            raise Odd
        slots = self._header.slots
        if 2 * (self._header.used + len(places)) > slots:
            self._grow(places, head)
            return
        used = self._header.used
        with Source.open(self._files.path(INDEX)) as source, self._files.patch(INDEX) as out:
            for wanted, place in places.items():
                at, former = _probe(source, slots, wanted)
                used += former is None
                os.pwrite(out.fileno(), _slot(wanted, place), _HEADER_ROOM + at * _SLOT_ROOM)
            os.pwrite(out.fileno(), _header(head, slots, used), 0)

    def _grow(self, places: Mapping[bytes, Place], head: Head) -> None:
        self._write({**self._former(), **places}, head)

    def _renew(self, places: Mapping[bytes, Place], head: Head) -> None:
        if self._head.size and (self._header is not None or self._recent is None):
            with open_events(self._files.path(EVENTS)) as source:
                self._make(source)
        self._write({**(self._recent or {}), **places}, head)

    def _write(self, places: Mapping[bytes, Place], head: Head) -> None:
        """A new file with room to grow, in one step."""
        slots = _FEWEST
        while slots < 4 * len(places):
            slots *= 2
        table = [_EMPTY] * slots
        for wanted, place in places.items():
            at = _home(wanted, slots)
            while table[at] != _EMPTY:
                at = (at + 1) % slots
            table[at] = _slot(wanted, place)
        self._files.write_atomic(INDEX, _header(head, slots, len(places)) + b"".join(table))


_NOBODY = "0" * 32


def _sound(data: bytes) -> bool:
    """Whether the bytes end with the CRC-32 of those before."""
    return _CHECKSUM.pack(zlib.crc32(data[: -_CHECKSUM.size])) == data[-_CHECKSUM.size :]


def _header(head: Head, slots: int, used: int) -> bytes:
    journal = bytes.fromhex(head.journal_at(head.size) or _NOBODY)
    data = _HEADER.pack(_MAGIC, head.size, slots, used, journal)
    return (data + _CHECKSUM.pack(zlib.crc32(data))).ljust(_HEADER_ROOM, b"\0")


def _slot(wanted: bytes, place: Place) -> bytes:
    data = _SLOT.pack(wanted, place.offset, place.sequence)
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _home(wanted: bytes, slots: int) -> int:
    """Where probing for the branch begins."""
    return int.from_bytes(wanted[:8], "big") % slots


def _probe(source: Source, slots: int, wanted: bytes) -> tuple[int, Place | None]:
    """The slot of the branch, or the empty one that it would take; Odd if there is neither."""
    window, base, home = b"", 0, _home(wanted, slots)
    for step in range(slots):
        at = (home + step) % slots
        if step % _WINDOW == 0 or at == 0:
            window, base = source.read(_HEADER_ROOM + at * _SLOT_ROOM, _WINDOW * _SLOT_ROOM), at
        data = window[(at - base) * _SLOT_ROOM : (at - base + 1) * _SLOT_ROOM]
        if data == _EMPTY:
            return at, None
        found, place = _read_slot(data)
        if found == wanted:
            return at, place
    raise Odd


def _read_slot(data: bytes) -> tuple[bytes, Place]:
    if len(data) != _SLOT_ROOM or not _sound(data):
        raise Odd
    wanted, offset, sequence = _SLOT.unpack_from(data)
    return wanted, Place(offset, sequence)


def _tables(source: Source) -> Iterator[list[bytes]]:
    """The slots, occupied or not, some thousand at a time."""
    offset = _HEADER_ROOM
    while data := source.read(offset, 2048 * _SLOT_ROOM):
        yield [data[at : at + _SLOT_ROOM] for at in range(0, len(data), _SLOT_ROOM)]
        offset += len(data)


def _scan(source: Source, start: int, end: int) -> dict[bytes, Place]:
    """The last event of each branch that [start, end) of the events file tells of."""
    places: dict[bytes, Place] = {}
    for record in records(source, start, end):
        found = _told(record)
        if found is not None:
            places[key(found.branch)] = Place(record.offset, found.sequence)
    return places


def _told(record: Record) -> Glance | None:
    """The event that a record is, or the dropped one for which it stands."""
    if record.kind == BRANCH:
        told = read_branch(record)
        return Glance(told.branch, told.journal, told.sequence)
    if record.kind != EVENT:
        return None
    return glance(record.offset, read_signed(record).event)
