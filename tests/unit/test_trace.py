"""What is told of a changeset: its events, what they made, and why there may be nothing."""

import json

import pytest
from storekit import DEAD, DONE, JOURNAL, batch, delivery, record, standing

from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.events import Changeset, Draft, Place, Pusher, Transaction
from subscriber.engine.rules import RuleSpec
from subscriber.store.base import MIN_NODE
from subscriber.store.memory import MemoryStore
from subscriber.trace import ALWAYS, trace
from subscriber.views import Printer

BUILD = RuleSpec(name="build", topics=("hg:**:**:",))
EACH = RuleSpec(name="each", topics=("hg:**:**:",), each="changeset")


def node(number: int) -> str:
    return f"{number:02x}" * 20


def event(sequence: int, *numbers: int, part: int = 1, parts: int = 1) -> bytes:
    items = [
        events.encode_item(
            Changeset(
                node=node(number),
                parents=(),
                user="Alice",
                date="2026-11-21T10:15:00+01:00",
                description="x",
                phase="draft",
            )
        )
        for number in numbers
    ]
    made = Draft(
        branch="default",
        time="2026-11-21T09:15:02.123456Z",
        transaction=Transaction("t", "serve", "serve", part, parts),
        pusher=Pusher("alice", "ssh"),
        lists={"changesets": items},
    )
    place = Place(repo="team/app", journal=JOURNAL, sequence=sequence, previous=None)
    return events.assemble(made, place)


def stored(sequence: int, *numbers: int, part: int = 1, parts: int = 1, **changes):
    return record(
        sequence,
        body=event(sequence, *numbers, part=part, parts=parts),
        nodes=tuple(map(node, numbers)),
        part=part,
        parts=parts,
        transaction="t",
        **changes,
    )


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def told(store, capsys):
    def ask(name: str, *specs: RuleSpec) -> tuple[int, list[dict]]:
        status = trace(store, Printer(as_json=True), name, specs or (BUILD, EACH))
        return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return ask


def test_events_deliveries_and_attempts_are_told_in_order(store, told):
    store.accept(batch(1, None, records=[stored(1, 1)], deliveries=[delivery(1, node=node(1))]))
    for finish in (DEAD, DONE):
        (claim,) = store.claim("ci/1", 60.0, 1, 2000.0)
        store.finish(claim.delivery.id, claim.fence, finish, 2001.0)
        store.redeliver([claim.delivery.id], 2002.0)

    status, (found, made, *attempts) = told(node(1)[:MIN_NODE])

    assert status == 0
    assert (found["kind"], found["nodes"], found["user"]) == ("event", [node(1)], "alice")
    assert (made["kind"], made["rule"]) == ("delivery", "build")
    assert [(one["verdict"], one["owner"]) for one in attempts] == [
        ("dead", "ci/1"),
        ("done", "ci/1"),
    ]


def test_the_delivery_of_an_event_in_parts_is_found_from_each_of_them(store, told):
    records = [stored(1, 1, part=1, parts=2), stored(2, 2, part=2, parts=2)]
    made = delivery(2, first=1, last=2, node=node(2))
    store.accept(batch(2, None, records=records, deliveries=[made]))

    for number in (1, 2):
        _, rows = told(node(number))
        assert [row["kind"] for row in rows] == ["event", "delivery"]
        assert rows[1]["id"] == made.id


def test_of_a_rule_that_takes_changesets_only_its_own_delivery_counts(store, told):
    made = [delivery(1, "each", id=f"each-{n}", order_key=f"k{n}", node=node(n)) for n in (1, 2)]
    store.accept(batch(1, None, records=[stored(1, 1, 2)], deliveries=made))

    _, rows = told(node(2))

    assert [row["id"] for row in rows if row["kind"] == "delivery"] == ["each-2"]


def test_where_no_rule_took_it_each_says_why_not(store, told):
    store.accept(batch(1, None, records=[stored(1, 1)]))

    status, (found, rule) = told(node(1), RuleSpec(name="docs", topics=("hg:lib:*:",)))

    assert status == 0
    assert found["kind"] == "event"
    assert (rule["rule"], [one["key"] for one in rule["unmet"]]) == ("docs", ["topic"])


def test_an_event_whose_last_part_is_missing_makes_nothing_yet(store, capsys):
    store.accept(batch(1, None, records=[stored(1, 1, part=1, parts=2)]))

    trace(store, Printer(as_json=False), node(1), [BUILD])

    assert "no delivery: 1 of its 2 parts are stored" in capsys.readouterr().out


def test_a_held_event_says_so(store, capsys):
    store.accept(batch(1, None, records=[stored(1, 1, held=True)]))

    trace(store, Printer(as_json=False), node(1), [BUILD])

    assert "HELD" in capsys.readouterr().out


def test_of_nothing_the_reasons_are_told(store, told):
    status, (row,) = told("abcdef")

    assert (status, row["kind"], row["node"]) == (1, "unknown", "abcdef")
    assert row["signs"] == ["nothing was received yet: `status` says whether the daemon runs"]
    assert row["reasons"] == list(ALWAYS)


def test_signs_in_the_store_come_first(store, told):
    store.learn("hg1", [standing(head=5, scanned=0)], 1000.0)
    store.accept(batch(2, 0, records=[stored(2, 1)], origin=1))

    _, (row,) = told("abcdef")
    assert row["signs"] == [
        "not all is read yet of team/app (3)",
        "reading began late (`start`, or a rule that came later), of team/app (after 1)",
    ]

    while store.prune(9e9, 100):
        pass
    store.stop_journal(JOURNAL, "gap at sequence 3: x")
    _, (row,) = told(node(1))
    assert row["signs"] == [
        "reading is stopped of team/app (gap at sequence 3: x)",
        "reading began late (`start`, or a rule that came later), of team/app (after 1)",
        "old events were forgotten, as `keep` says, of team/app (up to 2)",
    ]


def test_many_repositories_are_not_all_named(store, told):
    rows = [standing(f"{n:032x}", head=1, scanned=None, repo=f"team/app{n}") for n in range(7)]
    store.learn("hg1", rows, 1000.0)

    _, (row,) = told("abcdef")

    assert row["signs"][0].endswith("team/app4 (1) and 2 more")
