"""Which journals an instance of a fleet follows: those that it has a lease of."""

import pytest
from storekit import JOURNAL, OTHER, REPO, batch, standing

from hgext_zmqhooks.wire.session import JournalInfo
from subscriber.intake.journals import Journals
from subscriber.intake.shares import EVERY, LEASE, Shares
from subscriber.store.memory import MemoryStore

BOTH = frozenset((JOURNAL, OTHER))


class Shared(MemoryStore):
    """As if others used it, too. `moment`: its clock."""

    shared = True
    moment = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, frozenset[str]]] = []

    def lease_journals(self, instance, journals, lease, now, scope=None):
        self.asked.append((instance, frozenset(journals)))
        return super().lease_journals(instance, journals, lease, now, scope)

    def now(self) -> float:
        return self.moment


@pytest.fixture
def store() -> Shared:
    return Shared()


def test_who_comes_first_has_it_as_long_as_he_looks(store: Shared) -> None:
    one, two = Shares(store, "one", "a"), Shares(store, "two", "a")
    assert one.look({JOURNAL}) == {JOURNAL}
    assert two.look(BOTH) == {OTHER}
    for _ in range(10):
        store.moment += EVERY
        assert (one.look(BOTH), two.look(BOTH)) == ({JOURNAL}, {OTHER})


def test_what_is_held_is_renewed_when_half_of_the_lease_is_over(store: Shared) -> None:
    one, two = Shares(store, "one", "a"), Shares(store, "two", "a")
    one.look({JOURNAL})
    two.look(BOTH)
    store.asked.clear()
    store.moment += LEASE / 4
    assert (one.look({JOURNAL}), two.look(BOTH)) == ({JOURNAL}, {OTHER})
    # Nothing is written for what is held, and the other's is asked for
    assert store.asked == [("two", {JOURNAL})]
    store.moment += LEASE / 4
    assert (one.look({JOURNAL}), two.look(BOTH)) == ({JOURNAL}, {OTHER})
    assert store.asked[1:] == [("one", {JOURNAL}), ("two", BOTH)]


def test_who_is_gone_loses_it_after_the_lease(store: Shared) -> None:
    one, two = Shares(store, "one", "a"), Shares(store, "two", "a")
    one.look(BOTH)
    store.moment += LEASE - 0.1
    assert two.look(BOTH) == frozenset()
    store.moment += 0.1
    assert two.look(BOTH) == BOTH
    assert one.look(BOTH) == frozenset()


def test_who_leaves_frees_it_at_once(store: Shared) -> None:
    one, two = Shares(store, "one", "a"), Shares(store, "two", "a")
    one.look(BOTH)
    one.release()
    assert two.look(BOTH) == BOTH


def test_nobody_else_follows_in_a_store_of_ones_own() -> None:
    store = MemoryStore()
    assert Shares(store, "one", "a").look(BOTH) == BOTH
    assert Shares(store, "two", "a").look(BOTH) == BOTH
    Shares(store, "two", "a").release()


class TestJournals:
    def test_of_others_are_not_asked_for(self, store: Shared) -> None:
        journals = told(store)
        assert journals.share({OTHER})
        assert journals.positions(0.0) == {JOURNAL: None, OTHER: 0}
        assert journals.next_retry(0.0) is None
        # Looking again is no change
        assert not journals.share({OTHER})

    def test_that_are_taken_over_go_on_where_the_other_left_them(self, store: Shared) -> None:
        journals = told(store)
        journals.share({OTHER})
        moved(store, JOURNAL, 7)

        assert journals.share(BOTH)

        assert journals.positions(0.0) == {JOURNAL: 7, OTHER: 0}

    def test_of_others_are_looked_up_where_they_matter(self, store: Shared) -> None:
        journals = told(store)
        journals.share({OTHER})
        earlier = journals.known(OTHER).earlier
        moved(store, JOURNAL, 7)

        found = earlier(JOURNAL)

        assert found is not None
        assert found.scanned == 7

    def test_that_the_relay_does_not_tell_of_are_left_to_others(self, store: Shared) -> None:
        store.note_heads("hg1", [standing(OTHER, head=9)], 0.0)
        journals = Journals(store, "hg1", "earliest")
        journals.welcome([JournalInfo(JOURNAL, REPO, 1, 9)], 0.0)

        assert set(journals.told) == {JOURNAL}
        assert not journals.share({JOURNAL})


def told(store: Shared) -> Journals:
    journals = Journals(store, "hg1", "earliest")
    infos = [JournalInfo(journal, REPO, 1, 9) for journal in (JOURNAL, OTHER)]
    journals.welcome(infos, 0.0)
    return journals


def moved(store: Shared, journal: str, scanned: int) -> None:
    """Another instance has read on."""
    rows = {row.journal: row for row in store.journals()}
    store.accept(batch(scanned, rows[journal].scanned, journal=journal))


def test_who_reads_by_what_was_said_before_follows_nothing(store):
    store.follow("a")
    one = Shares(store, "one", "a")
    assert one.look(BOTH) == BOTH

    store.follow("b")

    # Looked at when the lease is renewed; what another session says of it, at once.
    assert Shares(store, "one", "a").look(BOTH) == frozenset()
    assert Shares(store, "two", "b").look(BOTH) == BOTH
