"""What a store costs: its rates, next to what its own machinery does with the same bytes.

    PYTHONPATH=tests python -m bench.store_rates [--rounds N] [--items N] [--kept N] [--folder DIR]

For each store the same work is done twice in every round, part by part in turns: by the store, and
*raw*, which writes the same values of the same rows in as many transactions by the plain library,
and does nothing else: no lanes, no order, no fences, no search for what is to be done next. Its
tables have the keys by which a duplicate is found, and no other index.

    accept, one by one       an event of one delivery and the journal's position, in one transaction
    accept, 100 at once      the same a hundred times in one transaction
    claim + finish           one delivery: a transaction for the claim and one for its receipt
    claim 100 + finish       a claim of a hundred in one transaction, a receipt in one of its own

Then claims and receipts once more in a store that keeps many receipts, and in an empty one. Both
are of one process and one folder, so that whatever else the machine does hits both alike.

It ends with status 1 if a store reaches less than half of its raw rate, or if what is kept slows
claims and receipts by more than a tenth.
"""

import argparse
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from storekit import DONE, batch, delivery, record

from subscriber.store.base import Batch, Incoming, NewDelivery, Store
from subscriber.store.sqlite import SqliteStore

ROUNDS = 7
ITEMS = 400
KEPT = 1_000_000
BATCH = 100
TURN = 20
"""How many of a round's items are done before the other side has its turn."""
BRANCHES = 200
LEAST_SHARE = 0.5
MOST_SLOWER = 0.1
BODY = b"e" * 700
NOW = 2_000_000_000.0

T = TypeVar("T")
Item = tuple[Incoming, NewDelivery]
Pairs = dict[str, list[tuple[float, float]]]
"""By kind of work, the rates of each round: of the store, and of what it is compared with."""


def items(first: int, number: int, body: bytes = BODY) -> list[Item]:
    """Events of one journal over many branches, each with a delivery."""
    made = []
    for sequence in range(first, first + number):
        branch = f"branch-{sequence % BRANCHES}"
        text = body + b"%d" % sequence
        event = record(sequence, branch=branch, body=text, nodes=(f"{sequence:040x}",))
        made.append((event, delivery(sequence, branch=branch, id=f"{sequence:064x}")))
    return made


class Raw(ABC):
    """The plain library. Each call is one transaction."""

    @abstractmethod
    def accept(self, new: Sequence[Item]) -> None: ...

    @abstractmethod
    def claim(self, names: Sequence[str]) -> None: ...

    @abstractmethod
    def finish(self, name: str) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class Kind(ABC):
    """A kind of store: another one is measured by another class."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """What it is made of."""

    @abstractmethod
    def store(self, folder: Path) -> Store:
        """An empty one."""

    @abstractmethod
    def raw(self, folder: Path) -> Raw:
        """An empty one."""

    @abstractmethod
    def keep(self, store: Store, kept: int) -> None:
        """Fill an empty store with deliveries that are done, with events and receipts."""


class RawSqlite(Raw):
    """Rows of the same values, by the module `sqlite3`."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(
            """
            CREATE TABLE event (journal, sequence, sha256, repo, branch, topic, event_id, type,
                "transaction", part, parts, event, signature, certificate, received, held, nodes,
                PRIMARY KEY (journal, sequence));
            CREATE TABLE delivery (id PRIMARY KEY, rule, order_key, repo, branch, topic, journal,
                event_id, first, last, node, user, created, latest, state, fence, owner, claimed,
                lease_until, attempts, reason, ended);
            CREATE TABLE journal (journal PRIMARY KEY, scanned);
            CREATE TABLE receipt (delivery, fence, attempt, owner, started, ended, verdict, reason,
                exit_status, signal, output, truncated, counted, PRIMARY KEY (delivery, fence));
            INSERT INTO journal VALUES ('', 0);
            """
        )

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("COMMIT")

    def accept(self, new: Sequence[Item]) -> None:
        with self._step():
            events = ([*_values(event)[:-1], " ".join(event.nodes)] for event, _ in new)
            self._db.executemany(f"INSERT INTO event VALUES ({'?, ' * 16}?)", events)
            made = ([*_values(item), "pending"] for _, item in new)
            names = "id, rule, order_key, repo, branch, topic, journal, event_id, first, last,"
            names += " node, user, created, latest, state"
            self._db.executemany(
                f"INSERT INTO delivery ({names}) VALUES ({'?, ' * 14}?)",
                made,
            )
            self._db.execute("UPDATE journal SET scanned = ?", (new[-1][0].sequence,))

    def claim(self, names: Sequence[str]) -> None:
        with self._step():
            self._db.executemany(
                "UPDATE delivery SET state = 'running', fence = ?, owner = 'ci/1', claimed = ?,"
                " lease_until = ? WHERE id = ?",
                [(int(NOW * 1e6), NOW, NOW + 60, name) for name in names],
            )

    def finish(self, name: str) -> None:
        with self._step():
            self._db.execute(
                "UPDATE delivery SET state = 'done', attempts = 1, owner = NULL, claimed = NULL,"
                " lease_until = NULL, reason = '', ended = ? WHERE id = ?",
                (NOW, name),
            )
            self._db.execute(
                "INSERT INTO receipt SELECT rowid, fence, 1, 'ci/1', 1.0, 2.0, 'done', '', NULL,"
                " NULL, x'', 0, 1 FROM delivery WHERE id = ?",
                (name,),
            )

    def close(self) -> None:
        self._db.close()


def _values(value: Incoming | NewDelivery) -> list[object]:
    return [getattr(value, name) for name in value.__slots__]


class Sqlite(Kind):
    """The store of one daemon."""

    name = "SQLite, synchronous=FULL"

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def store(self, folder: Path) -> Store:
        return SqliteStore.open(folder / "store.db")

    def raw(self, folder: Path) -> Raw:
        return RawSqlite(folder / "raw.db")

    def keep(self, store: Store, kept: int) -> None:
        """Copies of one, as a million cannot be made one by one in a bench."""
        assert isinstance(store, SqliteStore)
        accept(store, items(1, 1, b"kept"))
        run(store, 1)
        for table, changed in (
            ("event", {"number": "n", "sequence": "n", "event_id": "journal || '/' || n"}),
            ("delivery", {"number": "n", "id": "'old-' || n", "first": "n", "last": "n"}),
            ("receipt", {"delivery": "n"}),
        ):
            names = [row[1] for row in store._db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(changed.get(name, f'"{name}"') for name in names)
            store._db.execute(
                "WITH RECURSIVE one (n) AS (VALUES (2) UNION ALL SELECT n + 1 FROM one"
                f" WHERE n < {kept}) INSERT INTO {table} SELECT {values} FROM one, {table}"
                f" WHERE {table}.{names[0] if table != 'event' else 'number'} = 1"
            )
        store._db.execute("UPDATE journal SET scanned = ?, head = ?", (kept, kept))
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


KINDS: tuple[Kind, ...] = (Sqlite(),)


def sliced(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def batches(new: Sequence[Item], size: int) -> list[Batch]:
    """What the intake hands over, made before anybody looks at the clock."""
    made = []
    for part in sliced(new, size):
        events, deliveries = zip(*part, strict=True)
        last = events[-1].sequence
        expected = events[0].sequence - 1 or None
        made.append(batch(last, expected, records=events, deliveries=deliveries))
    return made


def accept(store: Store, new: Sequence[Item], size: int = BATCH) -> None:
    for each in batches(new, size):
        store.accept(each)


def run(store: Store, number: int, at_once: int = 1) -> None:
    """Claim and finish so many deliveries."""
    done = 0
    while done < number:
        claims = store.claim("ci/1", 60.0, min(at_once, number - done), NOW)
        assert claims, f"{number - done} are left and nothing is ready"
        for claim in claims:
            assert store.finish(claim.delivery.id, claim.fence, DONE, NOW)
        done += len(claims)


def run_raw(raw: Raw, names: Sequence[str], at_once: int = 1) -> None:
    for part in sliced(names, at_once):
        raw.claim(part)
        for name in part:
            raw.finish(name)


def in_turns(
    ours: Sequence[Callable[[], object]], theirs: Sequence[Callable[[], object]], number: int
) -> tuple[float, float]:
    """How many a second each side does, whose parts of the work take turns."""
    spent = [0.0, 0.0]
    for turn, parts in enumerate(zip(ours, theirs, strict=True)):
        for side in (turn % 2, 1 - turn % 2):
            start = time.perf_counter()
            parts[side]()
            spent[side] += time.perf_counter() - start
    return number / spent[0], number / spent[1]


def against_raw(kind: Kind, folder: Path, rounds: int, number: int) -> Pairs:
    """The work of every round, by the store and raw."""
    store, raw = kind.store(folder), kind.raw(folder)
    found: Pairs = {}
    for turn in range(2 * rounds):
        size = (1, BATCH)[turn % 2]
        new = items(turn * number + 1, number)
        parts = sliced(new, max(size, TURN))
        accepting = "accept, one by one" if size == 1 else f"accept, {BATCH} at once"
        rates = in_turns(
            [partial(_each, store.accept, batches(part, size)) for part in parts],
            [partial(_each, raw.accept, sliced(part, size)) for part in parts],
            number,
        )
        found.setdefault(accepting, []).append(rates)
        claiming = "claim + finish" if size == 1 else f"claim {BATCH} + finish"
        rates = in_turns(
            [partial(run, store, len(part), size) for part in parts],
            [partial(run_raw, raw, [item.id for _, item in part], size) for part in parts],
            number,
        )
        found.setdefault(claiming, []).append(rates)
    store.close()
    raw.close()
    return found


def _each(call: Callable[[Any], object], values: Sequence[object]) -> None:
    for value in values:
        call(value)


def against_empty(kind: Kind, folder: Path, rounds: int, number: int, kept: int) -> Pairs:
    """Claims and receipts of a store that keeps many, and of an empty one."""
    (folder / "full").mkdir()
    (folder / "empty").mkdir()
    full, empty = kind.store(folder / "full"), kind.store(folder / "empty")
    kind.keep(full, kept)
    pairs = []
    for turn in range(rounds):
        accept(full, items(kept + turn * number + 1, number))
        accept(empty, items(turn * number + 1, number))
        parts = [len(part) for part in sliced(range(number), TURN)]
        pairs.append(
            in_turns(
                [partial(run, full, part) for part in parts],
                [partial(run, empty, part) for part in parts],
                number,
            )
        )
    full.close()
    empty.close()
    return {f"claim + finish, {kept:,} kept": pairs}


def share(pairs: Sequence[tuple[float, float]]) -> float:
    """The median of what each round reached of what it is compared with."""
    return statistics.median(ours / theirs for ours, theirs in pairs)


def table(kind: Kind, raw: Pairs, kept: Pairs) -> str:
    """The medians, a row for each kind of work."""
    form = "{:<36}{:>12}{:>16}{:>8}"
    system = f"{platform.system()}, Python {platform.python_version()}, {kind.version()}"
    rows = [f"{kind.name}: {datetime.now(UTC):%Y-%m-%d}, {system}; each per second"]
    for title, pairs in (("raw", raw), ("an empty store", kept)):
        rows.append(form.format("", "the store", title, "share"))
        for what, found in pairs.items():
            ours, theirs = (statistics.median(side) for side in zip(*found, strict=True))
            rows.append(form.format(what, f"{ours:,.0f}", f"{theirs:,.0f}", f"{share(found):.0%}"))
    return "\n".join(rows)


def is_enough(raw: Pairs, kept: Pairs) -> bool:
    return all(share(pairs) >= LEAST_SHARE for pairs in raw.values()) and all(
        share(pairs) >= 1 - MOST_SLOWER for pairs in kept.values()
    )


def main(kinds: Sequence[Kind] = KINDS) -> int:
    parser = argparse.ArgumentParser(description="What a store costs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--kept", type=int, default=KEPT)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    given = parser.parse_args()
    enough = True
    for kind in kinds:
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            raw = against_raw(kind, Path(name), given.rounds, given.items)
            kept = against_empty(kind, Path(name), given.rounds, given.items, given.kept)
        print(table(kind, raw, kept))
        enough &= is_enough(raw, kept)
    print(f"at least {LEAST_SHARE:.0%} of raw, and {1 - MOST_SLOWER:.0%} of an empty store")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
