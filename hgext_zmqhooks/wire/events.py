"""Events: what one Mercurial transaction did to one named branch, as typed value and exact bytes.

The bytes are a CloudEvents 1.0 JSON object in UTF-8 without insignificant whitespace; keys come in
the order below, empty lists and unset optional keys are left out (docs/reference/events.md):

    {"specversion","type","source","subject","id","time","datacontenttype","sequence",
     "traceparent"?,
     "data":{"repo","branch","journal","sequence","previous","continues"?,"transaction","pusher"?,
             "origin","heads"?,"summary"?,"changesets"?,"bookmarks"?,"tags"?,"phases"?,
             "obsoleted"?,"removed"?}}

`encode` and `assemble` are the only places that write them; a receiver keeps the bytes it got.
`decode` accepts keys it does not know, as consumers of a published form must, and refuses an
envelope that says something else than its data.
"""

import hashlib
import json
import re
from dataclasses import fields
from datetime import datetime
from typing import Any

from . import topics
from .errors import Refused
from .reader import Reader, parse
from .values import (
    BASELINE,
    LISTS,
    ORIGINS,
    TRANSACTION,
    Changeset,
    Continued,
    Draft,
    Event,
    Heads,
    Item,
    Link,
    Move,
    Obsoleted,
    PhaseMove,
    Place,
    Pusher,
    Summary,
    Transaction,
)

__all__ = [
    "BASELINE",
    "LISTS",
    "MAX_LENGTH",
    "ORIGINS",
    "TRANSACTION",
    "Changeset",
    "Continued",
    "Draft",
    "Event",
    "Heads",
    "Item",
    "Link",
    "Move",
    "Obsoleted",
    "PhaseMove",
    "Place",
    "Pusher",
    "Summary",
    "Transaction",
    "assemble",
    "decode",
    "digest",
    "dumps",
    "encode",
    "encode_item",
]

MAX_LENGTH = 1_048_576
"""Bytes of the largest event that a receiver looks at; the publisher's own limit is 256 KiB."""

_NODE = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_JOURNAL = re.compile("[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_NAME = re.compile(".+", re.DOTALL)
_PHASE = re.compile("public|draft|secret")


def digest(event: bytes) -> str:
    """Hex SHA-256 of the exact bytes: how the next event of the branch names this one."""
    return hashlib.sha256(event).hexdigest()


def dumps(value: object) -> bytes:
    """JSON as every event is written: UTF-8, no insignificant whitespace.

    >>> dumps({"a": ["é", None]}).decode()
    '{"a":["é",null]}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def encode_item(item: Item) -> bytes:
    """One element of a list, as it stands in the event.

    >>> encode_item(Move("@", None, "0" * 40)).decode()
    '{"name":"@","old":null,"new":"0000000000000000000000000000000000000000"}'
    """
    return dumps(item if isinstance(item, str) else _plain(item))


def _plain(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def encode(event: Event) -> bytes:
    """The exact bytes of an event."""
    shared = {item.name for item in fields(Event)}
    place = {item.name: getattr(event, item.name) for item in fields(Place) if item.name in shared}
    draft = {item.name: getattr(event, item.name) for item in fields(Draft) if item.name in shared}
    lists = {name: [encode_item(item) for item in getattr(event, name)] for name in LISTS}
    return assemble(Draft(**draft, lists=lists), Place(**place))


def assemble(draft: Draft, place: Place) -> bytes:
    """The exact bytes of a draft once it has its place; the only writer of the form."""
    source = topics.source("hg", place.repo)
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "type": draft.type,
        "source": source,
        "subject": draft.branch,
        "id": f"{place.journal}/{place.sequence}",
        "time": draft.time,
        "datacontenttype": "application/json",
        "sequence": f"{place.sequence:020d}",
    }
    if draft.traceparent is not None:
        envelope["traceparent"] = draft.traceparent
    parts = [dumps(_head(draft, place))[:-1]]
    for name in LISTS:
        if items := draft.lists.get(name):
            parts += [b',"%b":[' % name.encode(), b",".join(items), b"]"]
    return b'%b,"data":%b}}' % (dumps(envelope)[:-1], b"".join(parts))


def _head(draft: Draft, place: Place) -> dict[str, object]:
    """`data` without its lists."""
    data: dict[str, object] = {
        "repo": place.repo,
        "branch": draft.branch,
        "journal": place.journal,
        "sequence": place.sequence,
        "previous": _plain(place.previous) if place.previous else None,
    }
    if place.continuing and place.previous is None:
        data["continues"] = _plain(place.continues) if place.continues else None
    data["transaction"] = _plain(draft.transaction)
    if draft.pusher:
        data["pusher"] = _plain(draft.pusher)
    data["origin"] = draft.origin
    if draft.heads:
        data["heads"] = _plain(draft.heads)
    if draft.summary:
        data["summary"] = _plain(draft.summary)
    return data


def decode(data: bytes) -> Event:
    """The typed value of an event's bytes; Refused "malformed-event" if it has not the form."""
    if len(data) > MAX_LENGTH:
        raise Refused("malformed-event", f"{len(data)} bytes, at most {MAX_LENGTH}")
    if b"\n" in data or b"\r" in data:  # a script reads one event per line
        raise Refused("malformed-event", "it is not on one line")
    try:
        document = parse(data)
    except ValueError as error:
        raise Refused("malformed-event", f"not JSON in UTF-8 ({error})") from None
    envelope = Reader(document, "malformed-event")
    event = _event(envelope)
    _check_envelope(envelope, event)
    _check_order(event)
    return event


def _check_envelope(envelope: Reader, event: Event) -> None:
    """The envelope repeats the data for CloudEvents tools: both must say the same."""
    expected = (
        ("specversion", "1.0"),
        ("source", event.source),
        ("subject", event.branch),
        ("id", event.id),
        ("datacontenttype", "application/json"),
        ("sequence", f"{event.sequence:020d}"),
    )
    for key, value in expected:
        if envelope.get(key) != value:
            raise envelope.refuse(key, f"{value!r}, as the data says")


def _check_order(event: Event) -> None:
    """Numbers that contradict each other, and a time that no calendar has."""
    if event.transaction.part > event.transaction.parts:
        raise Refused("malformed-event", "data.transaction.part is beyond its parts")
    if event.previous is not None and event.previous.sequence >= event.sequence:
        raise Refused("malformed-event", "data.previous is not before it")
    try:
        datetime.fromisoformat(event.time)
    except ValueError:
        raise Refused("malformed-event", f"time {event.time!r} does not exist") from None


def _event(envelope: Reader) -> Event:
    return envelope.inside("data", lambda data: _with_data(envelope, data))


def _with_data(envelope: Reader, data: Reader) -> Event:
    previous = data.perhaps("previous", _link)
    if previous is not None and "continues" in data:
        raise data.refuse("continues", "for an event that has a previous one")
    return Event(
        type=envelope.text("type", _NAME),
        time=envelope.text("time", _TIME),
        traceparent=envelope.maybe("traceparent", _NAME),
        repo=data.text("repo", _NAME),
        branch=data.text("branch", _NAME),
        journal=data.text("journal", _JOURNAL),
        sequence=data.number("sequence", 1),
        previous=previous,
        continuing="continues" in data,
        continues=data.perhaps("continues", _continued),
        transaction=data.inside("transaction", _transaction),
        pusher=data.perhaps("pusher", _pusher),
        origin=data.text("origin", _NAME),
        heads=data.perhaps("heads", _heads),
        summary=data.perhaps("summary", _summary),
        changesets=data.each("changesets", _changeset),
        bookmarks=data.each("bookmarks", _move),
        tags=data.each("tags", _move),
        phases=data.each("phases", _phase_move),
        obsoleted=data.each("obsoleted", _obsoleted),
        removed=data.texts("removed", _NODE),
    )


def _link(value: Reader) -> Link:
    return Link(value.number("sequence", 1), value.text("sha256", _SHA256))


def _continued(value: Reader) -> Continued:
    link = _link(value)
    return Continued(value.text("journal", _JOURNAL), link.sequence, link.sha256)


def _transaction(value: Reader) -> Transaction:
    return Transaction(
        id=value.text("id", _NAME),
        name=value.text("name"),
        source=value.maybe("source"),
        part=value.number("part", 1),
        parts=value.number("parts", 1),
    )


def _pusher(value: Reader) -> Pusher:
    return Pusher(value.maybe("user"), value.text("via", _NAME), value.maybe("address"))


def _heads(value: Reader) -> Heads:
    return Heads(
        tip=value.maybe("tip", _NODE),
        count=value.number("count"),
        added=value.texts("added", _NODE),
        removed=value.texts("removed", _NODE),
    )


def _summary(value: Reader) -> Summary:
    return Summary(
        tip=value.text("tip", _NODE),
        heads=value.texts("heads", _NODE),
        changesets=value.number("changesets"),
    )


def _changeset(value: Reader) -> Changeset:
    return Changeset(
        node=value.text("node", _NODE),
        parents=value.texts("parents", _NODE),
        user=value.text("user"),
        date=value.text("date"),
        description=value.text("description"),
        phase=value.text("phase", _PHASE),
        topic=value.maybe("topic"),
        closes_branch=value.flag("closes_branch"),
        files=value.texts("files"),
        truncated=value.flag("truncated"),
    )


def _move(value: Reader) -> Move:
    return Move(value.text("name", _NAME), value.maybe("old", _NODE), value.maybe("new", _NODE))


def _phase_move(value: Reader) -> PhaseMove:
    return PhaseMove(
        value.text("node", _NODE), value.maybe("old", _PHASE), value.text("new", _PHASE)
    )


def _obsoleted(value: Reader) -> Obsoleted:
    return Obsoleted(
        node=value.text("node", _NODE),
        successors=value.texts("successors", _NODE),
        operation=value.maybe("operation"),
        user=value.maybe("user"),
        date=value.maybe("date"),
    )
