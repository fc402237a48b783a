"""The clock of leases."""

import time

from subscriber.store.clock import steady_clock
from subscriber.store.memory import MemoryStore


def test_it_does_not_follow_the_wall_clock(monkeypatch):
    clock = steady_clock()
    before = clock()
    assert abs(before - time.time()) < 1.0
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= clock() < before + 20.0


def test_it_is_the_clock_of_a_store_of_this_host(monkeypatch):
    store = MemoryStore()
    before = store.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= store.now() < before + 20.0
    assert not store.shared
