"""What one transaction reads and writes, counted in bytes, does not grow with the journal."""

import os
import tracemalloc
from contextlib import contextmanager

import pytest
from unit.journal.stores import Store, draft, node

from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.reading import Source


class Counter:
    def __init__(self, monkeypatch) -> None:
        self.bytes = 0
        self._patch(monkeypatch, Source, "read", lambda result, *_args: len(result))
        self._patch(monkeypatch, Directory, "read", lambda result, *_args: len(result or b""))
        self._patch(monkeypatch, Directory, "write_atomic", lambda _result, _f, _n, d: len(d))
        self._patch(monkeypatch, os, "pwrite", lambda result, *_args: result)

    def _patch(self, monkeypatch, owner, name, count):
        original = getattr(owner, name)

        def counted(*args):
            result = original(*args)
            self.bytes += count(result, *args)
            return result

        monkeypatch.setattr(owner, name, counted)


@contextmanager
def large(path, events: int, branches: int):
    store = Store(path)
    for start in range(0, events, 20_000):
        last = min(events, start + 20_000)
        store.push(*[draft(f"branch-{number % branches}") for number in range(start, last)])
    yield store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores: 10 events on 2 branches, 100,000 events on 10,000."""
    path = tmp_path_factory.mktemp("cost")
    with large(path / "small", 10, 2) as small, large(path / "large", 100_000, 10_000) as big:
        yield small, big


def cost(store: Store, monkeypatch) -> int:
    """Bytes read and written by the second of two transactions on a branch."""
    store.push(draft("branch-1"))
    before = store.size()
    with monkeypatch.context() as patches:
        counter = Counter(patches)
        store.push(draft("branch-1"))
        store.writer.standing()
        store.writer.last_mark()
    return counter.bytes + store.size() - before


def test_of_a_transaction(stores, monkeypatch):
    small, big = (cost(store, monkeypatch) for store in stores)
    assert len(stores[0].events()) == 12
    assert stores[1].head().sequence == 100_002
    # A few digits more in the head and in probing the index: not a page of either
    assert abs(big - small) < 512
    assert big < 10_000


def test_of_the_memory_of_a_large_transaction(tmp_path):
    # Given 100,000 changesets, encoded by the extension
    store = Store(tmp_path)
    large = draft("default", *map(node, range(100_000)))
    tracemalloc.start()
    before, _peak = tracemalloc.get_traced_memory()
    appended = store.push(large)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert appended.events > 40
    assert store.size() > 10_000_000
    assert peak - before < 5_000_000
