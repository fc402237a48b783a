"""The reference store: the contract of `base` in plain dictionaries.

It forgets everything when its process ends, so no daemon uses it. It says what the other stores
must do: the conformance suite and the property tests compare them with it.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from .base import (
    MAX_CLAIMS,
    OPEN,
    Claim,
    Delivery,
    Finish,
    Paused,
    State,
    Store,
    Terms,
)
from .clock import steady_clock
from .memory_intake import MemoryIntake
from .memory_reader import Lane, step
from .turns import Turns
from .values import lost


class MemoryStore(MemoryIntake, Store):
    """The contract, held in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = steady_clock()

    def now(self) -> float:
        """See Store."""
        return self._clock()

    # Engine

    @step
    def claim(
        self,
        owner: str,
        lease: float,
        limit: int,
        now: float,
        *,
        terms: Mapping[str, Terms] | None = None,
    ) -> list[Claim]:
        """See Store."""
        self._lose([item for item in self._running() if (item.lease_until or 0.0) <= now], now)
        turns = self._begin(terms)
        self._wake(self._eligible(turns), now)
        claims: list[Claim] = []
        while len(claims) < min(limit, MAX_CLAIMS) and (rule := turns.next()) is not None:
            lane = self._ready(rule)
            if lane is not None:
                claims.append(self._lease(lane, owner, lease, now, turns.terms(rule).lock))
                turns.took(rule, self._fence)
        return claims

    def _running(self) -> list[Delivery]:
        return [item for item in self._deliveries.values() if item.state is State.RUNNING]

    def _lose(self, gone: Iterable[Delivery], now: float) -> None:
        for item in sorted(gone, key=lambda item: (item.lease_until or 0.0, item.number)):
            self._end(item, lost(item, now), now)

    def _begin(self, terms: Mapping[str, Terms] | None) -> Turns:
        turns = Turns(terms, [(item.rule, item.lock) for item in self._running()])
        for rule in self._turns.keys() - self._pauses.keys():
            turns.add(rule, self._turns[rule])
        return turns

    def _eligible(self, turns: Turns) -> list[Lane]:
        """The lanes of rules that are not passed over."""
        return [
            lane
            for lane in self._lanes.values()
            if lane.rule not in self._pauses and turns.may_run(lane.rule)
        ]

    def _wake(self, lanes: Iterable[Lane], now: float) -> None:
        """Let go on what waited for a time that has come."""
        due = [lane for lane in lanes if lane.due is not None and lane.due <= now]
        for lane in sorted(due, key=lambda lane: (lane.due, lane.order_key)):
            self._queue(lane)

    def _ready(self, rule: str) -> Lane | None:
        ready = (lane for lane in self._lanes.values() if lane.rule == rule and lane.turn)
        return min(ready, key=lambda lane: lane.turn or 0, default=None)

    def _lease(self, lane: Lane, owner: str, lease: float, now: float, lock: str | None) -> Claim:
        self._fence = max(self._fence + 1, math.floor(now * 1e6))
        item = replace(
            self._of(lane)[0],
            state=State.RUNNING,
            fence=self._fence,
            owner=owner,
            claimed=now,
            lease_until=now + lease,
            lock=lock,
            due=None,
        )
        self._deliveries[item.id] = item
        self._turns[item.rule] = self._fence
        lane.turn = lane.due = None
        return Claim(item, item.fence, item.attempts + 1)

    def _held_by(self, delivery_id: str, fence: int) -> Delivery | None:
        item = self._deliveries.get(delivery_id)
        if item and item.state is State.RUNNING and item.fence == fence:
            return item
        return None

    @step
    def extend(self, delivery_id: str, fence: int, lease: float, now: float) -> bool:
        """See Store."""
        item = self._held_by(delivery_id, fence)
        if item is None:
            return False
        self._deliveries[item.id] = replace(item, lease_until=now + lease)
        return True

    @step
    def finish(self, delivery_id: str, fence: int, finish: Finish, now: float) -> bool:
        """See Store."""
        item = self._held_by(delivery_id, fence)
        if item is None:
            receipt = self._receipts.get(delivery_id, {}).get(fence)
            return receipt is not None and receipt.outcome == finish.outcome
        self._end(item, finish, now)
        return True

    @step
    def next_due(self, *, terms: Mapping[str, Terms] | None = None) -> float | None:
        """See Store."""
        turns = self._begin(terms)
        lanes = self._eligible(turns)
        if any(lane.turn is not None for lane in lanes):
            return 0.0
        ends = [lane.due for lane in lanes]
        ends += [
            item.lease_until for item in self._running() if turns.concerns(item.rule, item.lock)
        ]
        return min((end for end in ends if end is not None), default=None)

    @step
    def release_leases(self, now: float, owner: str | None = None) -> int:
        """See Store."""
        gone = [item for item in self._running() if owner in {None, item.owner}]
        self._lose(gone, now)
        return len(gone)

    # What operators do

    @step
    def redeliver(self, ids: Sequence[str], now: float) -> list[str]:
        """See Store."""
        return self._settled([name for name in ids if self._redeliver(name, now)], now)

    def _settled(self, names: list[str], now: float) -> list[str]:
        """The names, their lanes settled, each once."""
        lanes: dict[tuple[str, str], Delivery] = {}
        for item in map(self._deliveries.__getitem__, names):
            lanes.setdefault((item.rule, item.order_key), item)
        for item in lanes.values():
            self._settle(item, now)
        return names

    def _redeliver(self, name: str, now: float) -> bool:
        item = self._deliveries.get(name)
        if item is None or item.state in OPEN - {State.RETRYING}:
            return False
        if item.state is State.RETRYING:
            self._deliveries[name] = replace(item, due=now)
        else:
            self._deliveries[name] = replace(
                item,
                state=State.HELD if self._is_held(item) else State.PENDING,
                attempts=0,
                lost=0,
                renewed=item.fence,
                reason="",
                ended=None,
            )
            self._open(item)
        return True

    @step
    def bury(self, ids: Sequence[str], reason: str, now: float) -> list[str]:
        """See Store."""
        return self._settled([name for name in ids if self._bury(name, reason, now)], now)

    def _bury(self, name: str, reason: str, now: float) -> bool:
        item = self._deliveries.get(name)
        if item is None or item.state not in OPEN - {State.RUNNING}:
            return False
        self._end_as(item, State.DEAD, reason, now)
        return True

    @step
    def pause(self, paused: Paused) -> bool:
        """See Store."""
        return self._pauses.setdefault(paused.rule, paused) is paused

    @step
    def resume(self, rule: str) -> bool:
        """See Store."""
        return self._pauses.pop(rule, None) is not None

    # Upkeep

    @step
    def prune(self, before: float, limit: int) -> int:
        """See Store."""
        old = sorted(
            (item.ended, item.number, item.id)
            for item in self._deliveries.values()
            if item.ended is not None and item.ended < before
        )
        gone = old[: max(0, limit)]
        for _, _, name in gone:
            del self._deliveries[name]
            self._receipts.pop(name, None)
        count = len(gone)
        for journal in self._journals:
            count += self._prune_journal(journal, before, limit - count)
        named = {event.record.certificate for event in self._events.values()}
        if count > len(gone):
            self._certificates = {
                name: token for name, token in self._certificates.items() if name in named
            }
        return count

    def _prune_journal(self, journal: str, before: float, limit: int) -> int:
        needed = [item.first for item in self._deliveries.values() if item.journal == journal]
        count = 0
        for place in sorted(place for place in self._events if place[0] == journal):
            record = self._events[place].record
            done = record.received < before and not record.held
            if count >= limit or not done or place[1] >= min(needed, default=place[1] + 1):
                break
            del self._events[place]
            self._journals[journal] = replace(self._journals[journal], pruned=place[1])
            count += 1
        return count

    @step
    def lease_journals(
        self,
        instance: str,
        journals: Collection[str],
        lease: float,
        now: float,
        scope: str | None = None,
    ) -> frozenset[str]:
        """See Store."""
        if not self._reads(scope):
            self.yield_journals(instance)
            return frozenset()
        for journal in journals:
            holder, until = self._followed.get(journal, (instance, now))
            if holder == instance or until <= now:
                self._followed[journal] = (instance, now + lease)
        return frozenset(
            journal
            for journal, (holder, until) in self._followed.items()
            if holder == instance and until > now
        )

    @step
    def yield_journals(self, instance: str) -> None:
        """See Store."""
        self._followed = {
            journal: held for journal, held in self._followed.items() if held[0] != instance
        }
