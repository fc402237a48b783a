"""What is told of a store that is followed: each change once, and what fits only."""

import pytest
from storekit import DEAD, DONE, batch, delivery, fill, record, retry

from subscriber import follow
from subscriber.follow import Changes, News
from subscriber.store.base import Finish, State, Terms, Wanted
from subscriber.store.memory import MemoryStore


@pytest.fixture
def store():
    made = MemoryStore()
    fill(made, 2)
    return made


def told(changes: Changes) -> list[tuple[object, object]]:
    return [(row["id"], row["state"]) for row, _ in changes.look()]


def run(store: MemoryStore, finish: Finish, now: float = 5000.0) -> None:
    (claim,) = store.claim("w", 60.0, 1, now)
    assert store.finish(claim.delivery.id, claim.fence, finish, now)


def more(store: MemoryStore, sequence: int, branch: str = "default") -> None:
    records = [record(sequence, branch=branch)]
    made = [delivery(sequence, branch=branch)]
    store.accept(batch(sequence, sequence - 1, records=records, deliveries=made))


def test_what_was_there_is_told_when_it_changes(store):
    changes = Changes(store, Wanted())
    assert told(changes) == []

    (claim,) = store.claim("w", 60.0, 1, 5000.0)
    first = claim.delivery.id

    assert told(changes) == [(first, "running")]
    assert told(changes) == []
    store.finish(first, claim.fence, DONE, 5001.0)
    assert told(changes) == [(first, "done")]


def test_what_is_made_is_told_and_then_each_of_its_states(store):
    changes = Changes(store, Wanted(branch="stable"))
    more(store, 3, "stable")
    more(store, 4)

    assert told(changes) == [("build-9f-3", "pending")]
    run(store, DONE)
    assert told(changes) == []
    run(store, retry(5010.0))
    assert told(changes) == [("build-9f-3", "retrying")]


def test_a_state_is_told_when_it_is_reached(store):
    changes = Changes(store, Wanted(states=frozenset({State.DEAD})))
    run(store, DONE)
    more(store, 3)

    assert told(changes) == []
    run(store, DEAD)
    assert told(changes) == [("build-9f-2", "dead")]


def test_an_attempt_that_came_and_went_between_two_looks_is_told(store):
    changes = Changes(store, Wanted())
    run(store, retry(5000.0))
    assert told(changes) == [("build-9f-1", "retrying")]

    run(store, retry(6000.0), 5001.0)

    assert told(changes) == [("build-9f-1", "retrying")]


def test_what_is_forgotten_meanwhile_does_no_harm(store):
    changes = Changes(store, Wanted())
    run(store, DONE)
    run(store, DONE)
    while store.prune(9000.0, 100):
        pass

    assert told(changes) == []
    more(store, 3)
    assert told(changes) == [("build-9f-3", "pending")]


@pytest.mark.parametrize("kind", [Changes, News])
def test_what_waits_for_long_hides_nothing_behind_it(monkeypatch, kind):
    """More are open than one look asks for, and the first of them do not move."""
    monkeypatch.setattr(follow, "WATCHED", 2)
    store = MemoryStore()
    fill(store, 5, rule="waits")
    more(store, 6)
    changes = kind(store, Wanted()) if kind is Changes else kind(store)
    (claim,) = store.claim("w", 60.0, 1, 5000.0, terms={"build": Terms()})
    store.finish(claim.delivery.id, claim.fence, DONE, 5001.0)

    assert [len(list(changes.look())) for _ in range(6)] == [0, 0, 1, 0, 0, 0]
