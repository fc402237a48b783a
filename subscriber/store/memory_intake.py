"""The intake of the reference store: journals, positions, events, and what they make."""

from collections.abc import Iterable
from dataclasses import asdict, replace

from .base import (
    Accepted,
    Batch,
    Conflict,
    Contact,
    Decision,
    Delivery,
    Fork,
    Incoming,
    JournalRow,
    NewDelivery,
    OtherScope,
    Standing,
    State,
    StoredEvent,
    StoreError,
)
from .memory_lanes import MemoryLanes
from .memory_reader import FILE, step


class MemoryIntake(MemoryLanes):
    """What the intake does; see Store."""

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
        if not self._reads(batch.scope):
            raise OtherScope(FILE)
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
            self._stored += 1
            self._events[record.journal, record.sequence] = StoredEvent(
                number=self._stored, record=record
            )
        for branch, up_to in batch.release:
            self.release(batch.journal, branch, up_to)
        made = [item for item in map(self._add, batch.deliveries) if item is not None]
        for item in made:
            first = self._lanes[item.rule, item.order_key].queue[0]
            if item.latest or first == (item.number, item.id):
                self._settle(item)
        return Accepted(len(new), duplicates)

    def _reads(self, scope: str | None) -> bool:
        """Whether who reads by it may go on."""
        return scope is None or self._scope in {None, scope}

    def _known(self, record: Incoming) -> bool:
        if record.sequence <= self._pruned(record.journal):
            return True
        stored = self.record_digest(record.journal, record.sequence)
        if stored not in {None, record.sha256}:
            raise Fork(FILE, record.journal, record.sequence, str(stored), record.sha256)
        return stored is not None

    def _pruned(self, journal: str) -> int:
        row = self._journals.get(journal)
        return row.pruned if row else 0

    def _add(self, new: NewDelivery) -> Delivery | None:
        if new.id in self._deliveries or new.last <= self._pruned(new.journal):
            return None
        state = State.HELD if self._is_held(new) else State.PENDING
        self._made += 1
        item = Delivery(number=self._made, state=state, **asdict(new))
        self._deliveries[new.id] = item
        self._turns.setdefault(new.rule, 0)
        self._open(item)
        return item

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
        held = [item for item in self._deliveries.values() if item.state is State.HELD]
        free = [item for item in held if not self._is_held(item)]
        for item in free:
            self._deliveries[item.id] = replace(item, state=State.PENDING)
        for item in free:
            self._settle(item)
        return len(freed)

    def _chained(self, journal: str, branch: str, up_to: int) -> list[Incoming]:
        """The branch's records up to a sequence, and in the journals that this one continues."""
        found: dict[str, list[Incoming]] = {}
        while journal not in found:
            found[journal] = self.between(journal, branch, 1, up_to)
            if before := self._continues.get((journal, branch)):
                journal, up_to = before.journal, before.sequence
        return [record for records in found.values() for record in records]


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
        pruned=row.pruned if row else 0,
    )
