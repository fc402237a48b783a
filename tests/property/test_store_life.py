"""Whatever happens in whatever order, no delivery is lost, doubled or run out of order.

The SQLite store and the reference store live the same life side by side and must answer the same;
a small model of the lanes says what every answer may be.
"""

import tempfile
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storekit import BACK, DEAD, DONE, JOURNAL, SqliteBox, batch, delivery, record, retry

from subscriber.store.base import (
    LOST_LIMIT,
    MAX_LIST,
    OPEN,
    Conflict,
    Fork,
    Paused,
    State,
    Terms,
    Wanted,
)
from subscriber.store.memory import MemoryStore

LEASE = 10.0
RULES = ("build", "notify")
BRANCHES = ("default", "stable")
TERMS = {
    "build": [Terms(), Terms(limit=1), Terms(lock="one"), Terms(lock="other", limit=1)],
    "notify": [Terms(), Terms(lock="one")],
}


SOME_TERMS = [{"build": first, "notify": TERMS["notify"][1]} for first in TERMS["build"]]


class StoreLife(RuleBasedStateMachine):
    """One store's life, with crashes."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.box = SqliteBox(Path(self.folder.name), quick=True)
        self.reference = MemoryStore()
        self.now = 2_000_000_000.0
        self.sequence = 0
        self.batches = []
        self.lanes = {}  # (rule, branch) -> ids not final yet, in order
        self.final = []
        self.held = {}  # id -> (branch, sequence)
        self.leases = {}  # id -> (fence, until)
        self.delays = {}  # id -> due
        self.lost = {}
        self.locks = {}  # id -> the lock that it holds
        self.unreleased = {}  # deliveries of events that are held, also those that are final
        self.latest = set()
        self.paused = set()
        self.pruned = 0
        self.old = []  # (id, fence) that hold nothing any more
        self.fence = 0

    def both(self, ask):
        """The same question to both stores; they must agree."""
        mine, reference = ask(self.box.store), ask(self.reference)
        assert mine == reference, (mine, reference)
        return mine

    def teardown(self):
        self.settle_everything()
        self.box.store.close()
        self.folder.cleanup()

    @initialize()
    def begin(self):
        self.both(lambda store: store.learn("hg1", [], self.now))

    # Intake

    @rule(
        events=st.lists(st.tuples(st.sampled_from(BRANCHES), st.booleans()), max_size=4),
        names=st.sets(st.sampled_from(RULES)),
        skipped=st.integers(0, 2),
        latest=st.booleans(),
    )
    def accept(self, events, names, skipped, latest):
        records, items = [], []
        expected = self.sequence if self.batches else None
        for branch, held in events:
            self.sequence += 1
            records.append(record(self.sequence, branch=branch, held=held))
            for name in sorted(names):
                items.append(delivery(self.sequence, name, branch=branch, latest=latest))
                self.lanes.setdefault((name, branch), []).append(items[-1].id)
                if latest:
                    self.latest.add(items[-1].id)
                if held:
                    self.unreleased[items[-1].id] = (branch, self.sequence)
                    self.held[items[-1].id] = (branch, self.sequence)
                self.shed((name, branch))
        self.sequence += skipped
        made = batch(self.sequence, expected, records=records, deliveries=items)
        accepted = self.both(lambda store: store.accept(made))
        assert (accepted.new, accepted.duplicates) == (len(records), 0)
        self.batches.append(made)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def accept_again(self, data):
        again = data.draw(st.sampled_from(self.batches))
        if again.scanned == self.sequence:
            accepted = self.both(lambda store: store.accept(again))
            assert accepted.new == 0
        else:
            for store in (self.box.store, self.reference):
                with pytest.raises(Conflict):
                    store.accept(again)

    def rewritable(self):
        return [
            each for each in self.batches if each.records if each.records[0].sequence > self.pruned
        ]

    @precondition(lambda self: self.rewritable())
    @rule(data=st.data())
    def rewrite_history(self, data):
        old = data.draw(st.sampled_from(self.rewritable()))
        place = old.records[0].sequence
        forged = batch(place, None, records=[record(place, body=b"forged")])
        for store in (self.box.store, self.reference):
            with pytest.raises(Fork):
                store.accept(forged)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        branch, up_to = data.draw(st.sampled_from(sorted(self.held.values())))
        self.both(lambda store: store.release(JOURNAL, branch, up_to))
        for names in (self.held, self.unreleased):
            for name, place in list(names.items()):
                if place[0] == branch and place[1] <= up_to:
                    del names[name]
        for lane in self.lanes:
            self.shed(lane)

    # Engine

    def free(self, name):
        """It does not run any more."""
        self.locks.pop(name, None)
        return self.leases.pop(name)[0]

    def lose(self, name):
        """Its holder is gone."""
        self.old.append((name, self.free(name)))
        self.lost[name] = self.lost.get(name, 0) + 1
        if self.lost[name] == LOST_LIMIT:
            self.close(name)
        else:
            self.shed(self.lane_of(name))

    def lane_of(self, name):
        (found,) = [place for place, lane in self.lanes.items() if name in lane]
        return found

    def close(self, name):
        place = self.lane_of(name)
        self.lanes[place].remove(name)
        self.final.append(name)
        self.delays.pop(name, None)
        self.held.pop(name, None)
        self.shed(place)

    def shed(self, place):
        """Where the newest open one is `latest`, only the newest of those that wait stays."""
        lane = self.lanes[place]
        if not lane or lane[-1] not in self.latest:
            return
        waiting = [name for name in lane if name not in self.held and name not in self.leases]
        for name in waiting[:-1]:
            lane.remove(name)
            self.final.append(name)
            self.delays.pop(name, None)

    def claimable(self):
        """The first ones of their lanes that wait for no time."""
        lanes = [lane for lane in self.lanes.values() if lane and not self.leases.keys() & {*lane}]
        return {
            lane[0]
            for lane in lanes
            if lane[0] not in self.held and self.delays.get(lane[0], 0.0) <= self.now
        }

    def may_run(self, name, terms):
        of = name.split("-")[0]
        if of in self.paused or (terms is not None and of not in terms):
            return False
        if terms is None:
            return True
        runs = sum(other.split("-")[0] == of for other in self.leases)
        full = terms[of].limit is not None and runs >= terms[of].limit
        return not full and terms[of].lock not in self.locks.values()

    def terms(self, data):
        if data.draw(st.booleans()):
            return None
        return {
            name: data.draw(st.sampled_from(TERMS[name]))
            for name in data.draw(st.sets(st.sampled_from(RULES)))
        }

    @rule(limit=st.integers(0, 3), data=st.data())
    def claim(self, limit, data):
        self.claim_under(limit, self.terms(data))

    def claim_under(self, limit, terms):
        over = [name for name, (_, until) in self.leases.items() if until <= self.now]
        for name in over:
            self.lose(name)
        found = self.both(lambda store: store.claim("ci", LEASE, limit, self.now, terms=terms))
        for item in found:
            name = item.delivery.id
            assert name in self.claimable()
            assert self.may_run(name, terms)
            assert item.fence > self.fence
            self.fence = item.fence
            self.delays.pop(name, None)
            self.leases[name] = (item.fence, self.now + LEASE)
            if item.delivery.lock is not None:
                self.locks[name] = item.delivery.lock
        assert len(found) <= limit
        if len(found) < limit:
            assert not [name for name in self.claimable() if self.may_run(name, terms)]

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        how=st.sampled_from([DONE, DONE, DEAD, BACK, "retry"]),
        delay=st.floats(0, 20),
    )
    def finish(self, data, how, delay):
        name = data.draw(st.sampled_from(sorted(self.leases)))
        due = self.now + delay
        end = retry(due) if how == "retry" else how
        fence = self.leases[name][0]
        assert self.both(lambda store: store.finish(name, fence, end, self.now))
        assert self.both(lambda store: store.finish(name, fence, end, self.now))
        self.free(name)
        if how == "retry":
            self.delays[name] = due
        if how in {DONE, DEAD}:
            self.close(name)
        else:
            self.shed(self.lane_of(name))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def extend(self, data):
        name = data.draw(st.sampled_from(sorted(self.leases)))
        fence = self.leases[name][0]
        assert self.both(lambda store: store.extend(name, fence, LEASE, self.now))
        self.leases[name] = (fence, self.now + LEASE)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def come_too_late(self, data):
        name, fence = data.draw(st.sampled_from(self.old))
        before = self.both(lambda store: store.delivery(name))
        assert not self.both(lambda store: store.finish(name, fence, DONE, self.now))
        assert not self.both(lambda store: store.extend(name, fence, LEASE, self.now))
        assert self.both(lambda store: store.delivery(name)) == before

    # What operators do

    @precondition(lambda self: self.final or self.delays)
    @rule(data=st.data())
    def redeliver(self, data):
        names = data.draw(st.lists(st.sampled_from([*self.final, *self.delays]), max_size=3))
        changed = self.both(lambda store: store.redeliver(names, self.now))
        expected, places = [], set()
        for name in names:
            if name in self.delays:
                self.delays[name] = self.now
            elif name in self.final:
                self.final.remove(name)
                self.lost.pop(name, None)
                place = (name.split("-")[0], self.both(lambda s, n=name: s.delivery(n)).branch)
                self.lanes[place].append(name)
                self.lanes[place].sort(key=self.number)
                if name in self.unreleased:
                    self.held[name] = self.unreleased[name]
            else:
                continue
            expected.append(name)
            places.add(self.lane_of(name))
        for place in places:
            self.shed(place)
        assert changed == expected

    def number(self, name):
        return self.box.store.delivery(name).number

    @precondition(lambda self: any(self.lanes.values()))
    @rule(data=st.data())
    def bury(self, data):
        name = data.draw(st.sampled_from(sorted(chain.from_iterable(self.lanes.values()))))
        changed = self.both(lambda store: store.bury([name], "given up", self.now))
        assert changed == ([] if name in self.leases else [name])
        if name not in self.leases:
            self.close(name)

    @rule(name=st.sampled_from(RULES))
    def pause(self, name):
        paused = Paused(rule=name, who="alice", at=self.now)
        assert self.both(lambda store: store.pause(paused)) == (name not in self.paused)
        self.paused.add(name)

    @rule(name=st.sampled_from(RULES))
    def resume(self, name):
        assert self.both(lambda store: store.resume(name)) == (name in self.paused)
        self.paused.discard(name)

    @rule(age=st.floats(-1, 60), limit=st.integers(0, 5))
    def prune(self, age, limit):
        before = {item.id for item in self.both(lambda store: store.deliveries(Wanted(), MAX_LIST))}
        assert self.both(lambda store: store.prune(self.now - age, limit)) <= limit
        after = {item.id for item in self.both(lambda store: store.deliveries(Wanted(), MAX_LIST))}
        assert before - after <= set(self.final)
        self.final = [name for name in self.final if name in after]
        for row in self.both(lambda store: store.journals()):
            assert row.pruned >= self.pruned
            self.pruned = row.pruned
        assert self.both(lambda store: store.events(0, MAX_LIST)) is not None

    @rule(instance=st.sampled_from("ab"), names=st.sets(st.sampled_from("xyz")))
    def lease_journals(self, instance, names):
        self.both(lambda store: store.lease_journals(instance, names, LEASE, self.now))

    @rule(instance=st.sampled_from("ab"))
    def yield_journals(self, instance):
        self.both(lambda store: store.yield_journals(instance))

    @rule(seconds=st.floats(-30, 30))
    def time_goes_on_or_back(self, seconds):
        self.now += seconds

    @rule(clean=st.booleans())
    def restart(self, clean):
        self.box.reopen(crash=not clean)
        assert self.both(lambda store: store.release_leases(self.now)) == len(self.leases)
        for name in list(self.leases):
            self.lose(name)

    # What always holds

    @invariant()
    def nothing_is_lost_or_doubled(self):
        found = self.both(lambda store: store.deliveries(Wanted(), MAX_LIST))
        ids = [item.id for item in found]
        assert sorted(ids) == sorted([*self.final, *chain.from_iterable(self.lanes.values())])
        for item in found:
            assert (item.state in OPEN) == (item.id not in self.final)
            assert (item.state is State.RUNNING) == (item.id in self.leases)
            assert (item.state is State.HELD) == (item.id in self.held)

    @invariant()
    def the_stores_agree_on_when_to_look_again(self):
        for terms in (None, *SOME_TERMS):
            due = self.both(lambda store, terms=terms: store.next_due(terms=terms))
            if any(self.may_run(name, terms) for name in self.claimable()):
                assert due is not None
                assert due <= self.now

    def settle_everything(self):
        """Then everything can be finished, each delivery once more and in order."""
        for branch in BRANCHES:
            self.both(lambda store, branch=branch: store.release(JOURNAL, branch, self.sequence))
        self.held.clear()
        self.unreleased.clear()
        for lane in self.lanes:
            self.shed(lane)
        for name in list(self.paused):
            self.resume(name)
        self.now = max([self.now, *self.delays.values()]) + LEASE + 1
        self.restart(clean=True)
        waiting = sum(map(len, self.lanes.values()))
        for _ in range(waiting):
            self.claim_under(1, None)
            (name,) = self.leases
            fence = self.free(name)
            assert self.both(lambda store, n=name, f=fence: store.finish(n, f, DONE, self.now))
            self.close(name)
        assert self.both(lambda store: store.next_due()) is None
        for name in self.final:
            receipts = self.both(lambda store, name=name: store.receipts(name))
            again = self.both(lambda store, name=name: store.delivery(name)).renewed
            ends = [each for each in receipts if each.outcome.verdict in {"done", "dead"}]
            assert sum(each.fence > again for each in ends) <= 1
            assert [r.fence for r in receipts] == sorted({r.fence for r in receipts})
        self.nothing_is_lost_or_doubled()


StoreLife.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestStoreLife = StoreLife.TestCase
