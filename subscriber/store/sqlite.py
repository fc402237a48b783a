"""The store of one daemon: a SQLite file.

    SqliteStore.open(Path("/var/lib/zmqhooks/ci.db"))      the daemon; takes the store's lock
    SqliteReader.open(path)                                everybody else; cannot write

Each method of the contract is one transaction, begun with BEGIN IMMEDIATE and on disk
(synchronous=FULL) when the method returns. The tables are in schema.sql, the statements in
queries.sql.
"""

import math
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from operator import attrgetter
from pathlib import Path
from typing import Self

from .base import (
    MAX_CLAIMS,
    OPEN,
    Accepted,
    Batch,
    Claim,
    Conflict,
    Decision,
    Delivery,
    Finish,
    Fork,
    Incoming,
    NewDelivery,
    Standing,
    State,
    Store,
    StoreError,
)
from .connection import Connection, Lock, lock_path, open_writer
from .sqlite_reader import SqliteReader, bounded, delivery, listed, receipt
from .values import lost

__all__ = ["SqliteReader", "SqliteStore"]

WRITE = "BEGIN IMMEDIATE"


class SqliteStore(SqliteReader, Store):
    """The contract, held in one file by one process."""

    def __init__(self, path: Path, db: Connection, lock: Lock) -> None:
        super().__init__(path, db)
        self._daemon = lock
        with self._step(WRITE):
            self._run("add_store", identity=uuid.uuid4().hex)

    @classmethod
    def open(cls, path: Path, lock: Lock | None = None) -> Self:
        """Open or make the store for writing; StoreError when another daemon has it.

        `lock`: the store's, if the caller has it already; it is closed with the store.
        """
        lock = lock or Lock(lock_path(path))
        try:
            return cls(path, open_writer(path), lock)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """See Reader."""
        super().close()
        self._daemon.close()

    # Intake

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
            stored = self._digests(batch)
            new = [record for record in batch.records if not self._known(record, stored)]
            duplicates = len(batch.records) - len(new)
            position = self._value("position", journal=batch.journal)
            if position != batch.expected:
                if position == batch.scanned and not new:
                    return Accepted(0, duplicates)
                raise Conflict(self._file, batch.journal, batch.expected, position)
            self._take(batch, new)
            return Accepted(len(new), duplicates)

    def _digests(self, batch: Batch) -> dict[int, str]:
        """What the store has of these sequences."""
        sequences = listed([record.sequence for record in batch.records])
        rows = self._run("digests", journal=batch.journal, sequences=sequences)
        return dict(rows.fetchall())

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
        self._run_many("add_event", map(_columns, new))
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
        for item in batch.deliveries:
            self._add(item)

    def _add(self, item: NewDelivery) -> None:
        lane = self._value("lane", rule=item.rule, order_key=item.order_key)
        if lane is None:
            lane = self._value("add_lane", rule=item.rule, order_key=item.order_key)
        number = self._value("add_delivery", lane=lane, **asdict(item))
        if number is not None:
            self._settle_if_first(lane, number)

    def release(self, journal: str, branch: str, up_to: int) -> int:
        """See Store."""
        with self._step(WRITE):
            return self._release(journal, branch, up_to)

    def _release(self, journal: str, branch: str, up_to: int) -> int:
        freed = self._run("release_events", journal=journal, branch=branch, up_to=up_to).rowcount
        if freed:
            for lane, number in self._run("release_deliveries").fetchall():
                self._settle_if_first(lane, number)
        return freed

    # Engine

    def _settle_if_first(self, lane: int, number: int) -> None:
        """A delivery of the lane became pending: the lane changes only if it is the next one."""
        if self._value("first_open", lane=lane) == number:
            self._settle(lane)

    def _settle(self, lane: int, due: float | None = None) -> None:
        """Take the lane's state from its first open delivery, which is not running."""
        first = self._rows("first_open", lane=lane)
        if first and first[0]["state"] == State.PENDING:
            self._queue(lane)
        else:
            self._run("settle_lane", lane=lane, due=due)

    def _queue(self, lane: int) -> None:
        self._run("next_turn")
        self._run("queue_lane", lane=lane)

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
        chosen = listed(rules)
        with self._step(WRITE):
            due = self._run("due_lanes", now=now, rules=chosen, limit=MAX_CLAIMS)
            for (lane,) in due.fetchall():
                self._wake(lane, now)
            limit = bounded(limit, MAX_CLAIMS)
            ready = self._run("ready_lanes", rules=chosen, limit=limit).fetchall()
            return [self._lease(lane, owner, lease, now) for (lane,) in ready]

    def _wake(self, lane: int, now: float) -> None:
        """A delay or a lease is over."""
        first = self._rows("first_open", lane=lane)[0]
        if first["state"] == State.RUNNING:
            item = delivery(self._rows("delivery", id=first["id"])[0])
            self._end(lane, item, lost(item, now), now)
        else:
            self._queue(lane)

    def _lease(self, lane: int, owner: str, lease: float, now: float) -> Claim:
        first = self._rows("first_open", lane=lane)[0]
        fence = self._value("next_fence", micros=math.floor(now * 1e6))
        self._run("lease", number=first["number"], fence=fence, owner=owner, now=now)
        self._run("settle_lane", lane=lane, due=now + lease)
        item = delivery(self._rows("delivery", id=first["id"])[0])
        return Claim(item, fence, item.attempts + 1)

    def extend(self, delivery_id: str, fence: int, lease: float, now: float) -> bool:
        """See Store."""
        with self._step(WRITE):
            return self._run("extend", id=delivery_id, fence=fence, until=now + lease).rowcount == 1

    def finish(self, delivery_id: str, fence: int, finish: Finish, now: float) -> bool:
        """See Store."""
        with self._step(WRITE):
            rows = self._rows("held_by", id=delivery_id, fence=fence)
            if not rows:
                return self._was_finished(delivery_id, fence, finish)
            lane = rows[0]["lane"]
            self._end(lane, delivery(rows[0]), finish, now)
            return True

    def _was_finished(self, delivery_id: str, fence: int, finish: Finish) -> bool:
        rows = self._rows("receipt", id=delivery_id, fence=fence)
        return bool(rows) and receipt(delivery_id, rows[0]).outcome == finish.outcome

    def _end(self, lane: int, item: Delivery, finish: Finish, now: float) -> None:
        self._run(
            "add_receipt",
            delivery=item.number,
            fence=item.fence,
            attempt=item.attempts + 1,
            owner=item.owner,
            counted=finish.counted,
            **asdict(finish.outcome),
        )
        self._run(
            "end",
            number=item.number,
            state=finish.state,
            counted=finish.counted,
            lost=finish.outcome.verdict == "lost",
            reason=finish.outcome.reason,
            ended=None if finish.state in OPEN else now,
        )
        self._settle(lane, finish.retry_at)

    def next_due(self, *, rules: Collection[str] | None = None) -> float | None:
        """See Store."""
        chosen = listed(rules)
        with self._step():
            if self._value("any_ready", rules=chosen):
                return 0.0
            due: float | None = self._value("first_due", rules=chosen)
            return due

    def release_leases(self, now: float, owner: str | None = None) -> int:
        """See Store."""
        with self._step(WRITE):
            rows = self._rows("running", owner=owner)
            for row in rows:
                lane, item = row["lane"], delivery(row)
                self._end(lane, item, lost(item, now), now)
            return len(rows)


_NAMES = [each.name for each in dataclass_fields(Incoming)]
_values = attrgetter(*_NAMES)


def _columns(record: Incoming) -> dict[str, object]:
    """The row of an event; asdict copies every value, which a long catch-up feels."""
    return dict(zip(_NAMES, _values(record), strict=True))
