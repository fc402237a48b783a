"""Mutations that keep the structure: JSON, JSON in lines, JSON in a token, records of a journal.

All are functions of the bytes and of a source of chance; None: the bytes have not the structure.
"""

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any

from hgext_zmqhooks.journal import format as journal

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.0, 2**53, 2**63 - 1, 2**63, 10**400, 1e308, -0.0),
    *("", ":", "%", "*", "a", "é", "\0", "\n", "\x85", "\ud800", "0" * 32, "f" * 40, "a" * 64),
    *("hg:**:**:", "draft", [], {}, [None], [[]], {"": None}, "x" * 300),
)
"""Values that readers trip over."""
KEYS = ("", "a", "__class__", "journal", "sequence", "since", "crit", "more")
REPEATED = b'"a":1,"a":2'
KINDS = (0, 1, 2, 3, 4, 5, 6, 255)


def json_bytes(data: bytes, rng: Random) -> bytes | None:
    """JSON with one to three places changed; seldom one that is written in another way."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = edited(value, rng)
    text = json.dumps(
        value,
        ensure_ascii=rng.random() < 0.1,
        separators=(", ", ": ") if rng.random() < 0.1 else (",", ":"),
    ).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        text = text.replace(b"{", b"{" + REPEATED + b",", 1)
    return text


def edited(value: Any, rng: Random) -> Any:
    """A JSON value with something in it changed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _scalar(value, rng)
    if isinstance(value, list):
        return _list(list(value), rng)
    return _dict(dict(value), rng)


def _scalar(value: Any, rng: Random) -> Any:
    if isinstance(value, str) and rng.random() < 0.5:
        at = rng.randint(0, len(value))
        piece = rng.choice(("", "a", "0", ":", "%3A", "*", "/", "\n", "é", "\x00"))
        return value[:at] + piece + value[at + rng.randint(0, 2) :]
    if type(value) is int and rng.random() < 0.5:
        return rng.choice(
            (value + 1, value - 1, -value, value << 31, f"{value:x}", value % 2**53 / 1)
        )
    return rng.choice(ODD)


def _list(items: list[Any], rng: Random) -> list[Any]:
    at = rng.randrange(len(items))
    match rng.randrange(6):
        case 0:
            del items[at]
        case 1:
            items.insert(at, items[rng.randrange(len(items))])
        case 2:
            items.reverse()
        case _:
            items[at] = edited(items[at], rng)
    return items


def _dict(items: dict[str, Any], rng: Random) -> dict[str, Any]:
    key, other = rng.choice(list(items)), rng.choice(list(items))
    match rng.randrange(10):
        case 0:
            del items[key]
        case 1:
            items[key], items[other] = items[other], items[key]
        case 2:
            items[rng.choice(KEYS)] = rng.choice(ODD)
        case 3:
            items = dict(reversed(items.items()))
        case _:
            items[key] = edited(items[key], rng)
    return items


def a_line(data: bytes, rng: Random) -> bytes | None:
    """One of several lines, if it is JSON."""
    parts = data.split(b"\n")
    order = list(range(len(parts)))
    rng.shuffle(order)
    for at in order:
        changed = json_bytes(parts[at], rng)
        if changed is not None:
            return b"\n".join([*parts[:at], changed, *parts[at + 1 :]])
    return None


def token(data: bytes, rng: Random) -> bytes | None:
    """Header or claims of a compact JWS, each JSON in base64url."""
    segments = data.split(b".")
    at = rng.choice((0, 1, 1, 1))
    if len(segments) != 3:
        return None
    try:
        raw = base64.urlsafe_b64decode(segments[at] + b"=" * (-len(segments[at]) % 4))
    except binascii.Error:
        return None
    changed = json_bytes(raw, rng)
    if changed is None:
        return None
    segments[at] = base64.urlsafe_b64encode(changed).rstrip(b"=")
    return b".".join(segments)


def key_file(data: bytes, rng: Random) -> bytes | None:
    """JSON, whose certificate is a token."""
    try:
        document = json.loads(data)
        inner = document["certificate"].encode()
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return json_bytes(data, rng)
    changed = token(inner, rng) if rng.random() < 0.3 else None
    if changed is None:
        return json_bytes(data, rng)
    return json.dumps(document | {"certificate": changed.decode("ascii", "replace")}).encode()


def records(data: bytes, rng: Random) -> bytes | None:
    """The records of an events file, each framed anew with the right checksum."""
    found = list(_payloads(data))
    if not found:
        return None
    at = rng.randrange(len(found))
    kind, payload = found[at]
    match rng.randrange(8):
        case 0:
            del found[at]
        case 1:
            found.insert(at, found[rng.randrange(len(found))])
        case 2:
            found[at] = (rng.choice(KINDS), payload)
        case 3:
            rng.shuffle(found)
        case _:
            found[at] = (kind, _payload(kind, payload, rng))
    return b"".join(framed(*one) for one in found)


def _payload(kind: int, payload: bytes, rng: Random) -> bytes:
    start = 96 if kind == journal.EVENT else 0
    changed = json_bytes(payload[start:], rng)
    if changed is not None:
        return payload[:start] + changed
    at = rng.randint(0, len(payload))
    return payload[:at] + rng.randbytes(rng.randint(0, 3)) + payload[at + rng.randint(0, 3) :]


def framed(kind: int, payload: bytes) -> bytes:
    """A whole record, whatever its length."""
    covered = bytes((kind,)) + payload
    return struct.pack(">II", len(covered), zlib.crc32(covered)) + covered


def _payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each record; checksums are not looked at."""
    at = 0
    while len(data) - at > 8:
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end > len(data) or end == at + 8:
            return
        yield data[at + 8], data[at + 9 : end]
        at = end


def store(data: bytes, rng: Random) -> bytes | None:
    """A head, which is one line of JSON, and behind it the records of an events file."""
    head, line, events = data.partition(b"\n")
    if not line:
        return None
    if rng.random() < 0.5:
        changed = json_bytes(head, rng)
        return None if changed is None else changed.replace(b"\n", b"") + b"\n" + events
    changed = records(events, rng)
    return None if changed is None else head + b"\n" + changed
