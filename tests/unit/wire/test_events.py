"""Events: exact bytes out, typed values in, and nothing that two readers could take differently."""

import json
from typing import Any

import pytest
import wirekit
from wirekit import JOURNAL

from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.events import (
    BASELINE,
    Changeset,
    Continued,
    Event,
    Heads,
    Link,
    Move,
    Obsoleted,
    PhaseMove,
    Pusher,
    Summary,
    Transaction,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40
SHA = "d" * 64

FULL = wirekit.event(
    sequence=42,
    previous=Link(40, SHA),
    traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    transaction=Transaction("t", "push", "serve", 2, 3),
    pusher=Pusher("alice", "ssh", "192.0.2.7"),
    origin="catchup",
    heads=Heads(A, 1, (A,), (B,)),
    summary=Summary(A, (A, B), 12),
    changesets=(
        Changeset(
            node=A,
            parents=(B, C),
            user="Älice",
            date="2026-11-21T10:15:00+01:00",
            description="two\nlines",
            phase="draft",
            topic="t",
            closes_branch=True,
            files=("src/a.py", "ü"),
            truncated=True,
        ),
    ),
    bookmarks=(Move("@", None, A),),
    tags=(Move("1.0", A, None),),
    phases=(PhaseMove(B, "draft", "public"), PhaseMove(C, None, "secret")),
    obsoleted=(Obsoleted(node=B, successors=(A,), operation="amend", user="u", date="d"),),
    removed=(C,),
)
VALUES = {
    "least": wirekit.EVENT,
    "full": FULL,
    "baseline": wirekit.event(type=BASELINE, summary=Summary(A, (), 0)),
    "continuing a branch": wirekit.event(continuing=True, continues=Continued("f" * 32, 7, SHA)),
    "continuing without the branch": wirekit.event(continuing=True),
    "names": wirekit.event(repo="a:b/%*", branch="Ünï: \u2028\0"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_event_survives_its_bytes(value: Event) -> None:
    data = events.encode(value)

    assert events.decode(data) == value
    assert events.encode(events.decode(data)) == data
    assert b"\n" not in data


def test_keys_come_in_the_order_of_the_form() -> None:
    document = json.loads(events.encode(FULL))

    assert list(document) == [
        "specversion", "type", "source", "subject", "id", "time", "datacontenttype", "sequence",
        "traceparent", "data",
    ]  # fmt: skip
    assert list(document["data"]) == [
        "repo", "branch", "journal", "sequence", "previous", "transaction", "pusher", "origin",
        "heads", "summary", "changesets", "bookmarks", "tags", "phases", "obsoleted", "removed",
    ]  # fmt: skip


def test_what_is_not_there_is_left_out() -> None:
    document = json.loads(events.encode(wirekit.EVENT))

    assert "traceparent" not in document
    assert list(document["data"]) == [
        "repo", "branch", "journal", "sequence", "previous", "transaction", "origin",
    ]  # fmt: skip


def test_the_key_continues_stands_exactly_in_first_events_of_a_continuing_journal() -> None:
    first = wirekit.event(continuing=True)
    later = wirekit.event(continuing=True, sequence=2, previous=Link(1, SHA))

    assert json.loads(events.encode(first))["data"]["continues"] is None
    assert "continues" not in json.loads(events.encode(later))["data"]
    assert "continues" not in json.loads(events.encode(wirekit.EVENT))["data"]


def test_an_event_knows_its_names() -> None:
    value = wirekit.event(repo="a:b", branch="x?", sequence=3)

    assert value.id == f"{JOURNAL}/3"
    assert value.source == "hg:a%3Ab"
    assert value.topic == "hg:a%3Ab:x%3F:"


def test_fields_that_we_do_not_know_are_no_fault() -> None:
    # Given an event of a newer publisher
    document = json.loads(events.encode(FULL))
    document["extension"] = document["data"]["new"] = {"x": [1, None]}
    document["data"]["changesets"][0]["new"] = 1

    # Then it is read as before
    assert events.decode(events.dumps(document)) == FULL


def edited(path: str, value: Any) -> bytes:
    """The full event with one value replaced (or taken away: ...)."""
    document: Any = json.loads(events.encode(FULL))
    place = document
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return events.dumps(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", ...),
        ("type", ""),
        ("source", "hg:team/other"),
        ("source", "hg:team%2Fapp"),
        ("subject", "other"),
        ("id", "x/42"),
        ("datacontenttype", "text/plain"),
        ("sequence", "42"),
        ("sequence", 42),
        ("time", "2026-11-21T09:15:02Z"),
        ("time", "2026-11-21T09:15:02.123456+00:00"),
        ("time", "2026-02-30T09:15:02.123456Z"),
        ("time", "0000-01-01T00:00:00.000000Z"),
        ("time", "2026-11-21T24:15:02.123456Z"),
        ("time", "٢٠٢٦-11-21T09:15:02.123456Z"),
        ("time", "2026-11-21T09:15:02.123456Z\n"),
        ("traceparent", 1),
        ("data", []),
        ("data", ...),
        ("data.repo", ""),
        ("data.branch", None),
        ("data.journal", "x" * 32),
        ("data.journal", "A" * 32),
        ("data.sequence", 0),
        ("data.sequence", 42.0),
        ("data.sequence", True),
        ("data.sequence", 2**63),
        ("data.previous", 40),
        ("data.previous.sequence", 42),
        ("data.previous.sequence", 43),
        ("data.previous.sha256", "d" * 63),
        ("data.continues", None),
        ("data.continues", {"journal": JOURNAL, "sequence": 1, "sha256": SHA}),
        ("data.transaction", None),
        ("data.transaction.id", ""),
        ("data.transaction.part", 0),
        ("data.transaction.part", 4),
        ("data.transaction.parts", "3"),
        ("data.pusher.via", ""),
        ("data.pusher.user", 1),
        ("data.origin", ...),
        ("data.heads.tip", "a" * 39),
        ("data.heads.count", -1),
        ("data.heads.added", "a"),
        ("data.heads.added", [1]),
        ("data.summary.tip", None),
        ("data.changesets", {}),
        ("data.changesets.0", "x"),
        ("data.changesets.0.node", "A" * 40),
        ("data.changesets.0.parents", [None]),
        ("data.changesets.0.user", None),
        ("data.changesets.0.phase", "internal"),
        ("data.changesets.0.closes_branch", 1),
        ("data.changesets.0.files", [["a"]]),
        ("data.changesets.0.truncated", None),
        ("data.bookmarks.0.name", ""),
        ("data.tags.0.old", "tip"),
        ("data.phases.0.new", None),
        ("data.obsoleted.0.successors", ["x"]),
        ("data.removed", [A.upper()]),
    ],
)
def test_one_wrong_value_makes_an_event_malformed(path: str, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        events.decode(edited(path, value))

    assert caught.value.kind == "malformed-event"


PLAIN = events.encode(wirekit.EVENT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN + b"\n",
        PLAIN.replace(b',"data"', b',\n"data"'),
        PLAIN.replace(b',"data"', b',\r"data"'),
        PLAIN.replace(b'"repo":', b'"repo":"x","repo":'),
        PLAIN.replace(b'"data":', b'"data":{},"data":'),
        PLAIN.replace(b'"sequence":1', b'"sequence":NaN'),
        PLAIN.replace(b'"sequence":1', b'"sequence":' + b"9" * 10_000),
        PLAIN.replace(b"default", b"\\ud800"),
        PLAIN.replace(b"default", b"\xed\xa0\x80"),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.decode().encode("utf-16"),
        b"[" * 200_000,
        b" " * (events.MAX_LENGTH + 1),
    ],
)
def test_bytes_that_two_readers_could_take_differently_are_malformed(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        events.decode(data)

    assert caught.value.kind == "malformed-event"


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    assert events.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
