"""One journal's region of the events file, as a reader finds its way in it.

Offsets of every 256th event are kept, found by stepping from frame to frame without reading the
payloads; the same walk notes where each certificate stands, so that the certificate of any event
is known wherever reading begins (the writer puts it in front of the event, behind the beginning
of the journal). Memory: eight bytes for 256 events, and a bounded number of last positions.
"""

from array import array
from collections import OrderedDict
from typing import NamedTuple

from .format import CERTIFICATE, EVENT, Record, Torn, fingerprint, read_signed
from .heads import Closed
from .reading import Source, frames, record_at, records

STRIDE = 256
"""Events from one kept offset to the next."""
POSITIONS = 64
"""Readers of one journal whose place is remembered."""
TOKENS = 16
"""Certificates of one journal kept in memory."""


class Stored(NamedTuple):
    """An event as it is journalled; `certificate` is the token."""

    sequence: int
    certificate: bytes
    signature: bytes
    event: bytes


class Region:
    """Finds and reads events of `info.journal`; all methods raise Torn, and OSError."""

    def __init__(self, info: Closed) -> None:
        self.info = info
        self._offsets = array("Q")
        self._certificates: dict[str, int] = {}
        self._tokens: dict[str, bytes] = {}
        self._frontier = info.start
        self._seen = info.first - 1
        self._positions: OrderedDict[int, int] = OrderedDict()

    def grown(self, info: Closed) -> bool:
        """Whether `info` is this region, or a longer one: then it takes it over."""
        old = self.info
        same = (old.journal, old.repo, old.first, old.start) == (
            info.journal,
            info.repo,
            info.first,
            info.start,
        )
        if not same or info.size < old.size or info.sequence < old.sequence:
            return False
        self.info = info
        return True

    def read(
        self, source: Source, after: int, max_records: int, max_bytes: int
    ) -> tuple[list[Stored], int]:
        """Events from `after` + 1 on, at least one if there is one, and where reading ended."""
        offset = self._find(source, after + 1)
        found: list[Stored] = []
        room = max_bytes
        try:
            for record in records(source, offset, self.info.size):
                if record.kind == EVENT:
                    stored = self._stored(source, after + len(found) + 1, record)
                    room -= len(stored.event) + len(stored.signature)
                    if found and room < 0:
                        break
                    found.append(stored)
                self._pass(record.kind, record.offset, record.end, record)
                offset = record.end
                if len(found) == max_records or after + len(found) == self.info.sequence:
                    break
        except Torn:
            if not found:
                raise
        if not found:
            raise self._missing(after + 1)
        self._remember(after + len(found) + 1, offset)
        return found, offset

    def _stored(self, source: Source, sequence: int, record: Record) -> Stored:
        found = read_signed(record)
        token = self._tokens.get(found.certificate)
        if token is None:
            token = self._load_token(source, record.offset, found.certificate)
        return Stored(sequence, token, found.signature, found.event)

    def _load_token(self, source: Source, offset: int, certificate: str) -> bytes:
        at = self._certificates.get(certificate)
        if at is None:
            raise Torn(offset, "its certificate does not stand before the event")
        if len(self._tokens) == TOKENS:
            self._tokens.clear()
        token = record_at(source, at, self.info.size).payload
        self._tokens[certificate] = token
        return token

    def _find(self, source: Source, sequence: int) -> int:
        """Where a walk to the event begins that meets no other event before it."""
        known = self._positions.get(sequence)
        if known is not None:
            return known
        if sequence > self._seen:
            offset, number = self._frontier, self._seen + 1
        else:
            step = (sequence - self.info.first) // STRIDE
            offset, number = self._offsets[step], self.info.first + step * STRIDE
        if number == sequence:
            return offset
        return self._walk(source, offset, number, sequence)

    def _walk(self, source: Source, offset: int, number: int, sequence: int) -> int:
        """Step from the event `number` at `offset` to the event `sequence`."""
        for frame in frames(source, offset, self.info.size):
            if frame.kind == EVENT:
                if number == sequence:
                    return frame.offset
                number += 1
            ahead = frame.kind == CERTIFICATE and frame.offset >= self._frontier
            record = record_at(source, frame.offset, frame.end) if ahead else None
            self._pass(frame.kind, frame.offset, frame.end, record)
        raise self._missing(sequence)

    def _pass(self, kind: int, offset: int, end: int, record: Record | None) -> None:
        """Learn from a record that nobody passed before."""
        if offset != self._frontier:
            return
        self._frontier = end
        if kind == EVENT:
            self._seen += 1
            if (self._seen - self.info.first) % STRIDE == 0:
                self._offsets.append(offset)
        elif kind == CERTIFICATE and record is not None:
            self._certificates[fingerprint(record.payload)] = offset

    def _remember(self, sequence: int, offset: int) -> None:
        self._positions[sequence] = offset
        self._positions.move_to_end(sequence)
        if len(self._positions) > POSITIONS:
            self._positions.popitem(last=False)

    def _missing(self, sequence: int) -> Torn:
        return Torn(self.info.size, f"the journal ends before its event {sequence}")
