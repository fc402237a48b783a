"""Leases whose store fails: how often it is asked, and what is broken off."""

from contextlib import ExitStack

import pytest
from enginekit import Recorder, spec
from storekit import batch, delivery, record

from hgext_zmqhooks.service.clock import boot_clock
from subscriber.actions.base import Cancel
from subscriber.engine.attempt import Attempt
from subscriber.engine.leases import EXTEND, GIVE_UP, Leases
from subscriber.store.base import StoreError
from subscriber.store.memory import MemoryStore

LEASE = 3000.0


class Failing(MemoryStore):
    """Fails to extend what is in `failing`, and keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.failing, self.asked = set(), []

    def extend(self, delivery_id, fence, lease, now):
        self.asked.append(delivery_id)
        if delivery_id in self.failing:
            raise StoreError("memory", "it does not answer")
        return super().extend(delivery_id, fence, lease, now)


@pytest.fixture
def store():
    return Failing()


@pytest.fixture
def run(store):
    """Attempts that run; each `parts` says which part of its lease is over."""
    with ExitStack() as closing:

        def running(*parts):
            rules = [f"rule{number}" for number in range(len(parts))]
            items = [delivery(1, rule) for rule in rules]
            store.accept(batch(1, None, records=[record(1)], deliveries=items))
            leases, now = Leases(store, LEASE), boot_clock()
            claims = store.claim("ci/1", LEASE, len(parts), store.now())
            for part, claim in zip(parts, claims, strict=True):
                cancel = closing.enter_context(Cancel())
                leases.add(Attempt(claim, spec(), Recorder(), now - part * LEASE, cancel))
            return leases, leases.running()

        yield running


def test_a_store_that_is_away_is_asked_once_and_what_is_due_is_broken_off_by_the_clock(store, run):
    # Given attempts whose leases are young, due, and nearly over, and a store that is away
    leases, attempts = run(0.1, EXTEND, GIVE_UP, EXTEND, GIVE_UP, 0.9)
    store.failing = {attempt.id for attempt in attempts}
    # When they are to be extended
    kept = leases.extend()
    # Then only one question was asked, and each that passed two thirds is broken off
    assert (kept, store.asked) == (False, [attempts[1].id])
    assert [attempt.doomed for attempt in attempts] == [False, False, True, False, True, True]
    assert {each.cancel.reason for each in attempts if each.doomed} == {
        "its lease could not be extended"
    }


def test_one_that_fails_alone_costs_the_others_nothing(store, run):
    # Given a store that fails at the first of three only
    leases, attempts = run(EXTEND, EXTEND, EXTEND)
    store.failing = {attempts[0].id}
    # When there were two rounds
    assert [leases.extend(), leases.extend()] == [False, False]
    # Then the others were asked for before it the second time, and are extended
    ages = [boot_clock() - attempt.extended < LEASE * EXTEND for attempt in attempts]
    assert ages == [False, True, True]
    assert store.asked == [attempts[number].id for number in (0, 1, 2, 0)]
