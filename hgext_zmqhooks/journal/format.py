"""Records of the events file: their frames, and what is in them. Pure: bytes in, values out.

One record, big-endian:

    u32 length | u32 CRC-32 | u8 kind | payload          length and CRC cover kind and payload

    kind 1  certificate  the token of the certificate that the following events name
    kind 2  event        certificate SHA-256 (32) | signature (64) | event (JSON, exact bytes)
    kind 3  mark         u64 revisions | tip node (20): the unfiltered changelog after the
                         transaction; the last record of everything a transaction appended
    kinds 4 and 5        how a shortened file begins: see `origin.py`

Readers skip kinds they do not know. The events of a journal stand in the order of their sequences,
dense, and each event's certificate stands before it, behind the beginning of the same journal.
Anything else is `Torn`.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

EVENTS = "zmqhooks-events"
HEAD = "zmqhooks-head"
INDEX = "zmqhooks-index"
UNDONE = "zmqhooks-undone"

CERTIFICATE = 1
EVENT = 2
MARK = 3
ORIGIN = 4
BRANCH = 5

LONGEST = 4 << 20
"""Bytes of kind and payload of the longest record; a longer length is a torn record."""

_FRAME = struct.Struct(">IIB")
_CHECKED = 8
"""Bytes before those that length and CRC cover."""
_MARK = struct.Struct(">Q20s")
_SHA256 = 32
_SIGNATURE = 64

FRAME_LENGTH = _FRAME.size
MARK_LENGTH = FRAME_LENGTH + _MARK.size
"""Bytes of a whole mark record."""
SIGNED_AT = FRAME_LENGTH + _SHA256 + _SIGNATURE
"""Where the event begins in its record."""


class JournalError(Exception):
    """The root of what this room raises."""


class Torn(JournalError):  # noqa: N818 - the state of a record, read as a sentence
    """The file does not hold what it must from byte `offset` on; nothing of it was used.

    `reason`: what is wrong there, for a person.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        return f"torn record at byte {self.offset}: {self.reason}"


class Record(NamedTuple):
    """A whole record whose checksum is right; `offset`: where it begins in the file."""

    offset: int
    kind: int
    payload: bytes

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + FRAME_LENGTH + len(self.payload)


class Frame(NamedTuple):
    """The beginning of a record, from which alone a reader can step over it."""

    offset: int
    kind: int
    end: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How long the unfiltered changelog was after a transaction, and its last node (20 bytes)."""

    revisions: int
    tip: bytes

    def encode(self) -> bytes:
        """The payload of a mark record."""
        return _MARK.pack(self.revisions, self.tip)


class Signed(NamedTuple):
    """What an event record holds; `certificate` is the hex SHA-256 of the token."""

    certificate: str
    signature: bytes
    event: bytes


def frame(kind: int, payload: bytes) -> bytes:
    """A whole record.

    >>> frame(1, b"token").hex()
    '00000006e38b242001746f6b656e'
    """
    covered = bytes((kind,)) + payload
    if len(covered) > LONGEST:
        raise ValueError(f"a record of {len(covered)} bytes, at most {LONGEST}")
    return struct.pack(">II", len(covered), zlib.crc32(covered)) + covered


def signed(certificate: str, signature: bytes, event: bytes) -> bytes:
    """The payload of an event record."""
    if len(signature) != _SIGNATURE:
        raise ValueError(f"a signature of {len(signature)} bytes, not {_SIGNATURE}")
    return bytes.fromhex(certificate) + signature + event


def fingerprint(token: bytes) -> str:
    """How event records name a certificate: the hex SHA-256 of its token."""
    return hashlib.sha256(token).hexdigest()


def read_frame(data: bytes, offset: int, at: int = 0) -> Frame:
    """The frame at data[at:], which is byte `offset` of the file; Torn if it is none."""
    if len(data) - at < FRAME_LENGTH:
        raise Torn(offset, f"{len(data) - at} bytes where a record begins")
    length, _checksum, kind = _FRAME.unpack_from(data, at)
    if not 1 <= length <= LONGEST:
        raise Torn(offset, f"length {length}, must be from 1 to {LONGEST}")
    return Frame(offset, kind, offset + _CHECKED + length)


def whole(data: bytes, base: int) -> Iterator[Record]:
    """The records that `data`, which begins at byte `base` of the file, holds completely.

    Ends before the first one that goes beyond `data`. Torn at a wrong checksum or length.
    """
    at = 0
    while len(data) - at >= FRAME_LENGTH:
        found = read_frame(data, base + at, at)
        end = found.end - base
        if end > len(data):
            return
        (checksum,) = struct.unpack_from(">I", data, at + 4)
        covered = data[at + _CHECKED : end]
        if zlib.crc32(covered) != checksum:
            raise Torn(found.offset, "wrong checksum")
        yield Record(found.offset, found.kind, covered[1:])
        at = end


def scan(data: bytes, base: int = 0) -> Iterator[Record]:
    """The records of `data`, to its end; Torn where it is not a sequence of whole records."""
    end = base
    for record in whole(data, base):
        yield record
        end = record.end
    if end - base < len(data):
        missing = read_frame(data, end, end - base).end - base - len(data)
        raise Torn(end, f"{missing} bytes of the record are missing")


def read_signed(record: Record) -> Signed:
    """What an event record holds; Torn if it is too short for one."""
    payload = record.payload
    if len(payload) <= _SHA256 + _SIGNATURE:
        raise Torn(record.offset, f"an event record of {len(payload)} bytes")
    return Signed(
        payload[:_SHA256].hex(),
        payload[_SHA256 : _SHA256 + _SIGNATURE],
        payload[_SHA256 + _SIGNATURE :],
    )


def read_mark(record: Record) -> Mark:
    """What a mark record holds; Torn if it has another length."""
    if len(record.payload) != _MARK.size:
        raise Torn(record.offset, f"a mark of {len(record.payload)} bytes")
    return Mark(*_MARK.unpack(record.payload))
