"""What Hypothesis draws for the wire: names, values, messages, and bytes that nearly are some."""

import string
from dataclasses import replace
from typing import Any

import wirekit
from hypothesis import strategies as st

from hgext_zmqhooks.wire import messages, topics, values
from hgext_zmqhooks.wire.events import BASELINE, TRANSACTION
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Record,
    SessionRefused,
    Since,
    Welcome,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.text(
    "ab/:%*?.2\n\x85é", min_size=1, max_size=8
)


def hexes(length: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=length // 2, max_size=length // 2).map(bytes.hex)


nodes, sha256s, journals = hexes(40), hexes(64), hexes(32)
maybe_node = st.none() | nodes
numbers = st.integers(1, 2**63 - 1)
schemes = st.sampled_from(["hg", "git", "buildkite", "a+b.c-1"])
phases = st.sampled_from(["public", "draft", "secret"])
times = st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "Z")


def tuples(each: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(each, max_size=3).map(tuple)


changesets = st.builds(
    values.Changeset,
    node=nodes,
    parents=tuples(nodes),
    user=text,
    date=text,
    description=text,
    phase=phases,
    topic=st.none() | text,
    closes_branch=st.booleans(),
    files=tuples(text),
    truncated=st.booleans(),
)
moves = st.builds(values.Move, names, maybe_node, maybe_node)
heads = st.builds(values.Heads, maybe_node, st.integers(0, 2**63 - 1), tuples(nodes), tuples(nodes))
summaries = st.builds(values.Summary, nodes, tuples(nodes), st.integers(0, 2**63 - 1))
pushers = st.builds(values.Pusher, st.none() | text, names, st.none() | text)


items: dict[str, st.SearchStrategy[values.Item]] = {
    "bookmarks": moves,
    "tags": moves,
    "phases": st.builds(values.PhaseMove, nodes, st.none() | phases, phases),
    "obsoleted": st.builds(
        values.Obsoleted,
        node=nodes,
        successors=tuples(nodes),
        operation=st.none() | text,
        user=st.none() | text,
        date=st.none() | text,
    ),
    "removed": nodes,
}
"""What the lists hold besides changesets."""


@st.composite
def transactions(draw: st.DrawFn) -> values.Transaction:
    parts = draw(numbers)
    part = draw(st.integers(1, parts))
    return values.Transaction(draw(names), draw(text), draw(st.none() | text), part, parts)


@st.composite
def events(draw: st.DrawFn) -> values.Event:
    """Any event that a publisher could write."""
    sequence = draw(numbers)
    previous = None
    if sequence > 1:
        before = st.builds(values.Link, st.integers(1, sequence - 1), sha256s)
        previous = draw(st.none() | before)
    continuing = previous is None and draw(st.booleans())
    continues = st.none() | st.builds(values.Continued, journals, numbers, sha256s)
    return values.Event(
        type=draw(st.sampled_from([TRANSACTION, BASELINE])),
        repo=draw(names),
        branch=draw(names),
        journal=draw(journals),
        sequence=sequence,
        time=draw(times),
        transaction=draw(transactions()),
        previous=previous,
        continuing=continuing,
        continues=draw(continues) if continuing else None,
        traceparent=draw(st.none() | names),
        pusher=draw(st.none() | pushers),
        origin=draw(st.sampled_from(values.ORIGINS)),
        heads=draw(st.none() | heads),
        summary=draw(st.none() | summaries),
        changesets=draw(tuples(changesets)),
        bookmarks=draw(tuples(moves)),
        tags=draw(tuples(moves)),
        phases=draw(tuples(items["phases"])),
        obsoleted=draw(tuples(items["obsoleted"])),
        removed=draw(tuples(nodes)),
    )


# Topics and patterns


@st.composite
def any_topic(draw: st.DrawFn) -> str:
    return topics.topic(topics.source(draw(schemes), draw(names)), draw(names))


globs = st.lists(
    st.sampled_from(["*", "**", "?", "a", "b", "/", "ab", "%3A", "é"]), min_size=1, max_size=8
).map("".join)
patterns = st.builds("hg:{}:{}:".format, globs, globs).map(topics.Pattern.parse)
short_topics = st.builds(
    lambda name, subject: topics.topic(topics.source("hg", name), subject),
    st.text("ab/:é", min_size=1, max_size=10),
    st.text("ab/:é", min_size=1, max_size=10),
)


# Sessions

identifiers = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
infos = st.builds(JournalInfo, journals, text, st.integers(0, 9), st.integers(0, 9), st.booleans())
positions = st.none() | st.integers(0, 2**63 - 1) | st.builds(Since, st.floats(0, 2**50))
tokens = st.text(string.ascii_letters + "._-", max_size=30).map(str.encode)


@st.composite
def batches(draw: st.DrawFn) -> Events:
    sequences = sorted(draw(st.sets(numbers, max_size=4)))
    event, signature = st.binary(min_size=1, max_size=40), st.binary(min_size=64, max_size=64)
    records = [
        Record(sequence, draw(sha256s), draw(signature), draw(event)) for sequence in sequences
    ]
    scanned = draw(st.integers(sequences[-1] if sequences else 0, 2**63 - 1))
    certificates = draw(tuples(tokens))
    return Events(draw(journals), scanned, certificates, tuple(records), draw(st.integers(0, 9)))


session_messages = st.builds(
    lambda message, number: replace(message, number=number),
    st.one_of(
        st.builds(Hello, tokens, names, identifiers, identifiers),
        st.builds(Welcome, names, tuples(infos)),
        st.builds(
            Follow,
            tuples(text),
            st.dictionaries(journals, positions, max_size=3),
            numbers,
            st.integers(0, 9),
        ),
        batches(),
        st.builds(
            Ack,
            st.dictionaries(journals, st.integers(0, 2**63 - 1), max_size=3),
            st.integers(0, 2**63 - 1),
            st.integers(0, 9),
        ),
        st.builds(Beat, tuples(infos)),
        st.builds(Bye, text),
        st.builds(SessionRefused, st.sampled_from(["bad-frames", "expired"]), text),
    ),
    st.integers(0, 2**63 - 1) | st.integers(1, 4),
)


# Bytes that nearly are something

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
"""JSON, with what is none: NaN and halves of characters."""


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Something right with a piece replaced, doubled or taken away."""
    data = draw(whole)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 12)))
    piece = draw(
        st.binary(max_size=4)
        | st.sampled_from([b'"', b"{", b"[", b"null", b"NaN", b"-1", b"\\ud800", b"9" * 5000])
        | st.just(data[start:end] * 2)
    )
    return data[:start] + piece + data[end:]


@st.composite
def edited(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with one value, anywhere in it, replaced or taken away."""
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 5)) == 0:
        return draw(json_values)
    if isinstance(document, list):
        index = draw(st.integers(0, len(document) - 1))
        return [*document[:index], draw(edited(document[index])), *document[index + 1 :]]
    key = draw(st.sampled_from(sorted(document)))
    if draw(st.integers(0, 5)) == 0:
        return {name: document[name] for name in document if name != key}
    return document | {key: draw(edited(document[key]))}


session_frames = st.lists(st.binary(max_size=30), max_size=6) | st.builds(
    lambda verb, header, payload: [messages.VERSION, verb, header, payload],
    st.sampled_from(sorted(messages.VERBS.values())),
    st.binary(max_size=30) | session_messages.map(lambda message: messages.encode(message)[2]),
    st.binary(max_size=200),
)

CERTIFICATE = wirekit.token()
