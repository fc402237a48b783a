"""A record that lacks something, or has it twice, is noticed."""

import pytest
from fault.ledger import BAD, judge
from storekit import DEAD, DONE, REPO, batch, delivery, fill, record

from subscriber.store.base import Store
from subscriber.store.memory import MemoryStore

NOW = 2_000_000_000.0


@pytest.fixture
def store() -> Store:
    return MemoryStore()


def work(store: Store) -> None:
    """Every delivery is done."""
    while claims := store.claim("ci", 60, 10, NOW):
        for one in claims:
            assert store.finish(one.delivery.id, one.fence, DONE, NOW)


def bad(store: Store, events: int) -> dict[str, int]:
    count = judge(store, {REPO: events})
    return {name: count[name] for name in BAD if count[name]}


def test_all_that_is_done_once_is_good(store: Store) -> None:
    fill(store, 3)
    work(store)

    assert bad(store, 3) == {}
    assert judge(store, {REPO: 3})["attempts done"] == 3


def test_what_is_open_or_dead_is_unfinished(store: Store) -> None:
    fill(store, 3)
    (one,) = store.claim("ci", 60, 10, NOW)
    store.finish(one.delivery.id, one.fence, DEAD, NOW)

    assert bad(store, 3) == {"unfinished": 3}


def test_an_event_that_is_not_stored_and_one_without_a_delivery_are_skipped(store: Store) -> None:
    store.accept(batch(2, None, records=[record(1), record(2)], deliveries=[delivery(1)]))
    work(store)

    # The third is not stored, and so has no delivery either.
    assert bad(store, 3) == {"skipped": 3}


def test_two_deliveries_of_an_event_are_doubled(store: Store) -> None:
    both = [delivery(1), delivery(1, id="another")]
    store.accept(batch(1, None, records=[record(1)], deliveries=both))
    work(store)

    assert bad(store, 1) == {"doubled": 1}
