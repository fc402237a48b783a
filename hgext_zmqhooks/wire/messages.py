"""The four frames that carry what verbs.py lists, and the limits of a session.

    "zmqhooks/1" | verb | JSON header | payload

The payload is empty but for EVENTS, where it holds signature (64 bytes) and event of each record,
one after another, as the header's `records` ([sequence, certificate SHA-256, length of event])
say.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .envelope import SIGNATURE_LENGTH
from .errors import Refused
from .events import MAX_LENGTH as MAX_EVENT
from .events import dumps
from .reader import Reader, parse
from .verbs import (
    VERBS,
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Position,
    Record,
    SessionRefused,
    Since,
    Welcome,
)

VERSION = b"zmqhooks/1"
MAX_MESSAGE = 2_097_152
"""Bytes of header and payload; a longer message is refused."""
MAX_RECORDS = 1000
MAX_BATCH = 1_048_576
"""Bytes of header and payload at which a relay ends a batch; one record may exceed it."""
BEAT_SECONDS = 5.0
SILENCE_SECONDS = 15.0
MAX_PATTERNS = 1000
MAX_PATTERN_TEXT = 65_536
"""Characters of all patterns of a FOLLOW; making matchers of a million takes a relay a second."""

_JOURNAL = re.compile("[0-9a-f]{32}")
_SHA256 = re.compile("[0-9a-f]{64}")
_NAME = re.compile(".{1,1024}", re.DOTALL)
_ID = re.compile("[0-9A-Za-z_-]{1,64}")
_KIND = re.compile("[a-z0-9-]{1,64}")


def cost(frames: Sequence[bytes]) -> int:
    """Bytes of credit that a message takes.

    >>> cost(encode(Beat()))
    23
    """
    return len(frames[2]) + len(frames[3])


def encode(message: Message) -> list[bytes]:
    """The four frames.

    >>> encode(Bye("stopping", number=1))
    [b'zmqhooks/1', b'BYE', b'{"number":1,"reason":"stopping"}', b'']
    """
    header, payload = _header(message)
    numbered = {"number": message.number, **header}
    return [VERSION, VERBS[type(message)], dumps(numbered), payload]


def _header(message: Message) -> tuple[dict[str, object], bytes]:
    header: dict[str, object]
    payload = b""
    match message:
        case Hello():
            header = {
                "certificate": message.certificate.decode(),
                "name": message.name,
                "store": message.store,
                "instance": message.instance,
            }
        case Welcome():
            header = {"name": message.name, "journals": _infos(message.journals)}
        case Follow():
            header = {
                "round": message.round,
                "patterns": message.patterns,
                "positions": {key: _position(value) for key, value in message.positions.items()},
                "credit": message.credit,
            }
        case Events():
            header = {
                "round": message.round,
                "journal": message.journal,
                "scanned": message.scanned,
                "certificates": [token.decode() for token in message.certificates],
                "records": [[r.sequence, r.certificate, len(r.event)] for r in message.records],
            }
            payload = b"".join([r.signature + r.event for r in message.records])
        case Ack():
            header = {
                "round": message.round,
                "positions": message.positions,
                "credit": message.credit,
            }
        case Beat():
            header = {"heads": _infos(message.heads)}
        case Bye():
            header = {"reason": message.reason}
        case _:
            header = {"kind": message.kind, "detail": message.detail}
    return header, payload


def _infos(infos: Sequence[JournalInfo]) -> list[dict[str, object]]:
    return [
        {
            "journal": info.journal,
            "repo": info.repo,
            "first": info.first,
            "sequence": info.sequence,
            "closed": info.closed,
        }
        for info in infos
    ]


def _position(value: Position) -> object:
    return {"since": value.seconds} if isinstance(value, Since) else value


def decode(frames: Sequence[bytes]) -> Message:
    """The message in these frames.

    Refused "bad-frames", "bad-version" or "bad-message"; a message larger than 2 MiB is not read.
    """
    if len(frames) != 4:
        raise Refused("bad-frames", f"{len(frames)} frames instead of 4")
    if frames[0] != VERSION:
        raise Refused("bad-version", f"{frames[0][:40]!r} instead of {VERSION.decode()}")
    if cost(frames) > MAX_MESSAGE:
        raise Refused("bad-message", f"{cost(frames)} bytes, at most {MAX_MESSAGE}")
    read = _READERS.get(frames[1])
    if read is None:
        raise Refused("bad-message", f"unknown verb {frames[1][:40]!r}")
    try:
        value = parse(frames[2])
    except ValueError as error:
        raise Refused("bad-message", f"the header is not JSON ({error})") from None
    if frames[3] and frames[1] != b"EVENTS":
        raise Refused("bad-message", f"{frames[1].decode()} has a payload")
    header = Reader(value, "bad-message")
    return replace(read(header, frames[3]), number=header.number("number"))


def _read_hello(header: Reader, _: bytes) -> Hello:
    return Hello(
        certificate=header.text("certificate").encode(),
        name=header.text("name", _NAME),
        store=header.text("store", _ID),
        instance=header.text("instance", _ID),
    )


def _read_info(value: Reader) -> JournalInfo:
    return JournalInfo(
        journal=value.text("journal", _JOURNAL),
        repo=value.text("repo"),
        first=value.number("first"),
        sequence=value.number("sequence"),
        closed=value.flag("closed"),
    )


def _read_welcome(header: Reader, _: bytes) -> Welcome:
    return Welcome(header.text("name", _NAME), header.each("journals", _read_info))


def _read_follow(header: Reader, _: bytes) -> Follow:
    patterns = header.texts("patterns")
    if len(patterns) > MAX_PATTERNS:
        raise Refused("bad-message", f"{len(patterns)} patterns, at most {MAX_PATTERNS}")
    if sum(map(len, patterns)) > MAX_PATTERN_TEXT:
        raise Refused("bad-message", f"patterns of more than {MAX_PATTERN_TEXT} characters")
    positions = {
        _journal(key): _read_position(value) for key, value in header.mapping("positions").items()
    }
    return Follow(patterns, positions, header.number("credit", 1), header.number("round"))


def _journal(key: str) -> str:
    if not _JOURNAL.fullmatch(key):
        raise Refused("bad-message", f"{key[:64]!r} is not a journal")
    return key


def _read_position(value: object) -> Position:
    match value:
        case None:
            return None
        case int() if type(value) is int and 0 <= value < 2**63:
            return value
        case {"since": int() | float() as seconds} if _is_time(seconds):
            return Since(float(seconds))
    raise Refused("bad-message", "a position is a sequence, null or {since: seconds}")


def _is_time(seconds: float) -> bool:
    return type(seconds) is not bool and 0 <= seconds < 2**53


def _read_events(header: Reader, payload: bytes) -> Events:
    rows = header.items("records")
    if len(rows) > MAX_RECORDS:
        raise Refused("bad-message", f"{len(rows)} records, at most {MAX_RECORDS}")
    records, start, before = [], 0, 0
    for row in rows:
        record = _read_record(row, payload, start)
        if record.sequence <= before:
            raise Refused("bad-message", f"record {record.sequence} after {before}")
        records.append(record)
        before = record.sequence
        start += SIGNATURE_LENGTH + len(record.event)
    scanned = header.number("scanned")
    if start != len(payload) or scanned < before:
        raise Refused("bad-message", "records and payload do not fit each other")
    return Events(
        journal=header.text("journal", _JOURNAL),
        scanned=scanned,
        certificates=tuple([token.encode() for token in header.texts("certificates")]),
        records=tuple(records),
        round=header.number("round"),
    )


def _read_record(row: object, payload: bytes, start: int) -> Record:
    match row:
        case [int(sequence), str(certificate), int(length)] if (
            type(sequence) is int
            and type(length) is int
            and 0 < sequence < 2**63
            and 0 < length <= MAX_EVENT
            and _SHA256.fullmatch(certificate)
        ):
            end = start + SIGNATURE_LENGTH + length
            if end > len(payload):
                raise Refused("bad-message", "the payload ends inside a record")
            split = start + SIGNATURE_LENGTH
            return Record(sequence, certificate, payload[start:split], payload[split:end])
    raise Refused("bad-message", "a record is [sequence, certificate SHA-256, length]")


def _read_ack(header: Reader, _: bytes) -> Ack:
    positions = {}
    for key, value in header.mapping("positions").items():
        if type(value) is not int or not 0 <= value < 2**63:
            raise Refused("bad-message", f"position of {key[:64]!r} is not a sequence")
        positions[_journal(key)] = value
    return Ack(positions, header.number("credit"), header.number("round"))


def _read_beat(header: Reader, _: bytes) -> Beat:
    return Beat(header.each("heads", _read_info))


def _read_bye(header: Reader, _: bytes) -> Bye:
    return Bye(header.text("reason"))


def _read_refused(header: Reader, _: bytes) -> SessionRefused:
    return SessionRefused(header.text("kind", _KIND), header.text("detail"))


_READERS: Mapping[bytes, Callable[[Reader, bytes], Message]] = {
    b"HELLO": _read_hello,
    b"WELCOME": _read_welcome,
    b"FOLLOW": _read_follow,
    b"EVENTS": _read_events,
    b"ACK": _read_ack,
    b"BEAT": _read_beat,
    b"BYE": _read_bye,
    b"REFUSED": _read_refused,
}
