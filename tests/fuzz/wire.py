"""Targets of the wire that read names, JSON and events."""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import wirekit
from fuzz import mutate, seeds
from fuzz.target import Target, lines, value_or_refused

from hgext_zmqhooks.journal.format import Torn
from hgext_zmqhooks.journal.glance import glance
from hgext_zmqhooks.relay import reading
from hgext_zmqhooks.service import parsing
from hgext_zmqhooks.wire import envelope, events, reader, topics
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.topics import Pattern, Walk
from hgext_zmqhooks.wire.values import Event

EVENTS = seeds.texts("events", "events", "event")
BODY = EVENTS[0]
SIGNATURE = bytes.fromhex(seeds.vectors("events")["events"][0]["signature"])
RUNS = ("", "a", "a/b")
PUBLIC = wirekit.key("publisher").public


def topic(data: bytes) -> None:
    """A text that splits is the topic of what it splits into, or it is refused."""
    text = data.decode(errors="surrogateescape")
    if parts := value_or_refused(topics.split, text):
        scheme, name, subject = parts
        source = topics.source(scheme, name)
        assert topics.topic(source, subject) == text
        assert topics.split_source(source) == (scheme, name)
    value_or_refused(topics.split_source, text)


def pattern(data: bytes) -> None:
    """A pattern is kept as written, and both ways to match it agree, on any text; or refused."""
    text, subject = [*lines(data, 2), b""][:2]
    given = subject.decode(errors="surrogateescape")
    found = value_or_refused(Pattern.parse, text.decode(errors="surrogateescape"))
    if found is None:
        return
    assert found.text.encode() == text
    assert found.matches(given) is Walk(found.text).fits(given)
    if value_or_refused(topics.split, given):
        assert found.meets(Pattern(given)) is found.matches(given)
        assert not found.matches(given) or given.startswith(found.prefix)
        source = given.rsplit(":", 2)[0]
        assert not found.matches(given) or found.matches_source(source)
        assert not found.covers(source) or found.matches(given)


def within(data: bytes) -> None:
    """Where one pattern lies within another, every topic that fits the one fits the other."""
    one, other, given = [*lines(data, 3), b"", b""][:3]
    inner = value_or_refused(Pattern.parse, one.decode(errors="surrogateescape"))
    outer = value_or_refused(Pattern.parse, other.decode(errors="surrogateescape"))
    if inner is None or outer is None:
        return
    assert inner.within(inner)
    if inner.within(outer):
        texts = [given.decode(errors="surrogateescape")]
        texts += [inner.text.replace("**", "*").replace("*", run).replace("?", "x") for run in RUNS]
        for text in texts:
            assert not inner.matches(text) or outer.matches(text)


def json_value(data: bytes) -> None:
    """JSON that is read is written, and read again, as the same value; or ValueError."""
    try:
        value = reader.parse(data)
    except ValueError:
        return
    written = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert repr(reader.parse(written.encode())) == repr(value)


def event(data: bytes) -> None:
    """An event is refused, or its bytes stand for the same event to each of our four readers."""
    found = value_or_why(events.decode, data)
    assert repr(value_or_why(parsing.decode, data)) == repr(found)
    if isinstance(found, Refused):
        with suppress(Torn):
            glance(0, data)
        return
    assert events.decode(events.encode(found)) == found
    assert topics.split(found.topic) == ("hg", found.repo, found.branch)
    seen = glance(0, data)
    assert seen == (found.branch, found.journal, found.sequence, found.time)
    at_relay = reading._decode_envelope(data)
    assert topics.topic(at_relay.source, at_relay.subject) == found.topic


def value_or_why(read: Callable[[bytes], Event], data: bytes) -> Event | Refused:
    """What a reader makes of it; why it refuses counts too."""
    try:
        return read(data)
    except Refused as refused:
        return refused


def dsse(data: bytes) -> None:
    """The pre-authentication encoding gives back the one body that is in it, and no other body has the signature of a signed one."""  # noqa: E501
    kind, body = envelope.PAYLOAD_TYPE, envelope.pae(data)
    first, length, name, size, rest = body.split(b" ", 4)
    assert (first, int(length), name, int(size), rest) == (
        b"DSSEv1",
        len(kind),
        kind,
        len(data),
        data,
    )
    assert envelope.verified(body, SIGNATURE, PUBLIC) is (data == BODY)
    assert envelope.verified(envelope.pae(BODY), data, PUBLIC) is (data == SIGNATURE)


TARGETS = (
    Target(
        "topic",
        topic,
        [
            *seeds.texts("topics", "topics", "topic"),
            *seeds.texts("topics", "topics", "source"),
            *seeds.texts("topics", "bad_topics"),
        ],
        size=512,
    ),
    Target(
        "pattern",
        pattern,
        [
            *seeds.texts("topics", "bad_patterns"),
            *(
                f"{item['pattern']}\n{item['topic']}".encode()
                for item in seeds.vectors("topics")["patterns"]
            ),
        ],
        size=256,
    ),
    Target(
        "within",
        within,
        [
            f"{item['pattern']}\n{other['pattern']}\n{item['topic']}".encode()
            for item, other in pairwise(seeds.vectors("topics")["patterns"])
        ],
        size=256,
    ),
    Target("json", json_value, EVENTS, mutate.json_bytes),
    Target("event", event, EVENTS, mutate.json_bytes),
    Target("dsse", dsse, [*EVENTS[:3], SIGNATURE]),
)
