"""The engine's loop, over real stores, with actions that say when they run."""

import errno
import logging
import queue
import threading
import time

import pytest
from enginekit import DEADLINE, Engine, Recorder, done, verdict
from storekit import BOXES, DONE, JOURNAL, batch, delivery, fill, record, retry
from support.waiting import wait_for

from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.values import Event, Transaction
from subscriber.actions.base import Kind
from subscriber.engine import dispatch
from subscriber.engine.dispatch import Dispatcher
from subscriber.engine.rules import RuleSpec
from subscriber.engine.wake import Wake
from subscriber.store.base import State, StoreError, Wanted


@pytest.fixture(params=sorted(BOXES))
def store(request, tmp_path):
    box = BOXES[request.param](tmp_path)
    yield box.store
    box.store.close()


@pytest.fixture
def sqlite_store(tmp_path):
    box = BOXES["sqlite"](tmp_path)
    yield box.store
    box.store.close()


@pytest.fixture
def start(request):
    engines = []

    def started(store, action, *rules, **options):
        engine = Engine(store, action, *rules, **options)
        engines.append(engine)
        return engine

    yield started
    for engine in engines:
        engine.end()


def state(store, sequence=1, rule="build"):
    return store.delivery(f"{rule}-9f-{sequence}").state


class TestRunning:
    def test_a_job_says_what_to_do(self, store, start):
        action = Recorder()
        event = Event(
            repo="team/app",
            branch="default",
            journal=JOURNAL,
            sequence=2,
            time="2026-11-21T09:15:02.123456Z",
            transaction=Transaction("t", "serve", part=2, parts=2),
            traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        )
        body = events.encode(event)
        records = [record(1, body=body), record(2, body=body)]
        store.accept(batch(2, None, records=records, deliveries=[delivery(2, first=1)]))
        start(store, action)
        job = action.next()
        wait_for(done(store, 1))
        item = store.delivery("build-9f-2")
        assert (job.delivery_id, job.event_id) == (item.id, f"{JOURNAL}/2")
        assert (job.fence, job.attempt, job.rule) == (item.fence, 1, "build")
        assert (job.topic, job.repo) == ("hg:team/app:default:", "team/app")
        assert (job.branch, job.node, job.user) == ("default", "0" * 40, "alice")
        assert job.lines == [body, body]
        assert (job.traceparent, job.timeout) == (event.traceparent, 9.0)

    def test_a_lane_runs_in_order(self, store, start):
        action = Recorder()
        fill(store, 20)
        start(store, action)
        wait_for(done(store, 20))
        ran = [action.next().event_id for _ in range(20)]
        assert ran == [f"{JOURNAL}/{n}" for n in range(1, 21)]

    def test_notify_wakes_an_idle_engine(self, store, start):
        action = Recorder()
        engine = start(store, action)
        for n in range(1, 4):
            store.accept(batch(n, n - 1 or None, records=[record(n)], deliveries=[delivery(n)]))
            engine.dispatcher.notify()
            assert action.next().event_id == f"{JOURNAL}/{n}"

    def test_lanes_run_side_by_side_up_to_the_number_of_workers(self, store, start):
        together = threading.Barrier(3)
        most, now_running, lock = [0], [0], threading.Lock()

        def answer(_job, _cancel):
            with lock:
                now_running[0] += 1
                most[0] = max(most[0], now_running[0])
            together.wait(DEADLINE)
            with lock:
                now_running[0] -= 1
            return verdict()

        rules = [f"rule{n}" for n in range(9)]
        items = [delivery(1, rule) for rule in rules]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        start(store, Recorder(answer), *rules, workers=3)
        wait_for(done(store, 9))
        assert most == [3]

    def test_deliveries_of_unknown_rules_stay(self, store, start):
        action = Recorder()
        items = [delivery(1, "gone"), delivery(1, "build")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        engine = start(store, action)
        wait_for(done(store, 1))
        engine.end()
        assert state(store, rule="gone") is State.PENDING
        assert action.jobs.qsize() == 1

    def test_a_delivery_that_was_delayed_runs_when_it_is_due(self, store, start):
        action = Recorder()
        fill(store, 1)
        (claim,) = store.claim("before", 9.0, 1, time.time())
        due = time.time() + 0.2
        store.finish(claim.delivery.id, claim.fence, retry(due), time.time())
        start(store, action)
        assert action.next().attempt == 2
        assert time.time() >= due


class TestVerdicts:
    def test_done_leaves_a_receipt(self, store, start):
        start_time = time.time()
        action = Recorder(lambda _j, _c: verdict(exit_status=0, output=b"built"))
        fill(store, 1)
        start(store, action)
        wait_for(done(store, 1))
        (receipt,) = store.receipts("build-9f-1")
        assert (receipt.owner, receipt.outcome.output) == ("ci/1", b"built")
        assert store.delivery("build-9f-1").ended >= start_time

    def test_failures_are_tried_again_and_then_dead(self, store, start):
        action = Recorder(lambda _j, _c: verdict(Kind.RETRY, "exit status 1", exit_status=1))
        fill(store, 2)
        engine = start(store, action)
        assert action.next().attempt == 1
        wait_for(lambda: state(store) is State.RETRYING)
        assert 0.5 < store.delivery("build-9f-1").due - time.time() <= 1.1
        assert action.next().attempt == 2
        engine.end()
        assert state(store, 2) is State.PENDING

    def test_dead_does_not_stop_the_lane(self, store, start):
        answers = {1: verdict(Kind.DEAD, "exit status 65"), 2: verdict()}
        action = Recorder(lambda job, _c: answers[int(job.event_id.rpartition("/")[2])])
        fill(store, 2)
        start(store, action)
        wait_for(done(store, 1))
        assert [state(store, 1), state(store, 2)] == [State.DEAD, State.DONE]

    def test_an_action_that_raises_is_a_failure_and_stops_nothing(self, store, start, caplog):
        def answer(job, _cancel):
            if job.rule == "broken":
                raise RuntimeError("defect")
            return verdict()

        items = [delivery(1, "broken"), delivery(1, "build")]
        store.accept(batch(1, None, records=[record(1)], deliveries=items))
        start(store, Recorder(answer), "broken", "build")
        wait_for(done(store, 1))
        wait_for(lambda: state(store, rule="broken") is State.RETRYING)
        assert "defect" in store.delivery("broken-9f-1").reason
        assert "the action is defective" in caplog.text

    def test_half_a_character_in_a_reason_leaves_a_receipt(self, store, start):
        # Given an action whose reason holds half a character
        action = Recorder(lambda _j, _c: verdict(Kind.DEAD, "cannot open caf\udce9"))
        fill(store, 1)
        # When it ran
        start(store, action)
        wait_for(lambda: state(store) is State.DEAD)
        # Then it ran once, and its receipt tells the rest
        (receipt,) = store.receipts("build-9f-1")
        assert (receipt.outcome.verdict, receipt.outcome.reason) == ("dead", "cannot open caf?")
        assert action.jobs.qsize() == 1

    def test_a_result_that_cannot_be_recorded_is_recorded_in_plain_words(
        self, start, tmp_path, caplog
    ):
        class Picky(BOXES["memory"](tmp_path).store.__class__):
            def finish(self, delivery_id, fence, finish, now):
                if finish.outcome.output == b"odd":
                    raise ValueError("a defect")
                return super().finish(delivery_id, fence, finish, now)

        # Given a store that fails, and not as stores do, at what the first action says
        answers = {1: verdict(output=b"odd", exit_status=0), 2: verdict()}
        store = Picky()
        action = Recorder(lambda job, _c: answers[int(job.event_id.rpartition("/")[2])])
        fill(store, 2)
        # When both ran
        start(store, action)
        wait_for(done(store, 2))
        # Then neither ran twice, the first has a receipt, and the log says why it is short
        (receipt,) = store.receipts("build-9f-1")
        assert (receipt.outcome.exit_status, receipt.outcome.output) == (0, b"")
        assert "could not be recorded" in receipt.outcome.reason
        assert "ValueError: a defect" in caplog.text
        assert action.jobs.qsize() == 2

    def test_a_delivery_without_its_events_is_dead(self, store, start):
        action = Recorder()
        store.accept(batch(1, None, records=[record(1)], deliveries=[delivery(1, first=7, last=8)]))
        start(store, action)
        wait_for(lambda: state(store) is State.DEAD)
        assert action.jobs.empty()

    def test_without_descriptors_it_is_tried_later_and_not_counted(self, store, start, monkeypatch):
        def make():
            raise OSError(errno.EMFILE, "Too many open files")

        # Given a process that has no descriptor left
        monkeypatch.setattr(dispatch, "Cancel", make)
        fill(store, 1)
        engine = start(store, Recorder())
        # When a delivery is claimed
        wait_for(lambda: state(store) is State.RETRYING)
        # Then the engine lives, and goes on when there are some again
        item = store.delivery("build-9f-1")
        assert (item.attempts, "Too many open files" in item.reason) == (0, True)
        assert engine.thread.is_alive()

    def test_without_threads_it_is_tried_later_and_not_counted(self, store, start, monkeypatch):
        begin = threading.Thread.start

        def refuse(thread):
            if thread.name.startswith("attempt "):
                raise RuntimeError("can't start new thread")
            begin(thread)

        # Given a process that may have no further thread
        monkeypatch.setattr(threading.Thread, "start", refuse)
        fill(store, 1)
        engine = start(store, Recorder())
        # When a delivery is claimed
        wait_for(lambda: state(store) is State.RETRYING)
        # Then the engine lives, nothing is thought to run, and it goes on when there are some
        item = store.delivery("build-9f-1")
        assert (item.attempts, "can't start new thread" in item.reason) == (0, True)
        assert engine.thread.is_alive()
        assert engine.dispatcher.running() == []
        monkeypatch.undo()
        assert store.redeliver([item.id], store.now()) == [item.id]
        engine.dispatcher.notify()
        wait_for(done(store, 1))

    def test_a_line_says_what_happened(self, store, start, caplog):
        caplog.set_level(logging.INFO, "zmqhooks.engine")
        fill(store, 1)
        engine = start(store, Recorder())
        wait_for(done(store, 1))
        engine.end()
        (line,) = [entry for entry in caplog.records if entry.message == "delivery done"]
        assert line.fields["delivery"] == "build-9f-1"
        assert (line.fields["repo"], line.fields["branch"]) == ("team/app", "default")
        assert (line.fields["sequence"], line.fields["rule"]) == (1, "build")


class TestStop:
    def test_what_runs_may_finish(self, store, start):
        go = threading.Event()
        action = Recorder(lambda _j, _c: verdict() if go.wait(DEADLINE) else None)
        fill(store, 2)
        engine = start(store, action)
        action.next()
        engine.stop.set()
        go.set()
        engine.end()
        assert [state(store, 1), state(store, 2)] == [State.DONE, State.PENDING]
        assert action.jobs.empty()

    def test_what_does_not_finish_is_cancelled_and_given_back_uncounted(self, store, start, caplog):
        def answer(_job, cancel):
            wait_for(lambda: cancel.reason)
            return verdict(Kind.RETRY, cancel.reason, interrupted=True)

        action = Recorder(answer)
        fill(store, 1)
        engine = start(store, action, finish_bound=0.05)
        action.next()
        engine.end()
        item = store.delivery("build-9f-1")
        assert (item.state, item.attempts, item.lost) == (State.PENDING, 0, 0)
        assert item.reason == "the daemon stops"
        assert store.receipts(item.id)[0].outcome.verdict == "stopped"
        assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []

    def test_an_action_that_ignores_it_is_left_behind_with_its_lease(self, store, start, caplog):
        go = threading.Event()
        action = Recorder(lambda _j, _c: verdict() if go.wait(DEADLINE) else None)
        fill(store, 1)
        engine = start(store, action, finish_bound=0.05, cancel_bound=0.05)
        action.next()
        engine.end()
        assert "attempt left behind" in caplog.text
        assert state(store) is State.RUNNING
        assert store.release_leases(time.time()) == 1
        # Whatever it says now is too late
        go.set()
        wait_for(lambda: not engine.dispatcher.running())
        assert state(store) is State.PENDING

    def test_an_idle_engine_stops_at_once(self, store, start):
        engine = start(store, Recorder())
        before = time.monotonic()
        engine.end()
        assert time.monotonic() - before < 5.0


class TestLeases:
    def test_a_lease_is_extended_while_its_attempt_runs(self, store, start):
        lease = 0.3
        begun = time.time()
        action = Recorder(
            lambda job, _c: (
                wait_for(lambda: store.delivery(job.delivery_id).lease_until > begun + 4 * lease)
                and verdict()
            )
        )
        fill(store, 1)
        start(store, action, lease=lease)
        wait_for(done(store, 1))
        assert store.delivery("build-9f-1").lost == 0
        assert action.jobs.qsize() == 1

    def test_a_lease_given_to_another_breaks_the_attempt_off(self, store, start):
        reasons = queue.Queue()

        def answer(_job, cancel):
            reasons.put(wait_for(lambda: cancel.reason))
            return verdict(Kind.RETRY, "killed", interrupted=True)

        action = Recorder(answer)
        fill(store, 1)
        engine = start(store, action, lease=0.3)
        action.next()
        # When another daemon takes the delivery over, as if our lease had ended
        (other,) = store.claim("ci/2", 9000.0, 1, time.time() + 9000)
        # Then our attempt is broken off, and its result is not recorded
        assert "given to another" in reasons.get(timeout=DEADLINE)
        wait_for(lambda: not engine.dispatcher.running())
        assert store.delivery("build-9f-1") == other.delivery
        assert store.finish(other.delivery.id, other.fence, DONE, time.time())
        owners = [(each.owner, each.outcome.verdict) for each in store.receipts("build-9f-1")]
        assert owners == [("ci/1", "lost"), ("ci/2", "done")]

    def test_a_delivery_that_still_runs_here_is_not_started_twice(self, store, start):
        together, most = [], []

        def answer(job, cancel):
            together.append(job.fence)
            most.append(len(together))
            if len(most) == 1:
                wait_for(lambda: cancel.reason)
            together.remove(job.fence)
            return verdict(Kind.DONE)

        action = Recorder(answer)
        fill(store, 1)
        engine = start(store, action)
        action.next()
        # When its lease is lost without our noticing, and the next claim offers it to us again
        store.release_leases(time.time())
        engine.dispatcher.notify()
        # Then it runs again, but only when the first attempt has ended, whose result is refused
        wait_for(done(store, 1))
        assert most == [1, 1]
        receipts = store.receipts("build-9f-1")
        verdicts = [receipt.outcome.verdict for receipt in receipts]
        assert verdicts == ["lost", "stopped", "done"]

    def test_an_attempt_is_broken_off_before_a_lease_that_cannot_be_extended_ends(
        self, sqlite_store, start
    ):
        ended, broken = queue.Queue(), []
        lease = 2.0

        def answer(job, cancel):
            if not broken:
                broken.append(1)
                ended.put((wait_for(lambda: cancel.reason), time.time()))
                return verdict(Kind.RETRY, "killed", interrupted=True)
            return verdict()

        action = Recorder(answer)
        fill(sqlite_store, 1)
        engine = start(sqlite_store, action, lease=lease)
        action.next()
        sqlite_store._db.execute("PRAGMA query_only = ON")
        reason, at = ended.get(timeout=DEADLINE)
        last = sqlite_store.delivery("build-9f-1").lease_until
        assert "could not be extended" in reason
        assert at < last
        sqlite_store._db.execute("PRAGMA query_only = OFF")
        wait_for(lambda: state(sqlite_store) is State.RETRYING)
        assert sqlite_store.delivery("build-9f-1").attempts == 0
        engine.end()


class TestStoreTrouble:
    def test_the_engine_goes_on_when_the_store_does(self, sqlite_store, start, caplog):
        caplog.set_level(logging.INFO, "zmqhooks.engine")
        action = Recorder()
        fill(sqlite_store, 1)
        sqlite_store._db.execute("PRAGMA query_only = ON")
        start(sqlite_store, action)
        wait_for(lambda: "the store failed" in caplog.text)
        assert action.jobs.empty()
        sqlite_store._db.execute("PRAGMA query_only = OFF")
        wait_for(done(sqlite_store, 1))
        wait_for(lambda: "the store answers again" in caplog.text)

    def test_a_receipt_is_written_as_soon_as_the_store_takes_it(self, sqlite_store, start, caplog):
        def answer(_job, _cancel):
            sqlite_store._db.execute("PRAGMA query_only = ON")
            return verdict(output=b"once")

        action = Recorder(answer)
        fill(sqlite_store, 1)
        start(sqlite_store, action)
        wait_for(lambda: "receipt not written" in caplog.text)
        sqlite_store._db.execute("PRAGMA query_only = OFF")
        wait_for(done(sqlite_store, 1))
        assert action.jobs.qsize() == 1
        assert sqlite_store.receipts("build-9f-1")[0].outcome.output == b"once"

    def test_an_event_that_cannot_be_read_is_tried_later(self, start, tmp_path):
        class Unreadable(BOXES["memory"](tmp_path).store.__class__):
            def parts(self, journal, branch, first, last):  # noqa: ARG002 - the contract's
                raise StoreError("memory", "it is damaged")

        store = Unreadable()
        fill(store, 1)
        action = Recorder()
        start(store, action)
        wait_for(lambda: state(store) is State.RETRYING)
        item = store.delivery("build-9f-1")
        assert (item.attempts, action.jobs.qsize()) == (0, 0)
        assert "it is damaged" in item.reason


def test_a_rule_without_an_action_is_a_mistake_of_ours(store):
    with pytest.raises(KeyError, match="build"):
        Dispatcher(store, [RuleSpec(name="build", topics=())], {}, owner="ci/1")


def test_many_calls_wake_once_and_none_is_lost():
    wake = Wake()
    for _ in range(100_000):
        wake.call()
    wake.wait(DEADLINE)
    begin = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - begin >= 0.05
    wake.call()
    wake.wait(DEADLINE)
    assert time.monotonic() - begin < DEADLINE


def test_nothing_is_listed_as_running_when_all_is_done(store, start):
    fill(store, 5)
    engine = start(store, Recorder())
    wait_for(done(store, 5))
    wait_for(lambda: not engine.dispatcher.running())
    assert store.deliveries(Wanted(states=frozenset({State.RUNNING})), 9) == []
