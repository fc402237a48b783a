"""What is done is forgotten in time, in steps that keep nobody waiting."""

import threading
import time

import pytest
from enginekit import Feed, spec
from storekit import BOXES, DONE
from support.waiting import wait_for

from hgext_zmqhooks.service.life import Stop
from subscriber import retention
from subscriber.retention import STEP, Retention
from subscriber.store.base import State, StoreError, Wanted

DAY = 86400.0
COUNT = 2 * STEP + 1


@pytest.fixture(params=sorted(BOXES))
def store(request, tmp_path):
    box = BOXES[request.param](tmp_path)
    yield box.store
    box.store.close()


def old(store, count=COUNT):
    """So many deliveries that were done ten days ago, and one that is open."""
    Feed(store, spec(order="none")).events([("default", "team/app", "alice")] * (count + 1))
    now = store.now() - 10 * DAY
    left = count
    while left:
        for claim in store.claim("ci/1", 60.0, min(left, 999), now):
            store.finish(claim.delivery.id, claim.fence, DONE, now)
            left -= 1


def states(store):
    counts = store.status().deliveries
    return counts[State.DONE], counts[State.PENDING]


def test_what_is_old_is_forgotten_and_what_is_open_stays(store, caplog):
    caplog.set_level("INFO", "zmqhooks.retention")
    old(store)

    count = Retention(store, 9 * DAY).prune(Stop())

    assert states(store) == (0, 1)
    assert count >= COUNT
    (line,) = [each for each in caplog.records if each.message == "pruned"]
    assert line.fields == {"count": count, "older_than": "9d"}


def test_what_is_young_stays(store, caplog):
    caplog.set_level("INFO", "zmqhooks.retention")
    old(store, 3)

    Retention(store, 11 * DAY).prune(Stop())

    assert states(store) == (3, 1)
    assert caplog.records == []


def test_it_ends_between_two_steps_when_asked_to(store, monkeypatch):
    old(store)
    stop = Stop()
    prune = type(store).prune

    def watched(self, before, limit):
        stop.set()
        return prune(self, before, limit)

    monkeypatch.setattr(type(store), "prune", watched)
    Retention(store, 9 * DAY).run(stop)

    assert states(store) == (COUNT - STEP, 1)


def test_others_have_their_turn_between_two_steps(store, monkeypatch):
    """A pause is as long as the step before it, so others have half of the time at least."""
    old(store)
    begins, ends = [], []
    prune = type(store).prune

    def watched(self, before, limit):
        begins.append(time.monotonic())
        forgotten = prune(self, before, limit)
        ends.append(time.monotonic())
        return forgotten

    monkeypatch.setattr(type(store), "prune", watched)
    Retention(store, 9 * DAY).prune(Stop())

    assert len(begins) >= 3
    for begin, end, after in zip(begins, ends, begins[1:], strict=False):
        assert after - end >= 0.9 * (end - begin)


def test_another_time_counts_at_once(store):
    old(store, 3)
    stop, kept = Stop(), Retention(store, 11 * DAY)
    thread = threading.Thread(target=kept.run, args=(stop,))
    thread.start()
    kept.change(9 * DAY)
    wait_for(lambda: states(store) == (0, 1))
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_store_that_fails_is_tried_again_later(store, monkeypatch, caplog):
    old(store, 3)
    prune, fails = type(store).prune, [True]

    def failing(self, before, limit):
        if fails and fails.pop():
            raise StoreError("ci.db", "the disk is full", "make room")
        return prune(self, before, limit)

    monkeypatch.setattr(type(store), "prune", failing)
    monkeypatch.setattr(retention, "PERIOD", 0.05)
    stop = Stop()
    thread = threading.Thread(target=Retention(store, 9 * DAY).run, args=(stop,))
    thread.start()
    wait_for(lambda: states(store) == (0, 1))
    stop.set()
    thread.join(20)
    assert "could not be pruned" in caplog.text
    assert store.deliveries(Wanted(), 9)[0].state is State.PENDING
