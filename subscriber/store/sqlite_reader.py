"""Asking a SQLite store: for the command line while a daemon writes, and for the daemon itself."""

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from . import migrate
from .base import (
    MAX_LIST,
    MIN_NODE,
    OPEN,
    Contact,
    Decision,
    Delivery,
    Held,
    Incoming,
    JournalRow,
    Link,
    Outcome,
    Paused,
    Reader,
    Receipt,
    State,
    Status,
    StoredEvent,
    StoreError,
    Wanted,
)
from .connection import Connection, Cursor, mapped, open_reader

Row = dict[str, Any]


class SqliteReader(Reader):
    """The questions of the contract, over one connection that several threads may share."""

    def __init__(self, path: Path, db: Connection) -> None:
        self._file = str(path)
        self._db = db
        self._lock = threading.RLock()
        self._sql = migrate.queries()
        self._closed = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing store read-only; StoreError when there is none."""
        return cls(path, open_reader(path))

    # How statements are run

    @contextlib.contextmanager
    def _step(self, begin: str = "BEGIN") -> Iterator[None]:
        """One transaction; an exception undoes it."""
        with self._lock, mapped(self._file):
            if self._closed:
                raise StoreError(self._file, "it is closed")
            self._undo()
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # What went wrong first is what counts. A failed undoing is made up for by the
                # next step, which begins with one.
                with contextlib.suppress(StoreError), mapped(self._file):
                    self._undo()
                raise

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _run(self, name: str, **values: object) -> Cursor:
        return self._db.execute(self._sql[name], values)

    def _run_many(self, name: str, rows: Iterable[Row | tuple[object, ...]]) -> None:
        self._db.executemany(self._sql[name], rows)

    def _rows(self, name: str, **values: object) -> list[Row]:
        return _table(self._run(name, **values))

    def _value(self, name: str, **values: object) -> Any:
        """First column of the first row, None without a row."""
        rows = self._run(name, **values).fetchall()
        return rows[0][0] if rows else None

    # The questions

    def identity(self) -> str:
        """See Reader."""
        with self._step():
            return str(self._value("identity"))

    def journals(self) -> list[JournalRow]:
        """See Reader."""
        with self._step():
            return [JournalRow(**row) for row in self._rows("journals")]

    def first_contact(self, relay: str) -> bool:
        """See Reader."""
        with self._step():
            return self._value("relay", relay=relay) is None

    def contacts(self) -> list[Contact]:
        """See Reader."""
        with self._step():
            return [Contact(**row) for row in self._rows("contacts")]

    def held(self) -> list[Held]:
        """See Reader."""
        with self._step():
            return [Held(**row) for row in self._rows("held")]

    def decisions(self, journal: str) -> list[Decision]:
        """See Reader."""
        with self._step():
            return [Decision(**row) for row in self._rows("decisions", journal=journal)]

    def chain(self, journal: str) -> dict[str, Link]:
        """See Reader."""
        with self._step():
            rows = self._run("chain", journal=journal)
            return {branch: Link(sequence, sha256) for branch, sequence, sha256 in rows}

    def record_digest(self, journal: str, sequence: int) -> str | None:
        """See Reader."""
        with self._step():
            digest: str | None = self._value("digest", journal=journal, sequence=sequence)
            return digest

    def parts(self, journal: str, branch: str, first: int, last: int) -> list[bytes]:
        """See Reader."""
        with self._step():
            rows = self._run("parts", journal=journal, branch=branch, first=first, last=last)
            return [row[0] for row in rows]

    def certificate(self, sha256: str) -> bytes | None:
        """See Reader."""
        with self._step():
            token: bytes | None = self._value("certificate", sha256=sha256)
            return token

    def event(self, journal: str, sequence: int) -> StoredEvent | None:
        """See Reader."""
        with self._step():
            rows = self._rows("event", journal=journal, sequence=sequence)
            return _event(rows[0]) if rows else None

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """See Reader."""
        with self._step():
            rows = self._rows("events", after=after, limit=bounded(limit, MAX_LIST))
            return [_event(row) for row in rows]

    def trace(self, node: str, limit: int) -> list[StoredEvent]:
        """See Reader."""
        if len(node) < MIN_NODE:
            raise ValueError(f"{node!r} is shorter than {MIN_NODE} digits")
        with self._step():
            rows = self._rows("trace", node=node, limit=bounded(limit, MAX_LIST))
            return [_event(row) for row in rows]

    def newest_event(self) -> int:
        """See Reader."""
        with self._step():
            return int(self._value("newest_event"))

    def delivery(self, delivery_id: str) -> Delivery | None:
        """See Reader."""
        with self._step():
            rows = self._rows("delivery", id=delivery_id)
            return delivery(rows[0]) if rows else None

    def deliveries(self, wanted: Wanted, limit: int, *, newest: bool = False) -> list[Delivery]:
        """See Reader."""
        sql = self._sql["newest_deliveries" if newest else "deliveries"]
        count, rows = bounded(limit, MAX_LIST), list[Row]()
        with self._step():
            # Those of one state are in order in an index, whatever else there is.
            for state in [None] if wanted.states is None else wanted.states:
                values = {**_conditions(wanted), "state": state, "limit": count}
                rows += _table(self._db.execute(_given(sql, values), values))
        rows.sort(key=itemgetter("number"), reverse=newest)
        found = [delivery(row) for row in rows[:count]]
        return found[::-1] if newest else found

    def receipts(self, delivery_id: str) -> list[Receipt]:
        """See Reader."""
        with self._step():
            rows = self._rows("receipts", id=delivery_id)
            return [receipt(delivery_id, row) for row in rows]

    def paused(self) -> list[Paused]:
        """See Reader."""
        with self._step():
            return [Paused(**row) for row in self._rows("paused")]

    def status(self) -> Status:
        """See Reader."""
        with self._step():
            counts = dict(self._run("status_deliveries"))
            totals = self._rows("status_events")[0]
            firsts = [row for state in OPEN for row in self._run("first_of_state", state=state)]
        return Status(
            deliveries={state: counts.get(state, 0) for state in State},
            oldest_open=min(firsts)[1] if firsts else None,
            **totals,
        )

    def close(self) -> None:
        """See Reader."""
        with self._lock, mapped(self._file):
            self._closed = True
            self._db.close()


def bounded(limit: int, most: int) -> int:
    """A limit as asked for, but within the contract's."""
    return max(0, min(limit, most))


def listed(names: Collection[str] | Collection[int] | None) -> str | None:
    """A list as a statement takes it."""
    return None if names is None else json.dumps(sorted(names))


def _table(cursor: Cursor) -> list[Row]:
    return list(each_row(cursor))


def each_row(cursor: Cursor) -> Iterator[Row]:
    """The rows, each found when it is asked for."""
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


def _conditions(wanted: Wanted) -> Row:
    """What a listing asks for, but the states."""
    values = {each.name: getattr(wanted, each.name) for each in fields(wanted)}
    return values | {"last": _sequence(wanted.event_id), "after": wanted.after or None}


def _given(sql: str, values: Row) -> str:
    """The statement without the lines that ask for what is None."""
    missing = {f":{name}" for name, value in values.items() if value is None}
    return "\n".join(line for line in sql.splitlines() if missing.isdisjoint(line.split()))


def _sequence(event_id: str | None) -> int | None:
    """By which the deliveries of an event are found; one that none has if this is no event's id."""
    if event_id is None:
        return None
    sequence = event_id.rpartition("/")[2]
    return int(sequence) if sequence.isdecimal() and len(sequence) < 19 else -1


def _event(row: Row) -> StoredEvent:
    number = row.pop("number")
    row["held"] = bool(row["held"])
    row["nodes"] = tuple(row["nodes"].split())
    return StoredEvent(number=number, record=Incoming(**row))


def delivery(row: Row) -> Delivery:
    """A delivery from its row."""
    row["state"] = State(row["state"])
    row["latest"] = bool(row["latest"])
    return Delivery(**row)


def receipt(delivery_id: str, row: Row) -> Receipt:
    """A receipt from its row."""
    return Receipt(
        delivery=delivery_id,
        fence=row["fence"],
        attempt=row["attempt"],
        owner=row["owner"],
        counted=bool(row["counted"]),
        outcome=Outcome(
            started=row["started"],
            ended=row["ended"],
            verdict=row["verdict"],
            reason=row["reason"],
            exit_status=row["exit_status"],
            signal=row["signal"],
            output=row["output"],
            truncated=bool(row["truncated"]),
        ),
    )
