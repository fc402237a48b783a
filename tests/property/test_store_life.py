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

from subscriber.store.base import LOST_LIMIT, MAX_LIST, OPEN, Conflict, Fork, State, Terms, Wanted
from subscriber.store.memory import MemoryStore

LEASE = 10.0
RULES = ("build", "notify")
BRANCHES = ("default", "stable")


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
        self.old = []  # (id, fence) that hold nothing any more
        self.fence = 0

    def both(self, ask):
        """The same question to both stores; they must agree."""
        mine, reference = ask(self.box.store), ask(self.reference)
        assert mine == reference
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
    )
    def accept(self, events, names, skipped):
        records, items = [], []
        expected = self.sequence if self.batches else None
        for branch, held in events:
            self.sequence += 1
            records.append(record(self.sequence, branch=branch, held=held))
            for name in sorted(names):
                items.append(delivery(self.sequence, name, branch=branch))
                self.lanes.setdefault((name, branch), []).append(items[-1].id)
                if held:
                    self.held[items[-1].id] = (branch, self.sequence)
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

    @precondition(lambda self: any(made.records for made in self.batches))
    @rule(data=st.data())
    def rewrite_history(self, data):
        old = data.draw(st.sampled_from([made for made in self.batches if made.records]))
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
        self.held = {
            name: place
            for name, place in self.held.items()
            if place[0] != branch or place[1] > up_to
        }

    # Engine

    def lose(self, name):
        """Its holder is gone."""
        self.old.append((name, self.leases.pop(name)[0]))
        self.lost[name] = self.lost.get(name, 0) + 1
        if self.lost[name] == LOST_LIMIT:
            self.close(name)

    def close(self, name):
        (lane,) = [lane for lane in self.lanes.values() if name in lane]
        assert lane[0] == name
        lane.pop(0)
        self.final.append(name)

    def claimable(self):
        firsts = [lane[0] for lane in self.lanes.values() if lane]
        return {
            name
            for name in firsts
            if name not in self.held
            and name not in self.leases
            and self.delays.get(name, 0.0) <= self.now
        }

    @rule(limit=st.integers(0, 3), names=st.sampled_from([None, RULES, RULES[:1]]))
    def claim(self, limit, names):
        for name, (_, until) in list(self.leases.items()):
            if until <= self.now:
                self.lose(name)
        allowed = {
            name for name in self.claimable() if names is None or name.split("-")[0] in names
        }
        terms = None if names is None else dict.fromkeys(names, Terms())
        found = self.both(lambda store: store.claim("ci", LEASE, limit, self.now, terms=terms))
        ids = [item.delivery.id for item in found]
        assert len(ids) == min(limit, len(allowed))
        assert set(ids) <= allowed
        for item in found:
            assert item.fence > self.fence
            self.fence = item.fence
            self.delays.pop(item.delivery.id, None)
            self.leases[item.delivery.id] = (item.fence, self.now + LEASE)

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
        del self.leases[name]
        if how == "retry":
            self.delays[name] = due
        elif how is not BACK:
            self.close(name)

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
        due = self.both(lambda store: store.next_due())
        if self.claimable():
            assert due is not None
            assert due <= self.now

    def settle_everything(self):
        """Then everything can be finished, each delivery once more and in order."""
        for branch in BRANCHES:
            self.both(lambda store, branch=branch: store.release(JOURNAL, branch, self.sequence))
        self.held.clear()
        self.now = max([self.now, *self.delays.values()]) + LEASE + 1
        self.restart(clean=True)
        waiting = sum(map(len, self.lanes.values()))
        for _ in range(waiting):
            self.claim(1, None)
            (name,) = self.leases
            fence = self.leases.pop(name)[0]
            assert self.both(lambda store, n=name, f=fence: store.finish(n, f, DONE, self.now))
            self.close(name)
        assert self.both(lambda store: store.next_due()) is None
        for name in self.final:
            receipts = self.both(lambda store, name=name: store.receipts(name))
            verdicts = [receipt.outcome.verdict for receipt in receipts]
            assert verdicts.count("done") + verdicts.count("dead") <= 1
            assert [r.fence for r in receipts] == sorted({r.fence for r in receipts})
        self.nothing_is_lost_or_doubled()


StoreLife.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestStoreLife = StoreLife.TestCase
