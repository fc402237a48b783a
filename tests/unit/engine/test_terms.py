"""How rules share the engine: order, overlap, locks, limits, fairness, pauses. Over real stores."""

import errno
import threading
import time

import pytest
from enginekit import DEADLINE, FAILED, Engine, Feed, Gate, Recorder, done, spec, verdict
from storekit import BOXES
from support.waiting import wait_for

from hgext_zmqhooks.service.clock import boot_clock
from subscriber.actions import base
from subscriber.actions.base import Kind
from subscriber.engine import dispatch, leases
from subscriber.engine.schedule import Retry
from subscriber.store.base import Paused, State, StoreError, Wanted
from subscriber.store.memory import MemoryStore
from subscriber.store.sqlite import SqliteStore

FLOOD = 10_000


@pytest.fixture(params=sorted(BOXES))
def store(request, tmp_path):
    box = BOXES[request.param](tmp_path)
    yield box.store
    box.store.close()


@pytest.fixture
def start():
    engines = []

    def started(*arguments, **options):
        engine = Engine(*arguments, **options)
        engines.append(engine)
        return engine

    yield started
    for engine in engines:
        engine.end()


def branches(count, repo="team/app"):
    return [(f"branch-{number}", repo, "alice") for number in range(count)]


class TestOrder:
    @pytest.mark.parametrize(
        ("order", "lanes"),
        [("branch", 4), ("repo", 2), ("none", 8), ("{user}", 1), ("of {branch}", 2)],
    )
    def test_lanes_run_side_by_side_and_each_in_order(self, store, start, order, lanes):
        # Given two rounds of events of two branches of two repositories
        rule = spec(order=order)
        feed = Feed(store, rule)
        together = threading.Barrier(lanes)
        action = Recorder(lambda _j, _c: verdict() if together.wait(DEADLINE) >= 0 else None)
        made = feed.events(
            [
                (branch, repo, "alice")
                for _ in range(2)
                for repo in ("a", "b")
                for branch in ("default", "stable")
            ]
        )
        # When they run, as many at once as there are lanes
        start(store, action, rule, workers=8)
        wait_for(done(store, 8))
        # Then no more did, and each lane went in order
        assert action.most == lanes
        keys = {item.id: item.order_key for item in made}
        for key in set(keys.values()):
            ran = [job.delivery_id for job in action.order if keys[job.delivery_id] == key]
            assert ran == [item.id for item in made if item.order_key == key]


class TestOverlap:
    def test_what_waits_is_replaced_by_the_newest_and_what_runs_finishes(self, store, start):
        # Given a delivery that runs
        rule, gate = spec(latest=True), Gate()
        feed, action = Feed(store, rule), Recorder(gate)
        (first,) = feed.event()
        engine = start(store, action, rule)
        action.next()
        # When three more come
        later = [feed.event()[0] for _ in range(3)]
        engine.dispatcher.notify()
        # Then two of them are recorded as superseded, and the newest one runs after the first
        found = [store.delivery(item.id) for item in later]
        assert [item.state for item in found] == [State.SUPERSEDED, State.SUPERSEDED, State.PENDING]
        assert found[0].reason == f"superseded by {later[1].id}"
        assert store.delivery(first.id).state is State.RUNNING
        gate.opened.set()
        wait_for(done(store, 2))
        assert [job.delivery_id for job in action.order] == [first.id, later[2].id]


class TestLocks:
    def test_rules_that_name_the_same_lock_exclude_each_other(self, store, start):
        rules = [spec(name, lock="prod", order="none") for name in ("deploy", "migrate")]
        free = spec("build", order="none")
        feed = Feed(store, *rules, free)
        locked, unlocked = Recorder(), Recorder()
        actions = {"deploy": locked, "migrate": locked, "build": unlocked}
        feed.events(branches(20))
        start(store, actions, *rules, free, workers=8)
        wait_for(done(store, 60))
        assert (locked.most, len(locked.order)) == (1, 40)
        assert len(unlocked.order) == 20

    def test_others_go_on_while_a_lock_is_held(self, store, start):
        deploy, other = spec("deploy", lock="prod"), spec("other", lock="prod")
        build = spec("build")
        gate = Gate()
        held, free = Recorder(gate), Recorder()
        Feed(store, deploy, other, build).events(branches(3))
        start(store, {"deploy": held, "other": held, "build": free}, deploy, other, build)
        wait_for(done(store, 3))
        running = store.deliveries(Wanted(states=frozenset({State.RUNNING})), 9)
        assert [(item.rule, item.lock) for item in running] == [("deploy", "prod")]
        gate.opened.set()
        wait_for(done(store, 9))
        assert held.most == 1

    def test_two_engines_of_one_store_keep_a_lock_too(self, store, start, monkeypatch):
        monkeypatch.setattr(type(store), "shared", True)
        rule = spec(lock="prod", order="none")
        action = Recorder()
        Feed(store, rule).events(branches(10))
        start(store, action, rule, owner="ci/1")
        start(store, action, rule, owner="ci/2")
        wait_for(done(store, 10))
        assert (action.most, len(action.order)) == (1, 10)


class TestConcurrency:
    def test_a_rule_has_no_more_at_once_than_it_says(self, store, start):
        narrow, wide = spec("narrow", concurrency=2), spec("wide")
        two, five = threading.Barrier(2), threading.Barrier(5)
        actions = {
            "narrow": Recorder(lambda _j, _c: verdict() if two.wait(DEADLINE) >= 0 else None),
            "wide": Recorder(lambda _j, _c: verdict() if five.wait(DEADLINE) >= 0 else None),
        }
        Feed(store, narrow, wide).events(branches(10))
        start(store, actions, narrow, wide, workers=8)
        wait_for(done(store, 20))
        assert actions["narrow"].most == 2

    def test_the_number_of_workers_may_change(self, store, start):
        action = Recorder(gate := Gate())
        Feed(store, spec()).events(branches(6))
        engine = start(store, action, workers=1)
        action.next()
        assert len(engine.dispatcher.running()) == 1
        engine.dispatcher.change(engine.specs, engine.actions(action), 4)
        wait_for(lambda: len(engine.dispatcher.running()) == 4)
        engine.dispatcher.change(engine.specs, engine.actions(action), 2)
        gate.opened.set()
        wait_for(done(store, 6))
        assert action.most == 4


class TestFairness:
    def test_neither_a_flooded_key_nor_a_flooded_rule_starves_others(self, store, start):
        """Invariant: who waits has his turn after at most one of each other rule and lane."""
        flood = 1000 if isinstance(store, MemoryStore) else FLOOD  # the reference store is slow
        if isinstance(store, SqliteStore):
            store._db.execute("PRAGMA synchronous = OFF")
        # Given 10,000 deliveries in one lane of a rule, and 10,000 lanes of another
        rules = [spec("lane"), spec("rule", order="none"), spec("quiet")]
        feed = Feed(store, *rules[:2])
        feed.events([("flooded", "team/app", "alice")] * flood)
        # When others have something to do too
        feed.rules = [rules[0]]
        others = [item.id for item in feed.events(branches(20))]
        feed.rules = [rules[2]]
        others += [item.id for item in feed.event()]
        action = Recorder()
        start(store, action, *rules, workers=1)
        wait_for(lambda: all(store.delivery(each).state is State.DONE for each in others))
        # Then all of it was claimed within so many turns
        ran = [job.delivery_id for job in list(action.order)]
        assert ran.index(others[-1]) < len(rules)
        assert max(ran.index(each) for each in others) < len(rules) * (len(others) + 1)


class TestChange:
    def test_what_runs_keeps_its_action_and_the_next_has_the_new_one(self, store, start):
        old, new = Recorder(gate := Gate()), Recorder()
        rule = spec()
        feed = Feed(store, rule)
        feed.events([("default", "team/app", "alice")] * 3)
        engine = start(store, old, rule)
        old.next()
        engine.dispatcher.change([spec(timeout=5.0)], {"build": new}, 8)
        gate.opened.set()
        wait_for(done(store, 3))
        assert [len(each.order) for each in (old, new)] == [1, 2]
        assert [job.timeout for job in (*old.order, *new.order)] == [9.0, 5.0, 5.0]

    def test_a_rule_that_is_gone_stays_and_goes_on_when_it_comes_back(self, store, start):
        one, two = spec("one"), spec("two")
        action = Recorder()
        feed = Feed(store, one, two)
        engine = start(store, action, one, two)
        engine.dispatcher.change([two], {"two": action}, 8)
        feed.events(branches(3))
        engine.dispatcher.notify()
        wait_for(done(store, 3))
        assert {job.rule for job in action.order} == {"two"}
        engine.dispatcher.change([one, two], {"one": action, "two": action}, 8)
        wait_for(done(store, 6))

    def test_it_may_change_again_and_again(self, store, start):
        """Invariant: each delivery runs once, in order, whenever the rules are replaced."""
        rule, action = spec(), Recorder()
        feed = Feed(store, rule)
        engine = start(store, action, rule)
        made = []
        for _ in range(30):
            made += feed.events(branches(3))
            engine.dispatcher.change([rule], {"build": action}, 8)
        wait_for(done(store, 90))
        for key in {item.order_key for item in made}:
            wanted = [item.id for item in made if item.order_key == key]
            assert [j.delivery_id for j in action.order if j.delivery_id in wanted] == wanted


class TestPause:
    def test_a_paused_rule_waits_until_it_is_resumed(self, store, start):
        action = Recorder()
        Feed(store, spec("one"), spec("two")).events(branches(3))
        store.pause(Paused(rule="one", who="alice", at=1.0, reason="night"))
        engine = start(store, action, "one", "two")
        wait_for(done(store, 3))
        assert {job.rule for job in action.order} == {"two"}
        store.resume("one")
        engine.dispatcher.notify()
        wait_for(done(store, 6))


class TestTime:
    def test_a_redelivered_one_has_all_its_attempts_again(self, store, start):
        rule = spec(retry=Retry(2, (0.0,)))
        action = Recorder(lambda _j, _c: FAILED)
        (item,) = Feed(store, rule).event()
        engine = start(store, action, rule)
        for runs in (2, 4):
            wait_for(lambda: store.delivery(item.id).state is State.DEAD)
            assert len(action.order) == runs
            assert store.delivery(item.id).reason == "failed 2 times; exit status 1"
            store.redeliver([item.id], store.now())
            engine.dispatcher.notify()
        wait_for(lambda: len(action.order) == 6)

    def test_a_clock_that_jumps_neither_ends_a_lease_nor_the_patience(
        self, store, start, monkeypatch
    ):
        # Given a script that asks for another try, with all its patience before it
        go = threading.Event()
        asks = verdict(Kind.RETRY, "later", patient=True)
        action = Recorder(lambda _j, _c: asks if go.wait(DEADLINE) else None)
        (item,) = Feed(store, spec()).event()
        engine = start(store, action)
        real = time.time
        # When the clock of the machine jumps by a year, to and fro
        for runs, jump in enumerate((-365, 365), 1):
            action.next()
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump * 86400)
            engine.dispatcher.notify()
            go.set()
            wait_for(lambda runs=runs: len(store.receipts(item.id)) == runs)
            store.redeliver([item.id], store.now())
            engine.dispatcher.notify()
        # Then nothing was lost or given up
        action.next()
        receipts = store.receipts(item.id)
        assert {each.outcome.verdict for each in receipts} == {"retry"}
        assert all(abs(each.outcome.ended - real()) < DEADLINE for each in receipts)
        assert store.delivery(item.id).lost == 0

    def test_an_attempt_knows_when_its_lease_ends(self, store, start, monkeypatch):
        lease, asked, deadlines = 0.6, [], []
        claim = type(store).claim

        def watched(self, *arguments, **more):
            asked.append(boot_clock())
            return claim(self, *arguments, **more)

        def answer(_job, cancel):
            deadlines.append(cancel.deadline)
            deadlines.append(wait_for(lambda: cancel.deadline > deadlines[0] and cancel.deadline))
            return verdict()

        monkeypatch.setattr(type(store), "claim", watched)
        Feed(store, spec()).event()
        start(store, Recorder(answer), lease=lease)
        wait_for(done(store, 1))
        assert deadlines[0] <= asked[0] + lease
        assert deadlines[0] > asked[0]

    def test_an_attempt_whose_lease_is_over_before_it_begins_does_not_act(
        self, store, start, monkeypatch
    ):
        # Given a process that stands still behind its claim, for longer than the lease
        claim, late = type(store).claim, [True]

        def slow(self, *arguments, **more):
            claims = claim(self, *arguments, **more)
            if claims and late and late.pop():
                jumped[0] += 100.0
            return claims

        jumped = [0.0]
        real = base.boot_clock
        for module in (base, dispatch, leases):
            monkeypatch.setattr(module, "boot_clock", lambda: real() + jumped[0])
        monkeypatch.setattr(type(store), "claim", slow)
        action = Recorder()
        (item,) = Feed(store, spec()).event()
        # When it goes on
        start(store, action)
        wait_for(lambda: store.receipts(item.id))
        # Then it does nothing, and the delivery is tried again later
        assert action.order == []
        assert store.receipts(item.id)[0].outcome.verdict == "interrupted"
        assert store.delivery(item.id).reason == base.LEASE_OVER

    def test_a_claim_that_cannot_be_given_back_stops_no_other(self, start, monkeypatch):
        # Given no descriptor for the first of two deliveries, and a store that cannot take it back
        store, made = MemoryStore(), []

        def make():
            made.append(1)
            if len(made) == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return base.Cancel()

        def fail(_self, _id):
            raise StoreError("ci.db", "gone")

        monkeypatch.setattr(dispatch, "Cancel", make)
        Feed(store, spec()).events(branches(2))
        with monkeypatch.context() as broken:
            broken.setattr(MemoryStore, "receipts", fail)
            start(store, Recorder())
            wait_for(done(store, 1))
        assert store.status().deliveries[State.RUNNING] == 1

    def test_a_store_that_others_write_into_is_asked_again_soon(self, store, start, monkeypatch):
        monkeypatch.setattr(type(store), "shared", True)
        action = Recorder()
        start(store, action)
        Feed(store, spec()).event()  # by another process: nobody calls our engine
        begin = time.monotonic()
        action.next()
        assert time.monotonic() - begin < 10.0
