"""A step of the SQLite store that fails anywhere inside leaves everything as it was."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storekit import DONE, JOURNAL, OTHER, SqliteBox, batch, delivery, record, standing

from subscriber.store.base import Link, Paused, StoreError, Wanted

NOW = 2_000_000_000.0


def snapshot(store):
    items = store.deliveries(Wanted(), 99)
    return (
        store.journals(),
        store.chain(JOURNAL),
        store.events(0, 99),
        items,
        [store.receipts(item.id) for item in items],
        store.status(),
        store.next_due(),
        store.first_contact("hg2"),
        store.paused(),
    )


def prepared(folder):
    box = SqliteBox(Path(folder), quick=True)
    node = "ab" * 20
    records = [record(1, journal=OTHER, nodes=(node,)), record(2, journal=OTHER)]
    box.store.accept(batch(2, None, journal=OTHER, records=records))
    records = [record(1), record(2, held=True, branch="stable"), record(3)]
    items = [delivery(1), delivery(2, branch="stable"), delivery(3), delivery(1, "notify")]
    box.store.accept(batch(3, None, records=records, deliveries=items))
    box.store.bury(["notify-9f-1"], "given up", NOW)
    (claimed,) = box.store.claim("ci", 9.0, 1, NOW)
    return box, claimed


STEPS = {
    "accept": lambda store, _: store.accept(
        batch(
            5,
            3,
            records=[record(4), record(5, branch="stable")],
            deliveries=[delivery(4), delivery(5, branch="stable")],
            heads={"default": Link(4, "11" * 32)},
            release=(("stable", 2),),
        )
    ),
    "claim": lambda store, _: store.claim("ci", 9.0, 9, NOW + 10),
    "finish": lambda store, claimed: store.finish(claimed.delivery.id, claimed.fence, DONE, NOW),
    "release_leases": lambda store, _: store.release_leases(NOW),
    "release": lambda store, _: store.release(JOURNAL, "stable", 2),
    "redeliver": lambda store, _: store.redeliver(["notify-9f-1", "build-9f-3"], NOW),
    "bury": lambda store, _: store.bury(["build-9f-3", "build-9f-2"], "given up", NOW),
    "pause": lambda store, _: store.pause(Paused(rule="build", who="alice", at=NOW)),
    "prune": lambda store, _: store.prune(NOW + 1, 9),
    "learn": lambda store, _: store.learn("hg2", [standing("cd" * 16), standing(head=9)], NOW),
}


@settings(max_examples=50, deadline=None)
@given(step=st.sampled_from(sorted(STEPS)), after=st.integers(0, 300))
def test_a_failed_step_changes_nothing(step, after):
    with tempfile.TemporaryDirectory() as folder:
        # Given a store in the middle of its work, and one of its steps
        box, claimed = prepared(folder)
        before = snapshot(box.store)
        left, runs = [after], [""]

        def stop_after():
            # Asked once more when COMMIT is done, SQLite would call it failed.
            left[0] -= 1
            return left[0] < 0 and runs[0] != "COMMIT"

        # When SQLite gives up somewhere in the step
        box.store._db.set_trace_callback(lambda sql: runs.__setitem__(0, sql))
        box.store._db.set_progress_handler(stop_after, 5)
        try:
            STEPS[step](box.store, claimed)
            failed = False
        except StoreError:
            failed = True
        box.store._db.set_progress_handler(None, 5)

        # Then nothing happened, now and after a crash, and the step can be done again
        if failed:
            assert snapshot(box.store) == before
            assert snapshot(box.reopen(crash=True)) == before
            STEPS[step](box.store, claimed)
        whole = snapshot(box.store)
        assert whole != before
        assert snapshot(box.reopen(crash=True)) == whole
        box.store.close()


@pytest.mark.parametrize("step", sorted(STEPS))
def test_each_step_can_fail_in_the_middle(step, tmp_path):
    """The property above says something: no step is too short to be interrupted."""
    box, claimed = prepared(tmp_path)
    box.store._db.set_progress_handler(lambda: 1, 5)
    with pytest.raises(StoreError, match="interrupted"):
        STEPS[step](box.store, claimed)
    box.store._db.set_progress_handler(None, 5)
    box.store.close()
