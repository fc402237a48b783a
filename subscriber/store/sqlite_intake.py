"""The intake of the SQLite store: journals, positions, events, and what they make."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from operator import attrgetter

from .base import (
    Accepted,
    Batch,
    Conflict,
    Decision,
    Fork,
    Incoming,
    NewDelivery,
    OtherScope,
    Standing,
    StoreError,
)
from .sqlite_lanes import WRITE, SqliteLanes
from .sqlite_reader import listed


class SqliteIntake(SqliteLanes):
    """What the intake does; see Store."""

    def learn(self, relay: str, journals: Iterable[Standing], now: float) -> bool:
        """See Store."""
        with self._step(WRITE):
            if self._run("learn", relay=relay, now=now).rowcount == 0:
                return False
            self._note(relay, journals, now)
            return True

    def follow(self, scope: str) -> bool:
        """See Store."""
        with self._step(WRITE):
            before = self._value("scope")
            if before != scope:
                self._run("set_scope", scope=scope)
                self._run("begin_anew")
            return before not in {None, scope}

    def note_heads(self, relay: str, heads: Iterable[Standing], now: float) -> None:
        """See Store."""
        with self._step(WRITE):
            self._note(relay, heads, now)

    def _note(self, relay: str, journals: Iterable[Standing], now: float) -> None:
        for standing in journals:
            self._run("note_head", relay=relay, now=now, **asdict(standing))

    def stop_journal(self, journal: str, reason: str | None) -> None:
        """See Store."""
        with self._step(WRITE):
            if self._run("stop_journal", journal=journal, reason=reason).rowcount == 0:
                raise StoreError(self._file, f"journal {journal} is not known")

    def heard(self, relay: str, now: float) -> None:
        """See Store."""
        with self._step(WRITE):
            self._run("heard", relay=relay, now=now)

    def failed(self, relay: str, error: str, now: float) -> None:
        """See Store."""
        with self._step(WRITE):
            self._run("failed", relay=relay, error=error, now=now)

    def decide(self, decision: Decision) -> int:
        """See Store."""
        with self._step(WRITE):
            if not self._rows("position", journal=decision.journal):
                raise StoreError(self._file, f"journal {decision.journal} is not known")
            self._run("decide", **asdict(decision))
            if decision.verb in {"admit", "vouch"}:
                self._run("stop_journal", journal=decision.journal, reason=None)
                return 0
            return self._release(decision.journal, decision.branch or "", decision.sequence)

    def accept(self, batch: Batch) -> Accepted:
        """See Store."""
        with self._step(WRITE):
            if not self._reads(batch.scope):
                raise OtherScope(self._file)
            new = self._new(batch)
            duplicates = len(batch.records) - len(new)
            position = self._value("position", journal=batch.journal)
            if position != batch.expected:
                if position == batch.scanned and not new:
                    return Accepted(0, duplicates)
                raise Conflict(self._file, batch.journal, batch.expected, position)
            self._take(batch, new)
            return Accepted(len(new), duplicates)

    def _reads(self, scope: str | None) -> bool:
        """Whether who reads by it may go on."""
        return scope is None or self._value("scope") in {None, scope}

    def _digests(self, batch: Batch) -> dict[int, str]:
        """What the store has of these sequences."""
        sequences = listed([record.sequence for record in batch.records])
        rows = self._run("digests", journal=batch.journal, sequences=sequences)
        return dict(rows.fetchall())

    def _pruned(self, journal: str) -> int:
        return self._value("pruned", journal=journal) or 0

    def _new(self, batch: Batch) -> list[Incoming]:
        """The records that are neither stored nor forgotten."""
        stored, pruned = self._digests(batch), self._pruned(batch.journal)
        return [
            record
            for record in batch.records
            if record.sequence > pruned and not self._known(record, stored)
        ]

    def _known(self, record: Incoming, digests: Mapping[int, str]) -> bool:
        stored = digests.get(record.sequence)
        if stored is None:
            return False
        if stored != record.sha256:
            raise Fork(self._file, record.journal, record.sequence, stored, record.sha256)
        return True

    def _take(self, batch: Batch, new: Collection[Incoming]) -> None:
        seen = min((record.received for record in batch.records), default=0.0)
        self._run(
            "move",
            journal=batch.journal,
            repo=batch.repo,
            relay=batch.relay,
            scanned=batch.scanned,
            fresh=bool(new),
            seen=seen,
        )
        if batch.origin is not None:
            self._run("set_origin", journal=batch.journal, origin=batch.origin)
        for sha256, token in batch.certificates.items():
            self._run("add_certificate", sha256=sha256, token=token)
        for certificate in {record.certificate for record in new}:
            if self._value("certificate", sha256=certificate) is None:
                raise StoreError(self._file, f"certificate {certificate} is not in the batch")
        self._add_events(new)
        links = (
            {"journal": batch.journal, "branch": branch, **asdict(link)}
            for branch, link in batch.heads.items()
        )
        self._run_many("link", links)
        for branch, before in batch.continues.items():
            place = {"before": before.journal, "sequence": before.sequence}
            self._run("continue", journal=batch.journal, branch=branch, **place)
        for branch, up_to in batch.release:
            self._release(batch.journal, branch, up_to)
        self._add_deliveries(batch)

    def _add_events(self, records: Collection[Incoming]) -> None:
        begin = int(self._value("newest_event")) + 1
        rows = ((number, *_row(record)) for number, record in enumerate(records, begin))
        self._run_many("add_event", rows)
        for sha256, number in Counter(record.certificate for record in records).items():
            self._run("count_events", sha256=sha256, count=number)
        told = (
            {"node": node, "event": number}
            for number, record in enumerate(records, begin)
            for node in record.nodes
        )
        self._run_many("add_node", told)

    def _add_deliveries(self, batch: Batch) -> None:
        given = {item.id: item for item in batch.deliveries}
        known = {name for (name,) in self._run("known_deliveries", ids=listed(given))}
        pruned = self._pruned(batch.journal)
        new = [
            item
            for item in given.values()
            if item.id not in known and (item.journal != batch.journal or item.last > pruned)
        ]
        self._run_many("add_rule", ({"rule": rule} for rule in {item.rule for item in new}))
        self._run_many("add_delivery", map(_delivery_values, new))
        if self._value("any_held"):
            self._run_many("hold_delivery", ({"id": item.id} for item in new))
        lanes = ({"rule": item.rule, "order_key": item.order_key, "id": item.id} for item in new)
        self._run_many("add_lane", lanes)
        for rule, order_key in {(item.rule, item.order_key): None for item in new if item.latest}:
            self._settle(rule, order_key)

    def release(self, journal: str, branch: str, up_to: int) -> int:
        """See Store."""
        with self._step(WRITE):
            return self._release(journal, branch, up_to)

    def _release(self, journal: str, branch: str, up_to: int) -> int:
        freed = 0
        for place, last in self._chained(journal, branch, up_to).items():
            freed += self._run("release_events", journal=place, branch=branch, up_to=last).rowcount
        if freed:
            free = sorted(self._run("release_deliveries").fetchall())
            for rule, order_key in {(rule, order_key): None for _, rule, order_key in free}:
                self._settle(rule, order_key)
        return freed

    def _chained(self, journal: str, branch: str, up_to: int) -> dict[str, int]:
        """The journals that a branch's chain goes over, backwards, each with its end there."""
        found: dict[str, int] = {}
        while journal not in found:
            found[journal] = up_to
            for before in self._run("continued", journal=journal, branch=branch).fetchall():
                journal, up_to = before
        return found


_event_values = attrgetter(*(each.name for each in dataclass_fields(Incoming)))
_delivery_values = attrgetter(*(each.name for each in dataclass_fields(NewDelivery)))


def _row(record: Incoming) -> tuple[object, ...]:
    """The row of an event, but its number; asdict copies every value, which catching up feels."""
    return (*_event_values(record)[:-1], " ".join(record.nodes))
