"""Who follows this relay, and how far each one is: a small SQLite file.

Everything is first kept in memory and written at most once a second, so that a slow disk does not
make a push wait; what a crash loses is acknowledged again by the subscribers.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..service.access import obstacle
from ..service.errors import ServiceError, Unreachable

VERSION = 1
FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """How far a subscriber is in one journal, as `status` reads it.

    `failed`: when its last session ended without a goodbye (unix seconds), and `error`: why.
    """

    name: str
    store: str
    seen: float
    journal: str
    repo: str
    sequence: int
    failed: float | None = None
    error: str = ""


class State:
    """The relay's own view of the file; one thread uses it.

    Raises ServiceError when the file cannot be opened or is not one of ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Ours before SQLite makes it: names of repositories and who reads them are in it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from None
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._open()
        except sqlite3.Error as error:
            raise _unusable(path, error) from None
        self._stores: dict[str, str] = dict(self._db.execute("SELECT name, store FROM subscriber"))
        self._heard: dict[str, float] = dict(self._db.execute("SELECT name, seen FROM subscriber"))
        self._reached: dict[str, dict[str, int]] = {}
        for name, journal, sequence in self._db.execute(
            "SELECT name, journal, sequence FROM position"
        ):
            self._reached.setdefault(journal, {})[name] = sequence
        # What is not written yet.
        self._seen: dict[str, float] = {}
        self._positions: dict[tuple[str, str], tuple[str, int]] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def _open(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ServiceError(
                f"{self._path}: written by a newer version of zmqhooks",
                hint="run that version, or let `state` name another file",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            script = resources.files(__package__).joinpath("state.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN;\n{script}\nCOMMIT;")

    def store_of(self, name: str) -> str | None:
        """The store that a name belongs to, once it has been seen."""
        return self._stores.get(name)

    def bind(self, name: str, store: str, now: float) -> None:
        """From now on the name belongs to this store. `now`: unix seconds."""
        self._stores[name] = store
        self.seen(name, now)

    def seen(self, name: str, now: float) -> None:
        """The subscriber said something."""
        self._heard[name] = self._seen[name] = now

    def failed(self, name: str, now: float, error: str) -> None:
        """A session of the subscriber ended without a goodbye."""
        self._failed[name] = now, error

    def position(self, name: str, journal: str, repo: str, sequence: int) -> None:
        """The subscriber has stored everything up to `sequence`."""
        self._positions[(name, journal)] = (repo, sequence)
        self._reached.setdefault(journal, {})[name] = sequence

    def reached(self, journal: str) -> dict[str, int]:
        """How far each subscriber is that ever followed a journal. Reads no file."""
        return dict(self._reached.get(journal, {}))

    def heard(self, name: str) -> float:
        """When a subscriber was last heard (unix seconds), 0 if never. Reads no file."""
        return self._heard.get(name, 0.0)

    def flush(self) -> None:
        """Write what changed, in one transaction. Raises ServiceError."""
        if not self._seen and not self._positions and not self._failed:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO subscriber (name, store, seen) VALUES (?, ?, ?) ON CONFLICT (name)"
                " DO UPDATE SET store = excluded.store, seen = excluded.seen",
                [(name, self._stores[name], seen) for name, seen in self._seen.items()],
            )
            self._db.executemany(
                "INSERT INTO position (name, journal, repo, sequence) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name, journal)"
                " DO UPDATE SET repo = excluded.repo, sequence = excluded.sequence",
                [(*key, *value) for key, value in self._positions.items()],
            )
            self._db.executemany(
                "UPDATE subscriber SET failed = ?, error = ? WHERE name = ?",
                [(*value, name) for name, value in self._failed.items()],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise _unusable(self._path, error) from None
        self._seen.clear()
        self._positions.clear()
        self._failed.clear()

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            self.flush()
        finally:
            self._db.close()


def read(path: Path) -> Iterator[Row]:
    """All rows, without writing to the file. Raises Unreachable when there is none."""
    closed = obstacle(path, os.R_OK)
    if closed and closed.endswith("does not exist"):
        raise Unreachable(
            f"{path}: no relay has run with this `state` yet",
            hint="start zmq-relay, or the zmq-subscriber it is inside of",
        )
    if closed:
        raise ServiceError(f"{path}: {closed}", hint="run this as the user of the daemon")
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            rows = db.execute(
                "SELECT s.name, s.store, s.seen, p.journal, p.repo, p.sequence, s.failed, s.error"
                " FROM subscriber AS s JOIN position AS p USING (name)"
                " ORDER BY s.name, p.repo, p.journal"
            ).fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None
    yield from (Row(*row) for row in rows)


def _unusable(path: Path, error: sqlite3.Error | str) -> ServiceError:
    return ServiceError(
        f"{path}: the relay's state cannot be used: {error}",
        hint="`state` must name a file in a folder that this user may write; the file may be"
        " moved away, subscribers keep their own positions",
    )
