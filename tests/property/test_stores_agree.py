"""Whatever is asked of them, in whatever order, all stores answer as the reference store does."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storekit import (
    BACK,
    DEAD,
    DONE,
    JOURNAL,
    OTHER,
    TOKENS,
    SqliteBox,
    ValkeyBox,
    batch,
    delivery,
    outcome,
    record,
    retry,
    standing,
)

from hgext_zmqhooks.wire.values import Continued, Link
from subscriber.store.base import Conflict, Decision, Fork, Paused, State, Terms, Wanted
from subscriber.store.memory import MemoryStore

RULES = ("build", "deploy", "notify")
BRANCHES = ("default", "b r")
JOURNALS = (JOURNAL, OTHER)
NODES = ("abcd" + "0" * 36, "abcd" + "1" * 36, "ab" + "2" * 38)
NAMES = {name: name.encode() for name in ("c1", "c2", "c3")}
LEASE = 10.0
STEPS = 60


class Scenario:
    """The same life of several stores, drawn step by step."""

    def __init__(self, rng, stores):
        self.rng, self.stores = rng, stores
        self.now = 2_000_000_000.0
        self.made, self.batches, self.claims = [], [], []

    def all(self, ask):
        """The same of all stores; a refusal is an answer, too."""
        reference, *others = self.stores
        first = self.ask(reference, ask)
        for store in others:
            assert self.ask(store, ask) == first, type(store).__name__
        return first

    @staticmethod
    def ask(store, question):
        try:
            return question(store)
        except Fork as error:
            return "fork", error.sequence, error.stored
        except Conflict as error:
            return "conflict", error.position

    def coin(self, chance=0.5):
        return self.rng.random() < chance

    def some(self, values, most=3):
        values = list(values)
        return [self.rng.choice(values) for _ in range(self.rng.randint(0, most)) if values]

    def position(self, journal):
        rows = {row.journal: row for row in self.stores[0].journals()}
        return rows[journal].scanned if journal in rows else None

    # What is done

    def accept(self):
        journal = self.rng.choice(JOURNALS)
        expected = self.position(journal)
        at = expected or 0
        late = 1 if at and self.coin(0.2) else 0
        sequences = range(max(1, at + 1 - late), at + 1 + self.rng.randint(0, 3))
        records = [self.record(journal, sequence) for sequence in sequences]
        items = [
            delivery(
                each.sequence,
                rule,
                branch=each.branch,
                journal=journal,
                first=max(1, each.sequence - self.rng.choice((0, 0, 2))),
                latest=rule == "deploy",
                node=self.rng.choice((None, *NODES)),
            )
            for each in records
            for rule in {self.rng.choice(RULES), self.rng.choice(RULES)}
        ]
        self.made += [item.id for item in items]
        scanned = max([at, *sequences]) + self.rng.choice((0, 0, 1))
        changes = {"certificates": {**TOKENS, **NAMES}, "journal": journal}
        if records:
            last = records[-1]
            changes["heads"] = {last.branch: Link(last.sequence, last.sha256)}
        if self.coin(0.1):
            other = OTHER if journal == JOURNAL else JOURNAL
            before = Continued(other, self.rng.randint(1, 9), "ee" * 32)
            changes["continues"] = {self.rng.choice(BRANCHES): before}
        if self.coin(0.1):
            changes["release"] = ((self.rng.choice(BRANCHES), self.rng.randint(1, 9)),)
        if self.coin(0.1):
            expected = self.rng.choice((None, 0, 5))
        if scanned < (expected or 0):
            return
        made = batch(scanned, expected, records=records, deliveries=items, **changes)
        self.batches.append(made)
        self.all(lambda store: store.accept(made))

    def record(self, journal, sequence):
        branch = self.rng.choice(BRANCHES)
        return record(
            sequence,
            branch=branch,
            journal=journal,
            held=self.coin(0.2),
            certificate=self.rng.choice(tuple(NAMES)),
            received=self.now + self.rng.randint(-20, 0),
            nodes=tuple(self.some(NODES)),
        )

    def accept_again(self):
        for made in self.some(self.batches, 1):
            self.all(lambda store, made=made: store.accept(made))

    def release(self):
        place = self.rng.choice(JOURNALS), self.rng.choice(BRANCHES), self.rng.randint(1, 20)
        self.all(lambda store: store.release(*place))

    def decide(self):
        journal = self.rng.choice(JOURNALS)
        if self.position(journal) is not None:
            self.all(lambda store: store.stop_journal(journal, "fork"))
            verb = self.rng.choice(("release", "admit"))
            decision = Decision(
                at=self.now, who="eve", verb=verb, journal=journal, branch="default", sequence=4
            )
            self.all(lambda store: store.decide(decision))

    def talk(self):
        relay = self.rng.choice(("hg1", "hg2"))
        head = self.rng.randint(0, 99)
        heads = [standing(self.rng.choice(JOURNALS), head=head)]
        scope = self.rng.choice(("x", "y"))
        for ask in (
            lambda store: store.learn(relay, heads, self.now),
            lambda store: store.note_heads(relay, heads, self.now),
            lambda store: store.heard(relay, self.now),
            lambda store: store.failed(relay, "gone", self.now),
            lambda store: store.follow(scope),
        ):
            if self.coin():
                self.all(ask)

    def terms(self):
        if self.coin(0.3):
            return None
        return {
            rule: Terms(
                lock=self.rng.choice((None, None, "prod")), limit=self.rng.choice((None, 1, 2))
            )
            for rule in RULES
            if self.coin(0.8)
        }

    def claim(self):
        terms, limit, owner = self.terms(), self.rng.randint(-1, 4), self.rng.choice("ab")
        self.claims += self.all(
            lambda store: store.claim(owner, LEASE, limit, self.now, terms=terms)
        )
        self.all(lambda store: store.next_due(terms=terms))

    def finish(self):
        for claim in self.some(self.claims[-6:], 2):
            end = self.rng.choice(
                (DONE, DONE, DEAD, BACK, retry(self.now + self.rng.randint(0, 9)))
            )
            lost = State.PENDING, outcome("lost")
            if self.coin(0.2):
                end = type(DONE)(state=lost[0], outcome=lost[1], counted=False)
            for _ in range(self.rng.randint(1, 2)):
                place = claim.delivery.id, claim.fence, end, self.now
                self.all(lambda store, place=place: store.finish(*place))

    def extend(self):
        for claim in self.some(self.claims[-6:], 2):
            place = claim.delivery.id, claim.fence, LEASE, self.now
            self.all(lambda store, place=place: store.extend(*place))

    def release_leases(self):
        owner = self.rng.choice(("a", "b", None))
        self.all(lambda store: store.release_leases(self.now, owner))

    def operate(self):
        ids, rule = self.some([*self.made, "unknown"], 6), self.rng.choice(RULES)
        paused = Paused(rule=rule, who="eve", at=self.now, reason="now")
        for ask in (
            lambda store: store.redeliver(ids, self.now),
            lambda store: store.redeliver(ids, self.now),
            lambda store: store.bury(ids, "given up", self.now),
            lambda store: store.pause(paused),
            lambda store: store.resume(rule),
            lambda store: store.resume(rule),
        ):
            if self.coin(0.3):
                self.all(ask)

    def prune(self):
        before = self.now - self.rng.randint(-5, 30)
        # Which of several go first where not all can is no promise.
        self.all(lambda store: store.prune(before, 1000))

    def follow(self):
        instance = self.rng.choice(("one", "two"))
        journals = self.some(JOURNALS)
        self.all(lambda store: store.lease_journals(instance, journals, LEASE, self.now))
        if self.coin(0.3):
            self.all(lambda store: store.yield_journals(instance))

    def pass_time(self):
        self.now += self.rng.choice((0.25, 1, 7, 11, -3))

    # What is asked

    def look(self):
        for ask in (
            lambda store: store.journals(),
            lambda store: store.deliveries(Wanted(), 1000),
            lambda store: store.events(0, 1000),
            lambda store: store.status(),
            lambda store: store.held(),
            lambda store: store.paused(),
            lambda store: store.contacts(),
            lambda store: store.next_due(),
            lambda store: store.newest_event(),
            lambda store: [store.decisions(journal) for journal in JOURNALS],
            lambda store: [store.chain(journal) for journal in JOURNALS],
            lambda store: [store.certificate(name) for name in NAMES],
        ):
            self.all(ask)

    def look_closely(self):
        wanted = Wanted(
            id=self.rng.choice((None, None, "bu", "build-9f-", "deploy", "unknown")),
            states=self.rng.choice((None, frozenset(self.some(State, 4)))),
            rule=self.rng.choice((None, *RULES)),
            branch=self.rng.choice((None, *BRANCHES)),
            event_id=self.rng.choice(
                (None, f"{JOURNAL}/3", f"{OTHER}/5", "strange", "x/" + "9" * 30)
            ),
            after=self.rng.randint(0, 9),
            since=self.rng.choice((None, 1002.0)),
            until=self.rng.choice((None, 1008.0)),
        )
        limit, newest = self.rng.choice((0, 2, 1000)), self.coin()
        node, after = self.rng.choice(("abcd", NODES[0], "ab222", "abc!")), self.rng.randint(0, 9)
        journal, branch = self.rng.choice(JOURNALS), self.rng.choice(BRANCHES)
        self.all(lambda store: store.deliveries(wanted, limit, newest=newest))
        self.all(lambda store: store.trace(node, limit))
        self.all(lambda store: store.events(after, limit))
        self.all(lambda store: store.parts(journal, branch, 2, 9))
        self.all(lambda store: store.event(journal, after))
        self.all(lambda store: store.record_digest(journal, after))
        for name in self.some([*self.made, "unknown"]):
            self.all(lambda store, name=name: (store.delivery(name), store.receipts(name)))

    def live(self):
        steps = [self.accept, self.claim, self.finish, self.pass_time] * 3 + [
            *(self.accept_again, self.release, self.decide, self.talk, self.extend),
            *(self.release_leases, self.operate, self.operate, self.prune, self.follow),
            *(self.look_closely, self.look_closely),
        ]
        for _ in range(STEPS):
            self.rng.choice(steps)()
            self.look()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(st.randoms(use_true_random=False))
def test_they_answer_as_the_reference_store_does(rng):
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteBox(Path(folder), quick=True).store as one,
        ValkeyBox().store as other,
    ):
        Scenario(rng, [MemoryStore(), one, other]).live()
