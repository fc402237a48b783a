"""The reference store: the contract of `base` in plain dictionaries.

It forgets everything when its process ends, so no daemon uses it. It says what the other stores
must do: the conformance suite and the property tests compare them with it.
"""

import heapq
import math
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace

from .base import (
    MAX_CLAIMS,
    OPEN,
    Accepted,
    Batch,
    Claim,
    Conflict,
    Contact,
    Decision,
    Delivery,
    Finish,
    Fork,
    Incoming,
    JournalRow,
    NewDelivery,
    Receipt,
    Standing,
    State,
    Store,
    StoredEvent,
    StoreError,
)
from .memory_reader import FILE, Lane, MemoryReader, step
from .values import lost


class MemoryStore(MemoryReader, Store):
    """The contract, held in memory."""

    # Intake

    @step
    def learn(self, relay: str, journals: Iterable[Standing], now: float) -> bool:
        """See Store."""
        if relay in self._relays:
            return False
        self._note(relay, journals, now)
        self._relays.add(relay)
        return True

    @step
    def follow(self, scope: str) -> bool:
        """See Store."""
        before, self._scope = self._scope, scope
        for name, row in self._journals.items():
            if row.scanned is not None and before != scope:
                self._journals[name] = replace(row, origin=row.scanned)
        return before not in {None, scope}

    @step
    def note_heads(self, relay: str, heads: Iterable[Standing], now: float) -> None:
        """See Store."""
        self._note(relay, heads, now)

    def _note(self, relay: str, journals: Iterable[Standing], now: float) -> None:
        for standing in journals:
            if row := self._journals.get(standing.journal):
                row = replace(row, relay=relay, head=standing.head)
            else:
                row = JournalRow(relay=relay, first_seen=now, stopped=None, **asdict(standing))
            self._journals[standing.journal] = row

    @step
    def stop_journal(self, journal: str, reason: str | None) -> None:
        """See Store."""
        row = self._journals.get(journal)
        if row is None:
            raise StoreError(FILE, f"journal {journal} is not known")
        self._journals[journal] = replace(row, stopped=reason)

    @step
    def heard(self, relay: str, now: float) -> None:
        """See Store."""
        self._contacts[relay] = replace(self._contact(relay), seen=now)

    @step
    def failed(self, relay: str, error: str, now: float) -> None:
        """See Store."""
        self._contacts[relay] = replace(self._contact(relay), failed=now, error=error)

    def _contact(self, relay: str) -> Contact:
        return self._contacts.get(relay, Contact(relay=relay, seen=None, failed=None, error=""))

    @step
    def decide(self, decision: Decision) -> int:
        """See Store."""
        if decision.journal not in self._journals:
            raise StoreError(FILE, f"journal {decision.journal} is not known")
        self._decisions.append(decision)
        if decision.verb in {"admit", "vouch"}:
            self.stop_journal(decision.journal, None)
            return 0
        return self.release(decision.journal, decision.branch or "", decision.sequence)

    @step
    def accept(self, batch: Batch) -> Accepted:
        """See Store."""
        new = [record for record in batch.records if not self._known(record)]
        duplicates = len(batch.records) - len(new)
        row = self._journals.get(batch.journal)
        position = row.scanned if row else None
        if position != batch.expected:
            if position == batch.scanned and not new:
                return Accepted(0, duplicates)
            raise Conflict(FILE, batch.journal, batch.expected, position)
        certificates = {**self._certificates, **batch.certificates}
        if missing := {record.certificate for record in new} - certificates.keys():
            raise StoreError(FILE, f"certificate {min(missing)} is not in the batch")
        self._certificates = certificates
        self._journals[batch.journal] = _moved(row, batch, fresh=bool(new))
        self._chains.setdefault(batch.journal, {}).update(batch.heads)
        for branch, before in batch.continues.items():
            self._continues[batch.journal, branch] = before
        for record in new:
            number = len(self._events) + 1
            self._events[record.journal, record.sequence] = StoredEvent(
                number=number, record=record
            )
        for branch, up_to in batch.release:
            self.release(batch.journal, branch, up_to)
        for delivery in batch.deliveries:
            self._add(delivery)
        return Accepted(len(new), duplicates)

    def _known(self, record: Incoming) -> bool:
        stored = self.record_digest(record.journal, record.sequence)
        if stored not in {None, record.sha256}:
            raise Fork(FILE, record.journal, record.sequence, str(stored), record.sha256)
        return stored is not None

    def _add(self, new: NewDelivery) -> None:
        if new.id in self._deliveries:
            return
        state = State.HELD if self._is_held(new) else State.PENDING
        number = len(self._deliveries) + 1
        self._deliveries[new.id] = Delivery(number=number, state=state, **asdict(new))
        lane = self._lanes.setdefault((new.rule, new.order_key), Lane(new.rule))
        lane.queue.append(new.id)
        if len(lane.queue) == 1:
            self._settle(lane)

    def _is_held(self, item: NewDelivery | Delivery) -> bool:
        records = self.between(item.journal, item.branch, item.first, item.last)
        return any(record.held for record in records)

    @step
    def release(self, journal: str, branch: str, up_to: int) -> int:
        """See Store."""
        freed = [record for record in self._chained(journal, branch, up_to) if record.held]
        for record in freed:
            place = (record.journal, record.sequence)
            self._events[place] = replace(self._events[place], record=replace(record, held=False))
        for item in self._deliveries.values():
            if item.state is State.HELD and not self._is_held(item):
                self._deliveries[item.id] = replace(item, state=State.PENDING)
                lane = self._lanes[item.rule, item.order_key]
                if lane.queue[0] == item.id:
                    self._settle(lane)
        return len(freed)

    def _chained(self, journal: str, branch: str, up_to: int) -> list[Incoming]:
        """The branch's records up to a sequence, and in the journals that this one continues."""
        found: dict[str, list[Incoming]] = {}
        while journal not in found:
            found[journal] = self.between(journal, branch, 1, up_to)
            if before := self._continues.get((journal, branch)):
                journal, up_to = before.journal, before.sequence
        return [record for records in found.values() for record in records]

    # Engine

    def _settle(self, lane: Lane) -> None:
        """Take the lane's state from its first open delivery, which is not running."""
        lane.turn = lane.due = None
        if not lane.queue:
            return
        first = self._deliveries[lane.queue[0]]
        if first.state is State.RETRYING:
            lane.due = first.due
        elif first.state is State.PENDING:
            self._queue(lane)

    def _queue(self, lane: Lane) -> None:
        self._turn += 1
        lane.turn, lane.due = self._turn, None

    def _chosen(self, rules: Collection[str] | None) -> list[Lane]:
        return [lane for lane in self._lanes.values() if rules is None or lane.rule in rules]

    @step
    def claim(
        self,
        owner: str,
        lease: float,
        limit: int,
        now: float,
        *,
        rules: Collection[str] | None = None,
    ) -> list[Claim]:
        """See Store."""
        lanes = self._chosen(rules)
        due = [lane for lane in lanes if lane.due is not None and lane.due <= now]
        for lane in sorted(due, key=lambda lane: lane.due or 0.0):
            self._wake(lane, now)
        ready = [lane for lane in lanes if lane.turn is not None]
        count = max(0, min(limit, MAX_CLAIMS))
        chosen = heapq.nsmallest(count, ready, key=lambda lane: lane.turn or 0)
        return [self._lease(lane, owner, lease, now) for lane in chosen]

    def _wake(self, lane: Lane, now: float) -> None:
        """A delay or a lease is over."""
        item = self._deliveries[lane.queue[0]]
        if item.state is State.RUNNING:
            self._end(item, lost(item, now), now)
        else:
            self._deliveries[item.id] = replace(item, due=None)
            self._queue(lane)

    def _lease(self, lane: Lane, owner: str, lease: float, now: float) -> Claim:
        self._fence = max(self._fence + 1, math.floor(now * 1e6))
        item = replace(
            self._deliveries[lane.queue[0]],
            state=State.RUNNING,
            fence=self._fence,
            owner=owner,
            claimed=now,
            lease_until=now + lease,
            due=None,
        )
        self._deliveries[item.id] = item
        lane.turn, lane.due = None, item.lease_until
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
        self._lanes[item.rule, item.order_key].due = now + lease
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

    def _end(self, item: Delivery, finish: Finish, now: float) -> None:
        receipt = Receipt(
            delivery=item.id,
            fence=item.fence,
            attempt=item.attempts + 1,
            owner=item.owner or "",
            outcome=finish.outcome,
            counted=finish.counted,
        )
        self._receipts.setdefault(item.id, {})[item.fence] = receipt
        self._deliveries[item.id] = replace(
            item,
            state=finish.state,
            attempts=item.attempts + finish.counted,
            lost=item.lost + (finish.outcome.verdict == "lost"),
            reason=finish.outcome.reason,
            owner=None,
            claimed=None,
            lease_until=None,
            due=finish.retry_at,
            ended=None if finish.state in OPEN else now,
        )
        lane = self._lanes[item.rule, item.order_key]
        if finish.state not in OPEN:
            lane.queue.popleft()
        self._settle(lane)

    @step
    def next_due(self, *, rules: Collection[str] | None = None) -> float | None:
        """See Store."""
        lanes = self._chosen(rules)
        if any(lane.turn is not None for lane in lanes):
            return 0.0
        return min((lane.due for lane in lanes if lane.due is not None), default=None)

    @step
    def release_leases(self, now: float, owner: str | None = None) -> int:
        """See Store."""
        running = [item for item in self._deliveries.values() if item.state is State.RUNNING]
        gone = [item for item in running if owner in {None, item.owner}]
        for item in gone:
            self._end(item, lost(item, now), now)
        return len(gone)


def _moved(row: JournalRow | None, batch: Batch, *, fresh: bool) -> JournalRow:
    """The journal's row after the batch. `fresh`: something of it was new."""
    seen = min((record.received for record in batch.records), default=0.0)
    moved = row is None or row.scanned != batch.scanned or fresh
    return JournalRow(
        journal=batch.journal,
        repo=batch.repo,
        relay=batch.relay,
        scanned=batch.scanned,
        since=None,
        head=max(row.head if row else 0, batch.scanned),
        first_seen=row.first_seen if row else seen,
        stopped=None if row is None or moved else row.stopped,
        origin=row.origin if row and batch.origin is None else batch.origin,
    )
