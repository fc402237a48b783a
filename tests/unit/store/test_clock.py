"""The clock of leases."""

import time
from dataclasses import replace

import pytest
from storekit import DONE, batch, delivery, outcome, record, retry

from subscriber.store.clock import steady_clock
from subscriber.store.memory import MemoryStore
from subscriber.store.sqlite import SqliteStore


def test_it_does_not_follow_the_wall_clock(monkeypatch):
    clock = steady_clock()
    before = clock()
    assert abs(before - time.time()) < 1.0
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock() < before + 20.0


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_jump_of_the_wall_clock_runs_nothing_twice(monkeypatch, tmp_path, jump):
    # Given a delivery that runs, and one that waits for its next attempt
    with SqliteStore.open(tmp_path / "ci.db") as store:
        items = [delivery(1), delivery(1, "notify")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        running, other = store.claim("ci", 60.0, 2, store.now())
        again = retry(store.now() + 60.0)
        store.finish(other.delivery.id, other.fence, again, store.now())
        # When somebody sets the clock
        wall = time.time() + jump
        monkeypatch.setattr(time, "time", lambda: wall)
        # Then neither runs, and the holder goes on
        assert store.claim("ci", 60.0, 9, store.now()) == []
        assert store.extend(running.delivery.id, running.fence, 60.0, store.now())
        assert store.finish(running.delivery.id, running.fence, DONE, store.now())
        assert len(store.receipts(running.delivery.id)) == 1
    # And after a restart a fence is still higher than those before
    with SqliteStore.open(tmp_path / "ci.db") as store:
        (later,) = store.claim("ci", 60.0, 9, max(store.now(), again.retry_at or 0.0))
        assert later.fence > running.fence


def test_it_is_the_clock_of_a_store_of_this_host(monkeypatch):
    store = MemoryStore()
    before = store.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= store.now() < before + 20.0
    assert not store.shared


def test_a_clock_that_was_set_back_while_nobody_ran_delays_nothing(monkeypatch, tmp_path):
    # Given a delivery that waits ten seconds, by a clock that is a day ahead
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400.0)
    with SqliteStore.open(tmp_path / "ci.db") as store:
        store.accept(batch(1, None, records=[record(1)], deliveries=[delivery(1)]))
        (claimed,) = store.claim("ci", 60.0, 1, store.now())
        now = store.now()
        again = replace(retry(now + 10.0), outcome=outcome("failed", started=now, ended=now))
        assert store.finish(claimed.delivery.id, claimed.fence, again, now)
    # When it is set right, and the store opened
    monkeypatch.setattr(time, "time", real)
    with SqliteStore.open(tmp_path / "ci.db") as store:
        due = store.next_due()
        # Then it waits ten seconds, and not a day
        assert store.delivery(claimed.delivery.id).due == due
        assert 8.0 < due - store.now() <= 10.0
