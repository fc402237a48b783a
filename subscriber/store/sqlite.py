"""The store of one daemon: a SQLite file.

    SqliteStore.open(Path("/var/lib/zmqhooks/ci.db"))      the daemon; takes the store's lock
    SqliteReader.open(path)                                everybody else; cannot write

Each method of the contract is one transaction, begun with BEGIN IMMEDIATE and on disk
(synchronous=FULL) when the method returns. The tables are in schema.sql, the statements in
queries.sql.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from .base import OPEN, Paused, State, Store
from .clock import steady_clock
from .connection import Connection, Lock, lock_path, open_writer
from .sqlite_claims import SqliteClaims
from .sqlite_intake import SqliteIntake
from .sqlite_lanes import WRITE
from .sqlite_reader import Row, SqliteReader, each_row

__all__ = ["SqliteReader", "SqliteStore"]


class SqliteStore(SqliteIntake, SqliteClaims, Store):
    """The contract, held in one file by one process."""

    def __init__(self, path: Path, db: Connection, lock: Lock) -> None:
        super().__init__(path, db)
        self._daemon = lock
        self._clock = steady_clock()
        with self._step(WRITE):
            self._run("add_store", identity=uuid.uuid4().hex)
            self._wait_anew(self._clock())

    def _wait_anew(self, now: float) -> None:
        """What waits since a time that has not come yet: the clock was set back while nobody ran.

        It waits as long as it was told to, from now on, and not until the clock is there again.
        """
        for rule, order_key in self._run("wait_anew", now=now).fetchall():
            self._settle(rule, order_key, now)

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

    def now(self) -> float:
        """See Store."""
        return self._clock()

    # What operators do

    def redeliver(self, ids: Sequence[str], now: float) -> list[str]:
        """See Store."""
        with self._step(WRITE):
            return self._settled([row for name in ids for row in self._redeliver(name, now)], now)

    def _settled(self, rows: list[Row], now: float) -> list[str]:
        """Their ids; their lanes are settled, each once."""
        for rule, order_key in {(row["rule"], row["order_key"]): None for row in rows}:
            self._settle(rule, order_key, now)
        return [row["id"] for row in rows]

    def _redeliver(self, name: str, now: float) -> list[Row]:
        """The delivery as it was, if it runs again."""
        rows = self._rows("delivery", id=name)
        if not rows or rows[0]["state"] in OPEN - {State.RETRYING}:
            return []
        if rows[0]["state"] == State.RETRYING:
            self._run("hasten", number=rows[0]["number"], now=now)
        else:
            self._run("reopen", number=rows[0]["number"])
            self._run("hold_delivery", id=name)
        return rows

    def bury(self, ids: Sequence[str], reason: str, now: float) -> list[str]:
        """See Store."""
        with self._step(WRITE):
            gone = [row for name in ids for row in self._bury(name, reason, now)]
            return self._settled(gone, now)

    def _bury(self, name: str, reason: str, now: float) -> list[Row]:
        """The delivery as it was, if it is given up."""
        rows = self._rows("delivery", id=name)
        if not rows or rows[0]["state"] not in OPEN - {State.RUNNING}:
            return []
        self._end_as(rows[0]["number"], State.DEAD, reason, now)
        return rows

    def pause(self, paused: Paused) -> bool:
        """See Store."""
        with self._step(WRITE):
            return self._run("pause", **asdict(paused)).rowcount == 1

    def resume(self, rule: str) -> bool:
        """See Store."""
        with self._step(WRITE):
            return self._run("resume", rule=rule).rowcount == 1

    # Upkeep

    def prune(self, before: float, limit: int) -> int:
        """See Store."""
        with self._step(WRITE):
            old = self._rows("old_deliveries", before=before, limit=max(0, limit))
            self._run_many("forget_receipts", old)
            self._run_many("forget_delivery", old)
            events = 0
            for row in self._rows("journals"):
                left = limit - len(old) - events
                events += self._prune_journal(row["journal"], before, left)
            if events:
                self._run("forget_certificates")
            return len(old) + events

    def _prune_journal(self, journal: str, before: float, limit: int) -> int:
        """Forget events up to the first one that is needed; how many."""
        if limit <= 0:
            return 0
        part = self._value("first_part", journal=journal)
        gone = []
        for row in each_row(self._run("oldest_events", journal=journal, limit=limit)):
            is_needed = row["needed"] or (part is not None and row["sequence"] >= part)
            if is_needed or row["held"] or row["received"] >= before:
                break
            gone.append(row)
        if gone:
            self._run("set_pruned", journal=journal, sequence=gone[-1]["sequence"])
        nodes = (
            {"node": node, "event": row["number"]} for row in gone for node in row["nodes"].split()
        )
        self._run_many("forget_node", nodes)
        self._run_many("forget_event", ({"number": row["number"]} for row in gone))
        for sha256, number in Counter(row["certificate"] for row in gone).items():
            self._run("count_events", sha256=sha256, count=-number)
        return len(gone)

    def lease_journals(
        self,
        instance: str,
        journals: Collection[str],
        lease: float,
        now: float,
        scope: str | None = None,
    ) -> frozenset[str]:
        """See Store."""
        with self._step(WRITE):
            if not self._reads(scope):
                self._run("yield_journals", instance=instance)
                return frozenset()
            until = {"instance": instance, "until": now + lease, "now": now}
            self._run_many("follow_journal", ({"journal": name, **until} for name in journals))
            rows = self._run("followed", instance=instance, now=now)
            return frozenset(journal for (journal,) in rows)

    def yield_journals(self, instance: str) -> None:
        """See Store."""
        with self._step(WRITE):
            self._run("yield_journals", instance=instance)
