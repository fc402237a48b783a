"""What every store promises: one test per promise of subscriber/store/base.py, over each store."""

import threading
import time

import pytest
from storekit import (
    BACK,
    BOXES,
    CERTIFICATE,
    DEAD,
    DONE,
    JOURNAL,
    OTHER,
    REPO,
    TOKENS,
    batch,
    delivery,
    fill,
    outcome,
    record,
    retry,
    standing,
)

from hgext_zmqhooks.wire.values import Continued
from subscriber.store.base import (
    LOST_LIMIT,
    MAX_CLAIMS,
    MAX_LIST,
    Accepted,
    Conflict,
    Contact,
    Decision,
    Finish,
    Fork,
    Held,
    Link,
    OtherScope,
    Paused,
    State,
    StoreError,
    Terms,
    Wanted,
)

NOW = 2_000_000_000.0


@pytest.fixture(params=sorted(BOXES))
def box(request, tmp_path):
    made = BOXES[request.param](tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def store(box):
    return box.store


def claim(store, limit=10, now=NOW, lease=60.0, owner="daemon", **how):
    return store.claim(owner, lease, limit, now, **how)


def ids(claims):
    return [item.delivery.id for item in claims]


def states(store):
    return {item.id: item.state for item in store.deliveries(Wanted(), MAX_LIST)}


def decided(verb, branch, sequence, *, reason=""):
    return Decision(
        at=NOW,
        who="alice",
        verb=verb,
        journal=JOURNAL,
        branch=branch,
        sequence=sequence,
        reason=reason,
    )


class TestIdentity:
    def test_is_made_once(self, box):
        first = box.store.identity()
        assert len(bytes.fromhex(first)) == 16
        assert box.reopen().identity() == first

    def test_differs_between_stores(self, box, tmp_path):
        folder = tmp_path / "other"
        folder.mkdir()
        other = type(box)(folder).store
        assert other.identity() != box.store.identity()
        other.close()

    def test_close_twice_does_nothing(self, box):
        box.store.close()
        box.store.close()
        box.reopen()


class TestJournals:
    def test_first_welcome_is_kept_whole(self, box):
        seen = [
            standing(JOURNAL, head=7, scanned=7),
            standing(OTHER, head=3, since=1234.5, repo="b"),
        ]
        assert box.store.first_contact("hg1")
        assert box.store.learn("hg1", seen, NOW)
        assert not box.store.first_contact("hg1")
        assert box.store.first_contact("hg2")
        first, second = box.reopen().journals()
        assert (first.journal, first.repo, first.relay) == (JOURNAL, REPO, "hg1")
        assert (first.scanned, first.since, first.head) == (7, None, 7)
        assert (first.first_seen, first.stopped) == (NOW, None)
        assert (second.journal, second.repo, second.scanned) == (OTHER, "b", None)
        assert (second.since, second.head) == (1234.5, 3)

    def test_first_welcome_without_journals_counts(self, store):
        assert store.learn("hg1", [], NOW)
        assert not store.first_contact("hg1")

    def test_second_welcome_changes_nothing(self, store):
        store.learn("hg1", [standing(scanned=7, head=7)], NOW)
        before = store.journals()
        assert not store.learn("hg1", [standing(scanned=9, head=9), standing(OTHER)], NOW + 1)
        assert store.journals() == before

    def test_learning_from_a_second_relay_keeps_positions(self, store):
        store.learn("hg1", [standing(scanned=7, head=7)], NOW)
        store.learn("hg2", [standing(scanned=9, head=9)], NOW + 1)
        (row,) = store.journals()
        assert (row.relay, row.scanned, row.head, row.first_seen) == ("hg2", 7, 9, NOW)

    def test_noted_heads_keep_position_and_stop(self, store):
        store.learn("hg1", [standing(scanned=7, head=7)], NOW)
        store.stop_journal(JOURNAL, "fork")
        store.note_heads("hg1", [standing(head=12), standing(OTHER, head=1)], NOW + 1)
        known, new = store.journals()
        assert (known.scanned, known.head, known.stopped) == (7, 12, "fork")
        assert (new.journal, new.scanned, new.since, new.head) == (OTHER, None, None, 1)

    def test_stop_is_kept_until_taken_back(self, box):
        box.store.learn("hg1", [standing()], NOW)
        box.store.stop_journal(JOURNAL, "bad signature at 8")
        assert box.reopen().journals()[0].stopped == "bad signature at 8"
        box.store.stop_journal(JOURNAL, None)
        assert box.store.journals()[0].stopped is None

    def test_stopping_an_unknown_journal_is_an_error(self, store):
        with pytest.raises(StoreError, match=JOURNAL):
            store.stop_journal(JOURNAL, "fork")

    def test_contacts_keep_the_last_sign_of_life_and_the_last_failure(self, box):
        box.store.heard("hg2", NOW)
        box.store.failed("hg1", "nobody listens there", NOW + 1)
        box.store.failed("hg2", "silence", NOW + 2)
        box.store.heard("hg2", NOW + 3)
        assert box.reopen().contacts() == [
            Contact(relay="hg1", seen=None, failed=NOW + 1, error="nobody listens there"),
            Contact(relay="hg2", seen=NOW + 3, failed=NOW + 2, error="silence"),
        ]

    @pytest.mark.parametrize("verb", ["admit", "vouch"])
    def test_an_admitted_journal_goes_on_and_who_decided_is_kept(self, box, verb):
        box.store.learn("hg1", [standing(), standing(OTHER)], NOW)
        box.store.stop_journal(JOURNAL, "fork at 8")
        decision = decided(verb, None, 8, reason="fork at 8")
        assert box.store.decide(decision) == 0
        assert box.store.journals()[0].stopped is None
        assert box.reopen().decisions(JOURNAL) == [decision]
        assert box.store.decisions(OTHER) == []

    def test_a_decision_about_an_unknown_journal_is_an_error(self, store):
        with pytest.raises(StoreError, match=JOURNAL):
            store.decide(decided("release", "default", 1))
        assert store.decisions(JOURNAL) == []

    def test_what_is_held_is_listed_and_a_decision_releases_it(self, store):
        records = [record(1, held=True), record(2, branch="b", held=True), record(3, held=True)]
        store.accept(batch(3, None, records=records, deliveries=[delivery(1), delivery(3)]))
        assert store.held() == [
            Held(journal=JOURNAL, repo=REPO, branch="default", first=1, last=3, count=2),
            Held(journal=JOURNAL, repo=REPO, branch="b", first=2, last=2, count=1),
        ]
        assert store.decide(decided("release", "default", 1)) == 1
        assert [(one.branch, one.first) for one in store.held()] == [("b", 2), ("default", 3)]
        assert [item.state for item in store.deliveries(Wanted(), 9)] == [State.PENDING, State.HELD]

    def test_accept_takes_a_stop_back_when_the_position_moves(self, store):
        store.learn("hg1", [standing(scanned=0)], NOW)
        store.stop_journal(JOURNAL, "bad signature at 1")
        store.accept(batch(0, 0))
        assert store.journals()[0].stopped
        store.accept(batch(2, 0, records=[record(1)]))
        assert store.journals()[0].stopped is None

    def test_accept_takes_a_stop_back_when_something_comes_late(self, store):
        store.accept(batch(2, None, records=[record(1)]))
        store.stop_journal(JOURNAL, "gap at sequence 2")
        store.accept(batch(2, 2, records=[record(1)]))
        assert store.journals()[0].stopped
        store.accept(batch(2, 2, records=[record(2)]))
        assert store.journals()[0].stopped is None

    def test_a_relay_may_name_any_sequence(self, box):
        # Given a relay that names the highest sequences there are
        most = 2**63 - 1
        box.store.learn("hg1", [standing(head=most, scanned=most)], NOW)
        box.store.note_heads("hg1", [standing("0c" * 16, head=most)], NOW)
        box.store.accept(batch(1, None, journal=OTHER, origin=most))
        # Then all journals can be read, and these stand beyond what any journal has
        rows = box.reopen().journals()
        assert {row.journal for row in rows} == {JOURNAL, OTHER, "0c" * 16}
        assert all(max(row.head, row.origin or 0) >= 2**53 - 1 for row in rows)
        assert rows[0].scanned >= 2**53 - 1


class TestScope:
    def test_another_scope_begins_every_journal_at_its_position(self, store):
        store.learn("hg1", [standing(scanned=7, head=9), standing(OTHER, head=3)], NOW)
        assert store.follow("a") is False
        assert store.follow("a") is False
        assert [row.origin for row in store.journals()] == [7, None]
        store.accept(batch(9, 7))
        assert store.follow("b") is True
        assert [row.origin for row in store.journals()] == [9, None]

    def test_the_scope_and_origins_are_kept(self, box):
        box.store.follow("a")
        box.store.accept(batch(3, None, origin=2))
        box.store.accept(batch(5, 3))
        store = box.reopen(crash=True)
        assert store.follow("a") is False
        assert [row.origin for row in store.journals()] == [2]

    def test_who_reads_by_another_one_moves_nothing_and_follows_nothing(self, box):
        # Given two that share a store, the second of which reads something else now
        store = box.store
        store.follow("a")
        assert store.accept(batch(1, None, records=[record(1)], scope="a")) == Accepted(1, 0)
        assert store.lease_journals("one", [JOURNAL], 10.0, NOW, "a") == {JOURNAL}
        store.follow("b")
        # Then the first one passes nothing over, and lets the second one follow
        with pytest.raises(OtherScope):
            store.accept(batch(2, 1, scope="a"))
        assert [row.scanned for row in store.journals()] == [1]
        assert store.lease_journals("one", [JOURNAL], 10.0, NOW, "a") == frozenset()
        store = box.reopen(crash=True)
        assert store.lease_journals("two", [JOURNAL], 10.0, NOW, "b") == {JOURNAL}
        assert store.accept(batch(2, 1, scope="b")) == Accepted(0, 0)
        # And who does not say what he reads is not asked
        assert store.accept(batch(3, 2)) == Accepted(0, 0)

    def test_a_batch_that_is_refused_moves_no_origin(self, store):
        store.accept(batch(3, None, origin=2))
        with pytest.raises(Conflict):
            store.accept(batch(9, 8, origin=8))
        assert [row.origin for row in store.journals()] == [2]


class TestAccept:
    def test_everything_is_there_after_reopening(self, box):
        heads = {"default": Link(2, "ee" * 32)}
        one, two = record(1), record(2)
        given = batch(5, None, records=[one, two], deliveries=[delivery(2)], heads=heads)
        assert box.store.accept(given) == Accepted(2, 0)
        store = box.reopen(crash=True)
        (row,) = store.journals()
        assert (row.scanned, row.head, row.repo, row.relay) == (5, 5, REPO, "hg1")
        assert store.chain(JOURNAL) == heads
        assert store.certificate(CERTIFICATE) == TOKENS[CERTIFICATE]
        assert [event.record for event in store.events(0, 10)] == [one, two]
        assert store.event(JOURNAL, 2).record == two
        assert store.record_digest(JOURNAL, 2) == two.sha256
        assert store.delivery("build-9f-2").state is State.PENDING

    def test_unknown_places_have_nothing(self, store):
        assert store.record_digest(JOURNAL, 1) is None
        assert store.event(JOURNAL, 1) is None
        assert store.certificate(CERTIFICATE) is None
        assert store.delivery("x") is None
        assert store.chain(JOURNAL) == {}
        assert store.parts(JOURNAL, "default", 1, 9) == []
        assert store.receipts("x") == []
        assert store.newest_event() == 0

    def test_twice_is_once(self, store):
        given = batch(2, None, records=[record(1), record(2)], deliveries=[delivery(1)])
        store.accept(given)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        before = (store.journals(), store.events(0, 10), store.status(), states(store))
        assert store.accept(given) == Accepted(0, 2)
        assert (store.journals(), store.events(0, 10), store.status(), states(store)) == before
        assert claim(store) == []

    def test_a_known_delivery_is_not_made_again(self, store):
        fill(store, 1)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        store.accept(batch(2, 1, records=[record(2)], deliveries=[delivery(1), delivery(2)]))
        assert ids(claim(store)) == ["build-9f-2"]

    @pytest.mark.parametrize("expected", [None, 0, 1, 3])
    def test_position_must_be_as_expected(self, store, expected):
        store.accept(batch(2, None, records=[record(1), record(2)]))
        with pytest.raises(Conflict) as caught:
            store.accept(batch(4, expected, records=[record(4)], deliveries=[delivery(4)]))
        assert (caught.value.journal, caught.value.position) == (JOURNAL, 2)
        assert store.journals()[0].scanned == 2
        assert store.newest_event() == 2
        assert states(store) == {}

    def test_another_batch_up_to_the_same_place_is_no_repetition(self, store):
        store.accept(batch(3, None, records=[record(3)]))
        with pytest.raises(Conflict):
            store.accept(batch(3, None, records=[record(2), record(3)]))
        assert store.newest_event() == 1

    def test_unknown_journal_has_no_position(self, store):
        with pytest.raises(Conflict) as caught:
            store.accept(batch(4, 0))
        assert caught.value.position is None
        assert store.journals() == []

    def test_noted_journal_has_no_position_either(self, store):
        store.note_heads("hg1", [standing(head=9)], NOW)
        store.accept(batch(4, None))
        (row,) = store.journals()
        assert (row.scanned, row.head) == (4, 9)

    def test_first_batch_ends_since(self, store):
        store.learn("hg1", [standing(head=9, since=5.0)], NOW)
        store.accept(batch(4, None))
        (row,) = store.journals()
        assert (row.scanned, row.since, row.first_seen) == (4, None, NOW)

    @pytest.mark.parametrize("expected", [None, 0])
    def test_other_bytes_at_a_known_place_are_a_fork(self, store, expected):
        store.accept(batch(1, None, records=[record(1)]))
        forged = record(1, body=b"other")
        with pytest.raises(Fork) as caught:
            store.accept(batch(2, expected, records=[forged, record(2)]))
        fork = caught.value
        assert (fork.journal, fork.sequence) == (JOURNAL, 1)
        assert (fork.stored, fork.received) == (record(1).sha256, forged.sha256)
        assert store.journals()[0].scanned == 1
        assert store.record_digest(JOURNAL, 1) == record(1).sha256
        assert store.record_digest(JOURNAL, 2) is None

    def test_a_certificate_that_nobody_gave_is_an_error(self, store):
        with pytest.raises(StoreError, match=CERTIFICATE):
            store.accept(batch(1, None, records=[record(1)], certificates={}))
        assert store.journals() == []
        assert store.newest_event() == 0

    def test_a_certificate_need_be_given_once(self, store):
        store.accept(batch(1, None, records=[record(1)]))
        store.accept(batch(2, 1, records=[record(2)], certificates={}))
        assert store.newest_event() == 2

    def test_chain_heads_are_kept_per_branch(self, store):
        store.accept(batch(1, None, heads={"a": Link(1, "11" * 32), "b": Link(1, "22" * 32)}))
        store.accept(batch(2, 1, heads={"b": Link(2, "33" * 32)}))
        assert store.chain(JOURNAL) == {"a": Link(1, "11" * 32), "b": Link(2, "33" * 32)}
        assert store.chain(OTHER) == {}

    def test_parts_are_those_of_the_branch_in_order(self, store):
        store.accept(batch(2, None, records=[record(1), record(2, branch="other")]))
        store.accept(batch(5, 2, records=[record(3), record(4), record(5)]))
        found = store.parts(JOURNAL, "default", 1, 4)
        assert found == [record(1).event, record(3).event, record(4).event]

    def test_events_are_numbered_by_acceptance(self, store):
        store.accept(batch(1, None, records=[record(1)]))
        store.accept(batch(8, None, journal=OTHER, records=[record(8, journal=OTHER)]))
        store.accept(batch(3, 1, records=[record(3)]))
        found = store.events(0, 10)
        assert [event.record.event_id for event in found] == [
            f"{JOURNAL}/1",
            f"{OTHER}/8",
            f"{JOURNAL}/3",
        ]
        numbers = [event.number for event in found]
        assert numbers == sorted(numbers)
        assert store.newest_event() == numbers[-1]
        assert store.events(numbers[0], 1) == [found[1]]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"scanned": 1, "expected": 2},
            {"scanned": 2, "records": (record(1, journal=OTHER),)},
            {"scanned": 2, "records": (record(2), record(1))},
            {"scanned": 2, "records": (record(2), record(2))},
            {"scanned": 2, "records": (record(3),)},
            {"scanned": 2, "records": (record(0),)},
        ],
    )
    def test_a_batch_that_contradicts_itself_cannot_be_made(self, wrong):
        with pytest.raises(ValueError, match="batch"):
            batch(**{"expected": None, **wrong})

    def test_what_was_left_out_is_taken_late_and_the_position_stays(self, box):
        # Given a position behind an event that did not come
        store = box.store
        store.accept(batch(3, None, records=[record(1), record(3)], deliveries=[delivery(1)]))
        # When it comes, alone or before the next one
        late = batch(3, 3, records=[record(2, branch="other")], heads={"other": Link(2, "22" * 32)})
        assert store.accept(late) == Accepted(1, 0)
        assert store.accept(late) == Accepted(0, 1)
        # Then it is there once, behind what had been stored before
        store = box.reopen()
        assert store.journals()[0].scanned == 3
        assert [event.record.sequence for event in store.events(0, 9)] == [1, 3, 2]
        assert store.chain(JOURNAL) == {"other": Link(2, "22" * 32)}
        assert store.accept(batch(4, 3, records=[record(2, branch="other"), record(4)])) == (
            Accepted(1, 1)
        )


class TestHeld:
    def held_then_free(self, store):
        store.accept(
            batch(
                3,
                None,
                records=[record(1, held=True), record(2, branch="other"), record(3)],
                deliveries=[delivery(1), delivery(2, branch="other"), delivery(3)],
            )
        )

    def test_only_its_lane_waits(self, store):
        self.held_then_free(store)
        assert states(store)["build-9f-1"] is State.HELD
        assert store.status().held_events == 1
        assert ids(claim(store)) == ["build-9f-2"]
        assert store.next_due() == NOW + 60.0

    def test_release_frees_the_lane_in_its_old_order(self, box):
        self.held_then_free(box.store)
        store = box.reopen()
        assert store.release(JOURNAL, "default", 1) == 1
        assert store.release(JOURNAL, "default", 1) == 0
        assert not store.event(JOURNAL, 1).record.held
        assert store.next_due() == 0.0
        assert ids(claim(store)) == ["build-9f-2", "build-9f-1"]

    def test_release_stops_at_its_sequence_and_branch(self, store):
        store.accept(
            batch(
                3,
                None,
                records=[
                    record(1, held=True),
                    record(2, held=True),
                    record(3, held=True, branch="other"),
                ],
                deliveries=[delivery(1), delivery(2), delivery(3, branch="other")],
            )
        )
        assert store.release(JOURNAL, "default", 1) == 1
        assert states(store) == {
            "build-9f-1": State.PENDING,
            "build-9f-2": State.HELD,
            "build-9f-3": State.HELD,
        }
        assert store.release(OTHER, "default", 9) == 0

    def continued(self, box):
        """Three journals of a repository, each behind the one before it; the first two held."""
        first, third = OTHER, "cd" * 16
        box.store.accept(
            batch(
                6,
                None,
                journal=first,
                records=[
                    record(4, journal=first, held=True),
                    record(5, journal=first, branch="other", held=True),
                    record(6, journal=first, held=True),
                ],
                deliveries=[delivery(4, journal=first), delivery(6, journal=first)],
            )
        )
        box.store.accept(
            batch(
                2,
                None,
                records=[record(1, held=True), record(2, branch="other", held=True)],
                deliveries=[delivery(1)],
                continues={"default": Continued(first, 4, "aa" * 32)},
            )
        )
        return box.reopen(), third

    @pytest.mark.parametrize("how", ["batch", "release", "decision"])
    def test_a_release_goes_on_in_the_journals_that_are_continued(self, box, how):
        store, third = self.continued(box)
        if how == "batch":
            given = batch(
                1,
                None,
                journal=third,
                records=[record(1, journal=third)],
                continues={"default": Continued(JOURNAL, 1, "bb" * 32)},
                release=(("default", 0),),
            )
            store.accept(given)
        elif how == "release":
            assert store.release(JOURNAL, "default", 1) == 2
        else:
            assert store.decide(decided("release", "default", 1)) == 2
        # Up to what is continued, of the branch that continues it
        assert [(one.journal, one.branch, one.first) for one in store.held()] == [
            (OTHER, "other", 5),
            (OTHER, "default", 6),
            (JOURNAL, "other", 2),
        ]
        assert states(store) == {
            "build-ab-4": State.PENDING,
            "build-ab-6": State.HELD,
            "build-9f-1": State.PENDING,
        }

    def test_a_release_before_the_first_event_reaches_what_is_continued(self, box):
        store, _ = self.continued(box)
        assert store.release(JOURNAL, "default", 0) == 1
        assert store.event(JOURNAL, 1).record.held

    def test_journals_that_continue_each_other_end_a_release(self, store):
        store.learn("hg1", [standing(), standing(OTHER)], NOW)
        for one, other in ((JOURNAL, OTHER), (OTHER, JOURNAL)):
            held = record(1, journal=one, held=True)
            link = {"default": Continued(other, 1, "aa" * 32)}
            store.accept(batch(1, None, journal=one, records=[held], continues=link))
        assert store.release(JOURNAL, "default", 1) == 2

    def test_a_delivery_over_several_parts_waits_for_all(self, store):
        store.accept(batch(1, None, records=[record(1, held=True)]))
        several = delivery(2, first=1, last=2)
        store.accept(batch(2, 1, records=[record(2, held=True)], deliveries=[several]))
        store.release(JOURNAL, "default", 1)
        assert states(store) == {several.id: State.HELD}
        store.release(JOURNAL, "default", 2)
        assert ids(claim(store)) == [several.id]

    def test_a_delivery_behind_a_running_one_does_not_disturb_it(self, store):
        store.accept(batch(1, None, records=[record(1)], deliveries=[delivery(1)]))
        (running,) = claim(store)
        held = record(2, held=True)
        store.accept(batch(2, 1, records=[held], deliveries=[delivery(2)]))
        assert store.delivery(running.delivery.id) == running.delivery
        store.release(JOURNAL, "default", 2)
        assert store.delivery(running.delivery.id) == running.delivery
        assert claim(store) == []
        assert store.finish(running.delivery.id, running.fence, DONE, NOW)
        assert ids(claim(store)) == ["build-9f-2"]

    def test_a_batch_releases_before_it_delivers(self, store):
        store.accept(batch(1, None, records=[record(1, held=True)], deliveries=[delivery(1)]))
        both = delivery(2, first=1, last=2)
        given = batch(2, 1, records=[record(2)], deliveries=[both], release=(("default", 1),))
        store.accept(given)
        assert states(store) == {"build-9f-1": State.PENDING, both.id: State.PENDING}

    def test_journals_that_continue_each_other_free_no_more_than_was_asked(self, store):
        # Given two journals of which each says that it continues the other
        here = {"continues": {"default": Continued(OTHER, 1, "ee" * 32)}}
        there = {"continues": {"default": Continued(JOURNAL, 9, "ee" * 32)}}
        held = [record(1, held=True), record(2, held=True)]
        store.accept(batch(2, None, records=held, **here))
        new = [record(1, journal=OTHER, held=True)]
        store.accept(batch(1, None, journal=OTHER, records=new, **there))
        # When one is released up to its first event, then that one and what it continues are free
        assert store.release(JOURNAL, "default", 1) == 2
        assert [(row.journal, row.first, row.last) for row in store.held()] == [(JOURNAL, 2, 2)]


class TestClaim:
    def test_a_claim_says_what_to_run(self, store):
        fill(store, 1)
        (claimed,) = claim(store, owner="ci/1", lease=30.0)
        item = claimed.delivery
        assert claimed.attempt == 1
        assert claimed.fence == item.fence == int(NOW * 1e6)
        assert (item.state, item.owner, item.claimed) == (State.RUNNING, "ci/1", NOW)
        assert (item.lease_until, item.due, item.ended) == (NOW + 30.0, None, None)
        new = delivery(1)
        for name in new.__slots__:
            assert getattr(item, name) == getattr(new, name)
        assert store.delivery(item.id) == item

    def test_one_delivery_per_lane_in_order(self, store):
        fill(store, 3)
        ran = []
        for _ in range(3):
            (claimed,) = claim(store)
            assert claim(store) == []
            ran += ids([claimed])
            assert store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        assert ran == ["build-9f-1", "build-9f-2", "build-9f-3"]
        assert claim(store) == []

    def test_what_comes_behind_a_running_delivery_leaves_its_lease(self, store):
        fill(store, 1)
        (running,) = claim(store)
        store.accept(batch(2, 1, records=[record(2)], deliveries=[delivery(2)]))
        assert store.next_due() == running.delivery.lease_until
        assert store.delivery(running.delivery.id) == running.delivery
        assert ids(claim(store, now=NOW + 60)) == [running.delivery.id]

    def test_what_comes_behind_a_delayed_delivery_leaves_its_delay(self, store):
        fill(store, 1)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, retry(NOW + 5), NOW)
        store.accept(batch(2, 1, records=[record(2)], deliveries=[delivery(2)]))
        assert store.next_due() == NOW + 5
        assert claim(store) == []

    def test_lanes_run_side_by_side(self, store):
        items = [delivery(1, "build"), delivery(1, "notify")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        assert ids(claim(store)) == ["build-9f-1", "notify-9f-1"]

    def test_the_same_key_of_two_rules_is_two_lanes(self, store):
        items = [delivery(1, rule, order_key="same") for rule in ("build", "notify")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        assert len(claim(store)) == 2

    def test_lanes_take_turns(self, store):
        records = [record(n) for n in (1, 2, 3)]
        items = [delivery(1), delivery(2), delivery(3, "notify")]
        store.accept(batch(3, None, records=records, deliveries=items))
        ran = []
        while found := claim(store, limit=1):
            ran += ids(found)
            store.finish(found[0].delivery.id, found[0].fence, DONE, NOW)
        assert ran == ["build-9f-1", "notify-9f-3", "build-9f-2"]

    @pytest.mark.parametrize(("limit", "given"), [(-1, 0), (0, 0), (2, 2), (9, 3)])
    def test_limit(self, store, limit, given):
        items = [delivery(1, rule) for rule in "abc"]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        assert len(claim(store, limit=limit)) == given

    def test_never_more_than_the_contract_says(self, store):
        items = [delivery(1, f"rule{n}") for n in range(MAX_CLAIMS + 1)]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        assert len(claim(store, limit=10**9)) == MAX_CLAIMS
        assert len(store.deliveries(Wanted(), 10**9)) == MAX_LIST

    def test_rules_choose_lanes(self, store):
        items = [delivery(1, "build"), delivery(1, "gone")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        build, gone = {"build": Terms()}, {"gone": Terms()}
        assert claim(store, terms={}) == []
        assert store.next_due(terms={}) is None
        assert ids(claim(store, terms=build)) == ["build-9f-1"]
        assert store.next_due(terms=build) == NOW + 60.0
        assert states(store)["gone-9f-1"] is State.PENDING
        assert store.next_due(terms=gone) == 0.0
        assert ids(claim(store, terms=gone)) == ["gone-9f-1"]

    def test_a_lease_of_another_rule_that_is_over_is_ended(self, store):
        fill(store, 1)
        (claimed,) = claim(store)
        assert claim(store, now=NOW + 59, terms={"other": Terms()}) == []
        assert states(store) == {claimed.delivery.id: State.RUNNING}
        assert claim(store, now=NOW + 60, terms={"other": Terms()}) == []
        assert states(store) == {claimed.delivery.id: State.PENDING}
        assert not store.finish(claimed.delivery.id, claimed.fence, DONE, NOW + 60)


class TestFence:
    def test_grows_though_the_clock_stands_still(self, store):
        items = [delivery(1, rule) for rule in "abc"]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        fences = [item.fence for item in claim(store)]
        assert fences == sorted(set(fences))

    def test_grows_though_the_clock_goes_back_and_the_store_is_reopened(self, box):
        fill(box.store, 2)
        (first,) = claim(box.store)
        box.store.finish(first.delivery.id, first.fence, DONE, NOW)
        (second,) = claim(box.reopen(crash=True), now=NOW - 1e6)
        assert second.fence == first.fence + 1

    def test_follows_the_clock(self, store):
        fill(store, 2)
        (first,) = claim(store)
        store.finish(first.delivery.id, first.fence, DONE, NOW)
        (second,) = claim(store, now=NOW + 5)
        assert second.fence == int((NOW + 5) * 1e6)

    def test_an_old_fence_changes_nothing(self, store):
        fill(store, 1)
        (old,) = claim(store, lease=10.0)
        (new,) = claim(store, now=NOW + 10.0)
        assert new.delivery.id == old.delivery.id
        before = store.delivery(new.delivery.id)
        receipts = store.receipts(new.delivery.id)
        assert not store.finish(old.delivery.id, old.fence, DONE, NOW + 11)
        assert not store.extend(old.delivery.id, old.fence, 99.0, NOW + 11)
        assert store.delivery(new.delivery.id) == before
        assert store.receipts(new.delivery.id) == receipts
        assert store.finish(new.delivery.id, new.fence, DONE, NOW + 11)
        assert not store.finish(old.delivery.id, old.fence, DONE, NOW + 12)

    def test_unknown_deliveries_belong_to_nobody(self, store):
        assert not store.finish("x", 1, DONE, NOW)
        assert not store.extend("x", 1, 9.0, NOW)


class TestFinish:
    def test_done_is_final_and_leaves_a_receipt(self, box):
        fill(box.store, 1)
        (claimed,) = claim(box.store, owner="ci/1")
        full = outcome(
            reason="exit status 0", exit_status=0, output=b"\x00built\xff", truncated=True
        )
        finish = Finish(state=State.DONE, outcome=full)
        assert box.store.finish(claimed.delivery.id, claimed.fence, finish, NOW + 3)
        store = box.reopen(crash=True)
        item = store.delivery(claimed.delivery.id)
        assert (item.state, item.attempts, item.ended) == (State.DONE, 1, NOW + 3)
        assert (item.owner, item.claimed, item.lease_until) == (None, None, None)
        assert (item.reason, item.fence) == ("exit status 0", claimed.fence)
        (receipt,) = store.receipts(item.id)
        assert receipt.outcome == full
        assert (receipt.delivery, receipt.fence, receipt.attempt) == (item.id, item.fence, 1)
        assert (receipt.owner, receipt.counted) == ("ci/1", True)
        assert claim(store) == []

    def test_the_same_finish_again_is_true_again(self, store):
        fill(store, 2)
        (claimed,) = claim(store)
        assert store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        before = store.delivery(claimed.delivery.id)
        assert store.finish(claimed.delivery.id, claimed.fence, DONE, NOW + 5)
        assert not store.finish(claimed.delivery.id, claimed.fence, DEAD, NOW + 5)
        assert store.delivery(claimed.delivery.id) == before
        assert len(store.receipts(claimed.delivery.id)) == 1

    def test_dead_frees_the_lane(self, store):
        fill(store, 2)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, DEAD, NOW)
        assert states(store)["build-9f-1"] is State.DEAD
        assert ids(claim(store)) == ["build-9f-2"]

    def test_retry_blocks_the_lane_until_due(self, box):
        fill(box.store, 2)
        (claimed,) = claim(box.store)
        box.store.finish(claimed.delivery.id, claimed.fence, retry(NOW + 5), NOW)
        store = box.reopen()
        item = store.delivery("build-9f-1")
        assert (item.state, item.due, item.attempts) == (State.RETRYING, NOW + 5, 1)
        assert claim(store, now=NOW + 4.9) == []
        assert store.next_due() == NOW + 5
        (again,) = claim(store, now=NOW + 5)
        assert (again.delivery.id, again.attempt) == ("build-9f-1", 2)
        assert again.delivery.due is None

    def test_due_but_not_yet_claimed_is_still_retrying(self, store):
        fill(store, 1)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, retry(NOW + 5), NOW)
        assert claim(store, limit=0, now=NOW + 6) == []
        assert states(store) == {"build-9f-1": State.RETRYING}
        assert store.next_due() == 0.0
        assert len(claim(store, now=NOW + 6)) == 1

    def test_pending_is_ready_at_once_and_not_counted(self, store):
        fill(store, 2)
        (claimed,) = claim(store)
        assert store.finish(claimed.delivery.id, claimed.fence, BACK, NOW)
        (again,) = claim(store)
        assert (again.delivery.id, again.attempt) == ("build-9f-1", 1)
        (receipt,) = store.receipts("build-9f-1")
        assert (receipt.counted, receipt.outcome.verdict) == (False, "stopped")

    def test_attempts_are_counted_one_by_one(self, store):
        fill(store, 1)
        for attempt in range(1, 5):
            (claimed,) = claim(store, now=NOW + attempt)
            assert claimed.attempt == attempt
            store.finish(claimed.delivery.id, claimed.fence, retry(NOW + attempt), NOW)
        receipts = store.receipts("build-9f-1")
        assert [receipt.attempt for receipt in receipts] == [1, 2, 3, 4]
        fences = [receipt.fence for receipt in receipts]
        assert fences == sorted(set(fences))

    @pytest.mark.parametrize("state", [State.RUNNING, State.HELD, State.SUPERSEDED])
    def test_an_attempt_cannot_end_otherwise(self, state):
        with pytest.raises(ValueError, match=state):
            Finish(state=state, outcome=outcome())

    def test_retry_needs_a_time_and_nothing_else_has_one(self):
        with pytest.raises(ValueError, match="retry_at"):
            Finish(state=State.RETRYING, outcome=outcome())
        with pytest.raises(ValueError, match="retry_at"):
            Finish(state=State.DONE, outcome=outcome(), retry_at=1.0)


class TestLease:
    def test_extend_moves_its_end(self, store):
        fill(store, 1)
        (claimed,) = claim(store, lease=10.0)
        assert store.extend(claimed.delivery.id, claimed.fence, 10.0, NOW + 8)
        assert store.delivery(claimed.delivery.id).lease_until == NOW + 18
        assert store.next_due() == NOW + 18
        assert claim(store, now=NOW + 17) == []
        assert len(claim(store, now=NOW + 18)) == 1

    def test_extend_after_the_end_is_too_late_only_once_it_was_taken(self, store):
        fill(store, 1)
        (claimed,) = claim(store, lease=10.0)
        assert store.extend(claimed.delivery.id, claimed.fence, 10.0, NOW + 11)
        (taken,) = claim(store, now=NOW + 21)
        assert not store.extend(claimed.delivery.id, claimed.fence, 10.0, NOW + 21)
        assert store.extend(taken.delivery.id, taken.fence, 10.0, NOW + 21)

    def test_a_finished_delivery_has_no_lease(self, store):
        fill(store, 1)
        (claimed,) = claim(store)
        store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        assert not store.extend(claimed.delivery.id, claimed.fence, 10.0, NOW)

    def test_an_ended_lease_is_a_lost_attempt(self, store):
        fill(store, 1)
        claim(store, owner="ci/1", lease=10.0)
        (again,) = claim(store, owner="ci/2", now=NOW + 10)
        assert (again.attempt, again.delivery.attempts, again.delivery.lost) == (1, 0, 1)
        (receipt,) = store.receipts(again.delivery.id)
        assert (receipt.owner, receipt.attempt, receipt.counted) == ("ci/1", 1, False)
        assert receipt.outcome.verdict == "lost"
        assert "ci/1" in receipt.outcome.reason
        assert (receipt.outcome.started, receipt.outcome.ended) == (NOW, NOW + 10)

    def test_ten_lost_attempts_are_enough(self, store):
        fill(store, 2)
        for n in range(LOST_LIMIT):
            (claimed,) = claim(store, now=NOW + n, lease=1.0)
            assert claimed.delivery.id == "build-9f-1"
        (claimed,) = claim(store, now=NOW + LOST_LIMIT)
        assert claimed.delivery.id == "build-9f-2"
        dead = store.delivery("build-9f-1")
        assert (dead.state, dead.lost, dead.attempts) == (State.DEAD, LOST_LIMIT, 0)
        assert str(LOST_LIMIT) in dead.reason
        assert dead.ended == NOW + LOST_LIMIT
        assert len(store.receipts("build-9f-1")) == LOST_LIMIT

    def test_release_leases_at_start(self, box):
        items = [delivery(1, "build"), delivery(1, "notify")]
        box.store.accept(batch(1, None, records=[record(1)], deliveries=items))
        claim(box.store, owner="ci/1")
        store = box.reopen(crash=True)
        assert claim(store) == []
        assert store.release_leases(NOW + 1) == 2
        assert store.release_leases(NOW + 1) == 0
        assert [item.attempt for item in claim(store)] == [1, 1]
        assert store.receipts("build-9f-1")[0].outcome.verdict == "lost"

    def test_release_leases_of_one_owner(self, store):
        items = [delivery(1, "build"), delivery(1, "notify")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        claim(store, limit=1, owner="ci/1")
        (other,) = claim(store, owner="ci/2")
        assert store.release_leases(NOW, "ci/1") == 1
        assert ids(claim(store)) == ["build-9f-1"]
        assert store.finish(other.delivery.id, other.fence, DONE, NOW)

    def test_release_leases_gives_up_after_ten(self, store):
        fill(store, 2)
        for _ in range(LOST_LIMIT):
            assert ids(claim(store)) == ["build-9f-1"]
            assert store.release_leases(NOW) == 1
        assert states(store)["build-9f-1"] is State.DEAD
        assert ids(claim(store)) == ["build-9f-2"]


class TestNextDue:
    def test_nothing_to_do(self, store):
        assert store.next_due() is None
        fill(store, 1)
        assert store.next_due() == 0.0
        (claimed,) = claim(store)
        assert store.next_due() == NOW + 60
        store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
        assert store.next_due() is None

    def test_the_earliest_counts(self, store):
        items = [delivery(1, "build"), delivery(1, "notify")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        first, second = claim(store)
        store.finish(first.delivery.id, first.fence, retry(NOW + 9), NOW)
        store.finish(second.delivery.id, second.fence, retry(NOW + 7), NOW)
        assert store.next_due() == NOW + 7
        assert store.next_due(terms={"build": Terms()}) == NOW + 9


class TestQueries:
    def three(self, store):
        records = [record(1), record(2, branch="other"), record(3)]
        items = [delivery(1), delivery(2, branch="other"), delivery(3, "notify")]
        store.accept(batch(3, None, records=records, deliveries=items))
        (first,) = claim(store, limit=1)
        store.finish(first.delivery.id, first.fence, DONE, NOW)

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Wanted(), [1, 2, 3]),
            (Wanted(states=frozenset({State.DONE})), [1]),
            (Wanted(states=frozenset({State.PENDING, State.DEAD})), [2, 3]),
            (Wanted(states=frozenset()), []),
            (Wanted(rule="notify"), [3]),
            (Wanted(repo=REPO), [1, 2, 3]),
            (Wanted(repo="x"), []),
            (Wanted(branch="other"), [2]),
            (Wanted(event_id=f"{JOURNAL}/3"), [3]),
            (Wanted(rule="build", branch="default"), [1]),
            (Wanted(id="build-9f"), [1, 2]),
            (Wanted(id="build-9f-1"), [1]),
            (Wanted(id="build-9f-12"), []),
            (Wanted(id="notify", states=frozenset(State)), [3]),
            (Wanted(since=1002.0), [2, 3]),
            (Wanted(until=1002.0), [1]),
            (Wanted(since=1001.5, until=1003.0, rule="build"), [2]),
            (Wanted(states=frozenset({State.PENDING}), rule="build", repo=REPO), [2]),
        ],
    )
    def test_deliveries_that_fit(self, store, wanted, found):
        self.three(store)
        assert [item.last for item in store.deliveries(wanted, 10)] == found

    def test_paging(self, store):
        self.three(store)
        first, second = store.deliveries(Wanted(), 2)
        assert (first.last, second.last) == (1, 2)
        (third,) = store.deliveries(Wanted(after=second.number), 2)
        assert third.last == 3
        assert store.deliveries(Wanted(), 2, newest=True) == [second, third]
        assert store.deliveries(Wanted(), 0, newest=True) == []

    def test_status_counts_everything(self, store):
        empty = store.status()
        assert (empty.events, empty.held_events, empty.oldest_open) == (0, 0, None)
        assert empty.deliveries == dict.fromkeys(State, 0)
        self.three(store)
        status = store.status()
        assert (status.events, status.oldest_open) == (3, 1002.0)
        counted = {**dict.fromkeys(State, 0), State.DONE: 1, State.PENDING: 2}
        assert status.deliveries == counted


def deliver(store, items):
    """Deliveries over one event."""
    row = next((row for row in store.journals() if row.journal == JOURNAL), None)
    scanned = (row.scanned or 0) if row else 0
    made = batch(scanned + 1, scanned or None, records=[record(scanned + 1)], deliveries=items)
    store.accept(made)


def run(store, name, finish=DONE, now=NOW):
    """Claim whatever is ready until it is this delivery, and finish that; give the others back."""
    for claimed in claim(store, now=now):
        end = finish if claimed.delivery.id == name else BACK
        assert store.finish(claimed.delivery.id, claimed.fence, end, now)


class TestTurns:
    """Rules take turns, and within a rule its lanes."""

    def lanes(self, *names):
        return [delivery(1, rule, id=f"{rule}-{key}", order_key=key) for rule, key in names]

    def test_a_flooded_rule_does_not_keep_another_waiting(self, store):
        flood = [("flood", str(n)) for n in range(50)]
        deliver(store, self.lanes(*flood, ("quiet", "a"), ("quiet", "b")))
        ran = [ids(claim(store, limit=1))[0] for _ in range(6)]
        assert [name.split("-")[0] for name in ran] == ["flood", "quiet", "flood", "quiet"] + (
            ["flood"] * 2
        )

    def test_one_claim_goes_round_the_rules(self, store):
        names = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("c", "1"), ("c", "2")]
        deliver(store, self.lanes(*names))
        assert ids(claim(store, limit=5)) == ["a-1", "b-1", "c-1", "a-2", "c-2"]

    def test_the_rule_whose_newest_claim_is_longest_ago_goes_first(self, box):
        deliver(box.store, self.lanes(*((rule, key) for rule in "abc" for key in "12")))
        claim(box.store, terms={"b": Terms()}, limit=1)
        claim(box.store, terms={"a": Terms()}, limit=1, now=NOW - 999)
        store = box.reopen(crash=True)
        assert ids(claim(store, limit=3)) == ["c-1", "b-2", "a-2"]

    def test_a_flooded_lane_does_not_keep_another_of_its_rule_waiting(self, store):
        fill(store, 9)
        store.accept(batch(10, 9, records=[record(10)], deliveries=self.lanes(("build", "b"))))
        (first,) = claim(store, limit=1)
        store.finish(first.delivery.id, first.fence, DONE, NOW)
        assert ids(claim(store, limit=1)) == ["build-b"]

    def test_a_lane_that_waited_for_a_time_comes_behind_those_ready_before(self, store):
        deliver(store, self.lanes(("a", "1"), ("a", "2"), ("a", "3")))
        (first,) = claim(store, limit=1)
        (second,) = claim(store, limit=1)
        store.finish(first.delivery.id, first.fence, retry(NOW + 2), NOW)
        store.finish(second.delivery.id, second.fence, retry(NOW + 1), NOW)
        assert ids(claim(store, now=NOW + 3)) == ["a-3", "a-2", "a-1"]


class TestTerms:
    DEPLOY = Terms(lock="production")
    BOTH = {"deploy": DEPLOY, "migrate": DEPLOY, "build": Terms()}  # noqa: RUF012 - never changed

    def both(self, store):
        deliver(store, [delivery(1, "deploy"), delivery(1, "migrate"), delivery(1, "build")])

    def test_a_lock_lets_one_run_of_all_rules_that_name_it(self, store):
        self.both(store)
        build, deploy = claim(store, terms=self.BOTH)
        assert (build.delivery.lock, deploy.delivery.lock) == (None, "production")
        assert store.delivery("deploy-9f-1").lock == "production"
        assert ids([build, deploy]) == ["build-9f-1", "deploy-9f-1"]
        assert claim(store, terms=self.BOTH, owner="another") == []
        assert claim(store, terms={"migrate": self.DEPLOY}, owner="another") == []

    @pytest.mark.parametrize("end", [DONE, DEAD, BACK, retry(NOW + 9)], ids=lambda end: end.state)
    def test_it_is_free_when_the_delivery_does_not_run_any_more(self, box, end):
        self.both(box.store)
        (held,) = claim(box.store, terms={"deploy": self.DEPLOY})
        store = box.reopen(crash=True)
        assert claim(store, terms={"migrate": self.DEPLOY}) == []
        assert store.finish(held.delivery.id, held.fence, end, NOW)
        assert store.delivery(held.delivery.id).lock is None
        assert ids(claim(store, terms={"migrate": self.DEPLOY})) == ["migrate-9f-1"]

    def test_it_is_free_when_the_lease_is_over_and_the_late_result_is_fenced_off(self, store):
        self.both(store)
        (old,) = claim(store, terms={"deploy": self.DEPLOY}, lease=10.0)
        migrate = {"migrate": self.DEPLOY}
        assert store.next_due(terms=migrate) == NOW + 10
        assert claim(store, terms=migrate, now=NOW + 9.9) == []
        assert ids(claim(store, terms=migrate, now=NOW + 10)) == ["migrate-9f-1"]
        assert not store.extend(old.delivery.id, old.fence, 10.0, NOW + 11)
        assert not store.finish(old.delivery.id, old.fence, DONE, NOW + 11)

    def test_it_lasts_as_long_as_the_lease_is_extended(self, store):
        self.both(store)
        (held,) = claim(store, terms={"deploy": self.DEPLOY}, lease=10.0)
        assert store.extend(held.delivery.id, held.fence, 10.0, NOW + 9)
        assert claim(store, terms={"migrate": self.DEPLOY}, now=NOW + 18) == []

    def test_other_locks_do_not_matter(self, store):
        self.both(store)
        claim(store, terms={"deploy": self.DEPLOY})
        assert len(claim(store, terms={"migrate": Terms(lock="staging")})) == 1

    def test_a_limit_counts_what_runs_of_all_owners(self, store):
        deliver(store, [delivery(1, id=str(n), order_key=str(n)) for n in range(5)])
        terms = {"build": Terms(limit=2)}
        first, _ = claim(store, terms=terms)
        assert claim(store, terms=terms, owner="another") == []
        store.finish(first.delivery.id, first.fence, DONE, NOW)
        assert len(claim(store, terms=terms, owner="another")) == 1
        assert len(claim(store, terms={"build": Terms(limit=3)})) == 1
        assert len(claim(store)) == 1

    def test_who_may_not_run_stands_in_nobodys_way(self, store):
        busy = [delivery(1, "deploy", id=str(n), order_key=str(n)) for n in range(20)]
        deliver(store, [*busy, delivery(1, "migrate"), delivery(1, "zebra")])
        terms = {"deploy": Terms(limit=1), "migrate": Terms(limit=0), "zebra": Terms()}
        assert ids(claim(store, terms=terms)) == ["0", "zebra-9f-1"]

    def test_what_may_not_run_is_not_due(self, store):
        self.both(store)
        (held,) = claim(store, terms={"deploy": self.DEPLOY}, lease=10.0)
        assert store.next_due(terms={"migrate": self.DEPLOY}) == NOW + 10
        assert store.next_due(terms={"migrate": Terms(limit=0)}) is None
        assert store.next_due(terms={"deploy": Terms(lock="production", limit=1)}) == NOW + 10
        assert store.next_due(terms=self.BOTH) == 0.0
        store.finish(held.delivery.id, held.fence, DONE, NOW)
        assert store.next_due(terms={"migrate": self.DEPLOY}) == 0.0

    def test_a_delay_that_is_over_is_not_due_while_the_lock_is_held(self, store):
        self.both(store)
        (first,) = claim(store, terms={"migrate": self.DEPLOY})
        store.finish(first.delivery.id, first.fence, retry(NOW + 1), NOW)
        claim(store, terms={"deploy": self.DEPLOY}, now=NOW + 2, lease=10.0)
        terms = {"migrate": self.DEPLOY}
        assert store.next_due(terms=terms) == NOW + 12
        assert claim(store, terms=terms, now=NOW + 3) == []
        assert states(store)["migrate-9f-1"] is State.RETRYING


class TestPause:
    def test_a_paused_rule_is_not_claimed(self, box):
        deliver(box.store, [delivery(1), delivery(1, "notify")])
        paused = Paused(rule="build", who="alice", at=NOW, reason="the disk is full")
        assert box.store.pause(paused)
        store = box.reopen(crash=True)
        assert store.paused() == [paused]
        assert ids(claim(store)) == ["notify-9f-1"]
        assert store.resume("build")
        assert store.paused() == []
        assert ids(claim(store)) == ["build-9f-1"]

    def test_it_is_nothing_to_wait_for(self, store):
        deliver(store, [delivery(1), delivery(1, "notify")])
        run(store, "notify-9f-1", retry(NOW + 1))
        for rule in ("build", "notify"):
            assert store.pause(Paused(rule=rule, who="alice", at=NOW))
        assert store.next_due() is None
        assert claim(store, now=NOW + 5) == []
        assert store.resume("notify")
        assert store.next_due() == NOW + 1

    def test_what_runs_goes_on(self, store):
        fill(store, 2)
        (running,) = claim(store)
        store.pause(Paused(rule="build", who="alice", at=NOW))
        assert store.extend(running.delivery.id, running.fence, 60.0, NOW + 1)
        assert store.finish(running.delivery.id, running.fence, DONE, NOW + 1)
        assert claim(store) == []

    def test_twice_is_once(self, store):
        first = Paused(rule="build", who="alice", at=NOW, reason="why")
        assert store.pause(first)
        assert not store.pause(Paused(rule="build", who="bob", at=NOW + 1))
        assert store.pause(Paused(rule="a rule to come", who="bob", at=NOW))
        assert [each.rule for each in store.paused()] == ["a rule to come", "build"]
        assert store.paused()[1] == first
        assert store.resume("build")
        assert not store.resume("build")


class TestRedeliver:
    @pytest.mark.parametrize("end", [DONE, DEAD], ids=["done", "dead"])
    def test_a_final_one_runs_again_and_counts_anew(self, box, end):
        fill(box.store, 1)
        (first,) = claim(box.store)
        box.store.finish(first.delivery.id, first.fence, retry(NOW), NOW)
        (second,) = claim(box.store)
        box.store.finish(second.delivery.id, second.fence, end, NOW)
        assert box.store.redeliver(["build-9f-1"], NOW + 5) == ["build-9f-1"]
        store = box.reopen(crash=True)
        item = store.delivery("build-9f-1")
        assert (item.state, item.attempts, item.lost) == (State.PENDING, 0, 0)
        assert (item.renewed, item.fence, item.ended) == (second.fence, second.fence, None)
        assert item.reason == ""
        assert [each.fence for each in store.receipts(item.id)] == [first.fence, second.fence]
        assert store.next_due() == 0.0
        (again,) = claim(store, now=NOW + 6)
        assert (again.delivery.id, again.attempt) == ("build-9f-1", 1)
        assert again.fence > second.fence
        assert store.finish(again.delivery.id, again.fence, DONE, NOW + 6)
        assert len(store.receipts(item.id)) == 3

    def test_lost_attempts_count_anew(self, store):
        fill(store, 1)
        for _ in range(LOST_LIMIT):
            claim(store)
            store.release_leases(NOW)
        assert store.redeliver(["build-9f-1"], NOW) == ["build-9f-1"]
        claim(store)
        store.release_leases(NOW)
        item = store.delivery("build-9f-1")
        assert (item.state, item.lost) == (State.PENDING, 1)

    def test_it_comes_back_to_its_place(self, store):
        fill(store, 3)
        run(store, "build-9f-1")
        (second,) = claim(store)
        assert store.redeliver(["build-9f-1"], NOW) == ["build-9f-1"]
        assert claim(store) == []
        assert store.next_due() == NOW + 60
        assert store.finish(second.delivery.id, second.fence, retry(NOW + 5), NOW)
        for name, now in (("build-9f-1", 0), ("build-9f-2", 5), ("build-9f-3", 5)):
            (claimed,) = claim(store, now=NOW + now)
            assert claimed.delivery.id == name
            store.finish(name, claimed.fence, DONE, NOW + now)

    def test_before_one_that_is_delayed(self, store):
        fill(store, 2)
        run(store, "build-9f-1")
        run(store, "build-9f-2", retry(NOW + 9))
        store.redeliver(["build-9f-1"], NOW)
        assert store.next_due() == 0.0
        run(store, "build-9f-1")
        assert store.next_due() == NOW + 9
        assert states(store)["build-9f-2"] is State.RETRYING

    def test_one_that_is_retrying_is_due_at_once(self, store):
        fill(store, 1)
        run(store, "build-9f-1", retry(NOW + 999))
        assert store.redeliver(["build-9f-1"], NOW + 1) == ["build-9f-1"]
        item = store.delivery("build-9f-1")
        assert (item.state, item.due, item.attempts) == (State.RETRYING, NOW + 1, 1)
        assert ids(claim(store, now=NOW + 1)) == ["build-9f-1"]

    def test_all_others_stay_as_they_are(self, store):
        records = [record(1), record(2, branch="b"), record(3, branch="c", held=True)]
        items = [delivery(1), delivery(2, branch="b"), delivery(3, branch="c")]
        store.accept(batch(3, None, records=records, deliveries=items))
        claim(store, limit=1)
        before = store.deliveries(Wanted(), 9)
        assert store.redeliver([*(item.id for item in before), "unknown"], NOW) == []
        assert store.deliveries(Wanted(), 9) == before

    def test_several_at_once_and_each_once(self, store):
        fill(store, 3)
        for n in (1, 2, 3):
            run(store, f"build-9f-{n}", DEAD)
        names = ["build-9f-3", "build-9f-1", "build-9f-3"]
        assert store.redeliver(names, NOW) == ["build-9f-3", "build-9f-1"]
        assert ids(claim(store)) == ["build-9f-1"]


class TestBury:
    def test_open_ones_that_do_not_run_are_dead(self, box):
        store = box.store
        records = [record(n, held=n == 3) for n in (1, 2, 3)]
        items = [delivery(1), delivery(2), delivery(3), delivery(1, "notify")]
        store.accept(batch(3, None, records=records, deliveries=items))
        run(store, "notify-9f-1", retry(NOW + 9))
        (running,) = claim(store)
        names = [item.id for item in items]
        gone = ["build-9f-2", "build-9f-3", "notify-9f-1"]
        assert store.bury([*names, "unknown"], "given up by alice", NOW + 1) == gone
        store = box.reopen(crash=True)
        for name in gone:
            item = store.delivery(name)
            assert (item.state, item.reason) == (State.DEAD, "given up by alice")
            assert (item.ended, item.due) == (NOW + 1, None)
        assert store.bury(gone, "again", NOW + 2) == []
        assert store.finish(running.delivery.id, running.fence, DONE, NOW)
        assert claim(store, now=NOW + 99) == []
        assert store.next_due() is None

    def test_the_lane_goes_on(self, store):
        fill(store, 2)
        run(store, "build-9f-1", retry(NOW + 99))
        assert store.bury(["build-9f-1"], "given up", NOW) == ["build-9f-1"]
        assert ids(claim(store)) == ["build-9f-2"]

    def test_one_of_a_held_event_is_held_again_when_redelivered(self, box):
        # Given a delivery that was given up while its event must not act yet
        records = [record(1, held=True), record(2)]
        box.store.accept(
            batch(2, None, records=records, deliveries=[delivery(1), delivery(2, branch="b")])
        )
        assert box.store.bury(["build-9f-1"], "given up", NOW) == ["build-9f-1"]
        # When an operator has it run again
        assert box.store.redeliver(["build-9f-1"], NOW + 1) == ["build-9f-1"]
        # Then it waits until the event may act, and not longer
        store = box.reopen(crash=True)
        assert store.delivery("build-9f-1").state is State.HELD
        assert ids(claim(store)) == ["build-9f-2"]
        assert store.status().deliveries[State.HELD] == 1
        assert store.release(JOURNAL, "default", 1) == 1
        assert ids(claim(store)) == ["build-9f-1"]

    def test_they_can_be_redelivered(self, store):
        fill(store, 1)
        store.bury(["build-9f-1"], "given up", NOW)
        assert store.redeliver(["build-9f-1"], NOW) == ["build-9f-1"]
        assert ids(claim(store)) == ["build-9f-1"]


class TestLatest:
    def latest(self, store, first, last, *, held=()):
        for n in range(first, last + 1):
            item = delivery(n, latest=True)
            made = batch(n, n - 1 or None, records=[record(n, held=n in held)], deliveries=[item])
            store.accept(made)

    def test_only_the_newest_waits(self, box):
        self.latest(box.store, 1, 3)
        store = box.reopen(crash=True)
        for n in (1, 2):
            item = store.delivery(f"build-9f-{n}")
            assert item.latest
            assert (item.state, item.due) == (State.SUPERSEDED, None)
            assert item.reason == f"superseded by build-9f-{n + 1}"
            assert item.ended == 1000.0 + n + 1
        assert ids(claim(store)) == ["build-9f-3"]

    def test_of_one_batch_too(self, store):
        items = [delivery(n, latest=True) for n in (1, 2, 3)]
        store.accept(batch(3, None, records=[record(n) for n in (1, 2, 3)], deliveries=items))
        for n in (1, 2):
            item = store.delivery(f"build-9f-{n}")
            assert (item.state, item.ended) == (State.SUPERSEDED, 1003.0)
            assert item.reason == "superseded by build-9f-3"
        assert ids(claim(store)) == ["build-9f-3"]

    def test_what_runs_goes_on(self, store):
        self.latest(store, 1, 1)
        (running,) = claim(store)
        self.latest(store, 2, 3)
        assert store.delivery(running.delivery.id) == running.delivery
        assert states(store)["build-9f-2"] is State.SUPERSEDED
        assert claim(store) == []
        assert store.finish(running.delivery.id, running.fence, DONE, NOW)
        assert ids(claim(store)) == ["build-9f-3"]

    @pytest.mark.parametrize("end", [BACK, retry(NOW + 9)], ids=["given back", "retried"])
    def test_one_that_would_wait_again_does_not(self, store, end):
        self.latest(store, 1, 1)
        (running,) = claim(store)
        self.latest(store, 2, 2)
        assert store.finish(running.delivery.id, running.fence, end, NOW + 7)
        item = store.delivery("build-9f-1")
        assert (item.state, item.ended) == (State.SUPERSEDED, NOW + 7)
        assert (item.reason, item.due) == ("superseded by build-9f-2", None)
        assert len(store.receipts("build-9f-1")) == 1
        assert ids(claim(store)) == ["build-9f-2"]

    def test_nor_does_one_whose_lease_is_over(self, store):
        self.latest(store, 1, 1)
        claim(store, lease=10.0)
        self.latest(store, 2, 2)
        assert ids(claim(store, now=NOW + 10)) == ["build-9f-2"]
        assert store.delivery("build-9f-1").ended == NOW + 10

    def test_one_that_is_retrying_gives_way(self, store):
        self.latest(store, 1, 1)
        run(store, "build-9f-1", retry(NOW + 99))
        self.latest(store, 2, 2)
        assert ids(claim(store)) == ["build-9f-2"]

    def test_what_is_held_stays_until_it_is_released(self, store):
        self.latest(store, 1, 3, held={1, 3})
        assert [item.state for item in store.deliveries(Wanted(), 9)] == [
            State.HELD,
            State.PENDING,
            State.HELD,
        ]
        store.release(JOURNAL, "default", 1)
        assert states(store)["build-9f-1"] is State.SUPERSEDED
        assert store.delivery("build-9f-1").reason == "superseded by build-9f-2"
        assert ids(claim(store)) == ["build-9f-2"]
        store.release(JOURNAL, "default", 3)
        run(store, "build-9f-3")

    def test_of_several_redelivered_at_once_the_newest_takes_the_place_of_all(self, store):
        # Given three that are done
        for sequence in (1, 2, 3):
            position = sequence - 1 or None
            item = delivery(sequence, latest=True)
            store.accept(batch(sequence, position, records=[record(sequence)], deliveries=[item]))
            run(store, item.id, DONE)
        # When all are redelivered in one step
        names = ["build-9f-1", "build-9f-2", "build-9f-3"]
        assert store.redeliver(names, NOW) == names
        # Then the others are superseded by the one that stays
        for name in names[:2]:
            assert store.delivery(name).reason == "superseded by build-9f-3"
        assert ids(claim(store)) == names[2:]

    def test_one_that_is_redelivered_gives_way_to_a_newer_one_that_waits(self, store):
        self.latest(store, 1, 1)
        run(store, "build-9f-1", DEAD)
        self.latest(store, 2, 2)
        assert store.redeliver(["build-9f-1"], NOW + 3) == ["build-9f-1"]
        assert store.delivery("build-9f-1").state is State.SUPERSEDED
        run(store, "build-9f-2")
        assert store.redeliver(["build-9f-1"], NOW + 3) == ["build-9f-1"]
        assert ids(claim(store)) == ["build-9f-1"]

    def test_the_newest_open_one_says_it_for_the_lane(self, store):
        fill(store, 2)
        item = delivery(3, latest=True)
        store.accept(batch(3, 2, records=[record(3)], deliveries=[item]))
        assert states(store)["build-9f-2"] is State.SUPERSEDED
        store.accept(batch(4, 3, records=[record(4)], deliveries=[delivery(4)]))
        assert states(store)["build-9f-3"] is State.PENDING
        assert ids(claim(store)) == ["build-9f-3"]

    def test_other_lanes_and_rules_do_not_matter(self, store):
        items = [delivery(1, latest=True), delivery(2, branch="b", latest=True)]
        items.append(delivery(3, "notify", latest=True))
        records = [record(1), record(2, branch="b"), record(3)]
        store.accept(batch(3, None, records=records, deliveries=items))
        assert set(states(store).values()) == {State.PENDING}


class TestTrace:
    NODES = ("ab" * 20, "abab" + "0" * 36, "cd" * 20)

    def fill(self, store):
        first, second, third = self.NODES
        records = [record(1, nodes=(first, third)), record(2, nodes=(second,)), record(3)]
        store.accept(batch(3, None, records=records))

    @pytest.mark.parametrize(
        ("node", "found"),
        [
            ("ab" * 20, [1]),
            ("abab", [1, 2]),
            ("abab0", [2]),
            ("cdcd", [1]),
            ("abac", []),
            ("ab" * 19 + "ac", []),
            ("ffff", []),
        ],
    )
    def test_events_tell_of_changesets(self, box, node, found):
        self.fill(box.store)
        events = box.reopen().trace(node, 9)
        assert [event.record.sequence for event in events] == found

    def test_they_are_given_as_they_came(self, store):
        self.fill(store)
        (event,) = store.trace(self.NODES[2], 9)
        assert event == store.event(JOURNAL, 1)
        assert event.record.nodes == (self.NODES[0], self.NODES[2])

    def test_it_gives_no_more_than_asked_for(self, store):
        self.fill(store)
        assert [event.record.sequence for event in store.trace("abab", 1)] == [1]
        assert store.trace("abab", 0) == []

    def test_one_event_is_one_answer(self, store):
        store.accept(batch(1, None, records=[record(1, nodes=self.NODES)]))
        assert len(store.trace("abab", 9)) == 1

    def test_a_short_beginning_is_a_mistake(self, store):
        with pytest.raises(ValueError, match="shorter than 4"):
            store.trace("abc", 9)


class TestPrune:
    OLD = 1e6

    def prune(self, store, before=OLD, limit=100):
        count = 0
        while step := store.prune(before, limit):
            assert step <= limit
            count += step
        return count

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_what_is_done_and_old_is_forgotten(self, box, limit):
        fill(box.store, 3)
        for n in (1, 2):
            run(box.store, f"build-9f-{n}", now=NOW + n)
        assert self.prune(box.store, NOW + 2, limit) == 2
        store = box.reopen(crash=True)
        assert list(states(store)) == ["build-9f-2", "build-9f-3"]
        assert store.receipts("build-9f-1") == []
        assert len(store.receipts("build-9f-2")) == 1
        assert [event.record.sequence for event in store.events(0, 9)] == [2, 3]
        assert store.journals()[0].pruned == 1
        assert store.event(JOURNAL, 1) is None
        assert store.record_digest(JOURNAL, 1) is None
        assert store.parts(JOURNAL, "default", 1, 3) == [record(2).event, record(3).event]
        assert store.status().events == 2

    def test_what_is_not_old_stays(self, store):
        store.accept(batch(2, None, records=[record(1), record(2)]))
        assert self.prune(store, 1001.0) == 0
        assert self.prune(store, 1001.5) == 1
        assert [row.pruned for row in store.journals()] == [1]

    def test_what_is_open_stays_with_its_events(self, store):
        records = [record(1), record(2), record(3, branch="b", held=True), record(4, branch="b")]
        items = [delivery(2, first=1, last=2), delivery(3, branch="b")]
        store.accept(batch(4, None, records=records, deliveries=items))
        assert self.prune(store, NOW + 1) == 0
        run(store, items[0].id)
        assert self.prune(store, NOW + 1) == 3
        assert [event.record.sequence for event in store.events(0, 9)] == [3, 4]
        store.release(JOURNAL, "b", 3)
        assert self.prune(store, NOW + 1) == 0
        run(store, items[1].id)
        assert self.prune(store, NOW + 1) == 3

    def test_a_held_event_without_a_delivery_stays(self, store):
        store.accept(batch(2, None, records=[record(1, held=True), record(2)]))
        assert self.prune(store, NOW) == 0

    def test_events_are_forgotten_from_the_beginning_of_each_journal(self, store):
        store.accept(batch(3, None, records=[record(n) for n in (1, 2, 3)]))
        late = [record(1, journal=OTHER, received=NOW), record(2, journal=OTHER)]
        store.accept(batch(2, None, journal=OTHER, records=late))
        assert self.prune(store) == 3
        assert [row.pruned for row in store.journals()] == [3, 0]
        assert [event.record.journal for event in store.events(0, 9)] == [OTHER, OTHER]

    def test_positions_chains_decisions_and_numbers_stay(self, box):
        heads = {"default": Link(2, "ee" * 32)}
        box.store.accept(batch(5, None, records=[record(1), record(2)], heads=heads, origin=0))
        box.store.decide(decided("admit", None, 8))
        box.store.stop_journal(JOURNAL, "gap at 6")
        newest = box.store.newest_event()
        assert self.prune(box.store) == 2
        store = box.reopen()
        (row,) = store.journals()
        assert (row.scanned, row.origin, row.stopped, row.pruned) == (5, 0, "gap at 6", 2)
        assert store.chain(JOURNAL) == heads
        assert len(store.decisions(JOURNAL)) == 1
        assert store.newest_event() == newest
        store.accept(batch(6, 5, records=[record(6)]))
        assert [event.number for event in store.events(0, 9)] == [newest + 1]

    def test_an_old_event_that_is_sent_again_does_not_act_again(self, store):
        fill(store, 2)
        run(store, "build-9f-1")
        run(store, "build-9f-2")
        self.prune(store, NOW + 1)
        again = [record(1), record(2, body=b"other")]
        made = batch(2, 2, records=again, deliveries=[delivery(1), delivery(2)])
        assert store.accept(made) == Accepted(0, 2)
        assert states(store) == {}
        more = batch(3, 2, records=[*again, record(3)], deliveries=[delivery(2), delivery(3)])
        assert store.accept(more) == Accepted(1, 2)
        assert states(store) == {"build-9f-3": State.PENDING}
        assert [event.record.sequence for event in store.events(0, 9)] == [3]

    def test_a_certificate_stays_as_long_as_an_event_names_it(self, store):
        other = "d0" * 32
        tokens = {CERTIFICATE: b"token", other: b"other"}
        records = [record(1, certificate=other), record(2)]
        store.accept(batch(2, None, records=records, certificates=tokens))
        assert self.prune(store, 1001.5) == 1
        assert (store.certificate(other), store.certificate(CERTIFICATE)) == (None, b"token")
        assert self.prune(store) == 1
        assert store.certificate(CERTIFICATE) is None

    def test_a_forgotten_event_is_not_traced(self, store):
        node = "ab" * 20
        store.accept(batch(1, None, records=[record(1, nodes=(node,))]))
        self.prune(store)
        assert store.trace(node, 9) == []

    def test_superseded_ones_are_forgotten_too(self, store):
        for n in (1, 2):
            item = delivery(n, latest=True)
            store.accept(batch(n, n - 1 or None, records=[record(n)], deliveries=[item]))
        assert self.prune(store) == 2
        assert list(states(store)) == ["build-9f-2"]

    def test_a_lane_goes_on_behind_what_was_forgotten(self, store):
        fill(store, 1)
        run(store, "build-9f-1")
        self.prune(store, NOW + 1)
        store.accept(batch(2, 1, records=[record(2)], deliveries=[delivery(2)]))
        assert ids(claim(store)) == ["build-9f-2"]

    def test_no_step_without_a_limit(self, store):
        store.accept(batch(1, None, records=[record(1)]))
        assert store.prune(self.OLD, 0) == 0
        assert store.newest_event() == len(store.events(0, 9)) == 1


class TestFollowers:
    def test_one_instance_follows_a_journal(self, box):
        take = box.store.lease_journals
        assert take("a", [JOURNAL], 10.0, NOW) == {JOURNAL}
        assert take("b", [JOURNAL, OTHER], 10.0, NOW) == {OTHER}
        take = box.reopen(crash=True).lease_journals
        assert take("b", [JOURNAL], 10.0, NOW + 5) == {OTHER}
        assert take("a", [JOURNAL], 10.0, NOW + 5) == {JOURNAL}

    def test_a_lease_that_is_over_is_free(self, store):
        store.lease_journals("a", [JOURNAL], 10.0, NOW)
        assert store.lease_journals("b", [JOURNAL], 10.0, NOW + 9.9) == frozenset()
        assert store.lease_journals("b", [JOURNAL], 10.0, NOW + 10) == {JOURNAL}
        assert store.lease_journals("a", [JOURNAL], 10.0, NOW + 11) == frozenset()

    def test_what_is_not_asked_for_again_ends(self, store):
        store.lease_journals("a", [JOURNAL, OTHER], 10.0, NOW)
        assert store.lease_journals("a", [OTHER], 10.0, NOW + 8) == {JOURNAL, OTHER}
        assert store.lease_journals("a", [], 10.0, NOW + 12) == {OTHER}

    def test_an_orderly_end_frees_them_at_once(self, store):
        store.lease_journals("a", [JOURNAL], 10.0, NOW)
        store.lease_journals("b", [OTHER], 10.0, NOW)
        store.yield_journals("a")
        assert store.lease_journals("b", [JOURNAL], 10.0, NOW + 1) == {JOURNAL, OTHER}


class TestClock:
    def test_it_tells_the_time_and_does_not_go_back(self, store):
        before = store.now()
        assert abs(before - time.time()) < 5.0
        assert store.now() >= before


def test_several_threads_run_each_delivery_once(store):
    # Given lanes with several deliveries each
    rules = [f"rule{n}" for n in range(5)]
    for n in range(1, 9):
        items = [delivery(n, rule) for rule in rules]
        store.accept(batch(n, n - 1 or None, records=[record(n)], deliveries=items))
    ran, fenced = [], []

    # When several threads claim and finish at once
    def work(owner):
        while store.status().deliveries[State.DONE] < 8 * len(rules):
            for item in claim(store, limit=2, owner=owner):
                ran.append((item.delivery.rule, item.delivery.last))
                fenced.append(store.finish(item.delivery.id, item.fence, DONE, NOW))

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    # Then every delivery ran once, and each lane in its order
    assert all(fenced)
    for rule in rules:
        assert [last for name, last in ran if name == rule] == list(range(1, 9))


def test_several_threads_never_hold_a_lock_twice(store):
    # Given many lanes of two rules that name one lock, and of one with a limit
    names = ["deploy", "migrate", "limited"]
    items = [
        delivery(1, rule, id=f"{rule}-{n}", order_key=str(n)) for n in range(8) for rule in names
    ]
    deliver(store, items)
    lock = Terms(lock="production")
    terms = {"deploy": lock, "migrate": lock, "limited": Terms(limit=2)}
    guard, running, seen = threading.Lock(), [], []

    # When several threads run them, and say so while they do
    def work(owner):
        while store.status().deliveries[State.DONE] < len(items):
            for item in claim(store, limit=2, owner=owner, terms=terms):
                with guard:
                    running.append(item.delivery.rule)
                    seen.append(sorted(running))
                time.sleep(0)
                with guard:
                    running.remove(item.delivery.rule)
                assert store.finish(item.delivery.id, item.fence, DONE, NOW)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    # Then each ran once, never two under the lock, never three of the limited rule
    assert len(seen) == len(items)
    for rules in seen:
        assert rules.count("deploy") + rules.count("migrate") <= 1
        assert rules.count("limited") <= 2
