"""Opening a SQLite store: modes, settings, the lock of its daemon, and what its errors mean.

One process writes, over one connection: SQLite before 3.51.3 can damage a WAL database when two
connections write and checkpoint in a rare interleaving. Others open the file read-only.

    ci.db           the database, mode 0600; -wal and -shm beside it are SQLite's
    ci.db.lock      flock of the daemon that writes; its pid, and the name under which it claims
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from hgext_zmqhooks.service.access import me, obstacle, remedy, rights

from . import migrate
from .errors import NoStore, StoreError

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor

BUSY_SECONDS = 10.0
"""How long a step waits for another process's step; none is expected but an operator's shell."""

HANDOVER_SECONDS = 2.0
"""How long the lock of a holder that is dead may still be held by a child of it."""

WAL_LIMIT = 64 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back after a checkpoint."""

_SAVE = (
    "with the daemon stopped keep a copy, then restore a backup, or save what can be read:"
    " sqlite3 FILE .recover | sqlite3 FILE.new, and put FILE.new in its place"
)

_MEANINGS = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "free some space; nothing is lost, and work goes on by itself",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "run this as its owner; chmod u+w FILE if its mode forbids it; is the disk mounted ro?",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "check that the folder exists and that this user may read and write there",
    ),
    sqlite3.SQLITE_PERM: ("access was denied", "check owner and mode of the file and its folder"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _SAVE),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database",
        "check the `store` setting, or " + _SAVE,
    ),
    sqlite3.SQLITE_IOERR: ("the disk could not be read or written", "look at the system's log"),
    sqlite3.SQLITE_BUSY: (
        "another process keeps it locked",
        "end other programs that write to it; `fuser FILE` names them",
    ),
}


@contextmanager
def mapped(file: str) -> Iterator[None]:
    """Turn what sqlite3 raises into StoreError: file, reason, hint."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        reason, hint = _MEANINGS.get(-1 if code is None else code & 0xFF, ("it failed", ""))
        if code is not None and code & 0xFF == sqlite3.SQLITE_READONLY and Path(file).exists():
            reason = f"it ({rights(file)}) cannot be written by {me()}"
        raise StoreError(file, f"{reason} ({error})", hint.replace("FILE", file)) from error


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Lock:
    """The right to write to a store, held by one process until it ends or closes it.

    The file stays: removing it would let two processes hold a lock on two files of one name.
    `path`: the file. `former`: the name that was signed last, by whoever had it before.
    """

    def __init__(self, path: Path) -> None:
        """StoreError, naming the holder's pid, when another process has it."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            reason = obstacle(path, os.W_OK, make=True) or error.strerror
            raise StoreError(str(path), f"cannot be opened: {reason}", _hint(path)) from error
        holder = self._take()
        if holder is not None:
            os.close(self._fd)
            raise StoreError(
                str(path.with_suffix("")),
                f"in use by process {holder or 'unknown'}",
                "one daemon per store: stop that one, or give this one a name and store of its own",
            )
        self.former = _line(self._fd, 1)
        self.sign(self.former)

    def sign(self, name: str) -> None:
        """Leave a name to whoever has the lock next."""
        text = f"{os.getpid()}\n{name}\n".encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    def _take(self) -> str | None:
        """Lock the file; returns who has it if that is not possible.

        A daemon that is killed while it starts a command leaves a child that has not become the
        command yet: it shares the lock for some milliseconds. A dead holder is waited for.
        """
        end = time.monotonic() + HANDOVER_SECONDS
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                holder = _line(self._fd, 0)
            if _is_alive(holder) or time.monotonic() >= end:
                return holder
            time.sleep(0.01)

    def close(self) -> None:
        """Give the right back. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def lock_path(path: Path) -> Path:
    """Where the lock of a store is."""
    return path.with_name(path.name + ".lock")


def holder(path: Path) -> str | None:
    """The pid of the process that has a store open for writing, None if there is none."""
    try:
        fd = os.open(lock_path(path), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _line(fd, 0)
    finally:
        os.close(fd)
    return None


def _line(fd: int, number: int) -> str:
    """A line of the lock file, empty if there is none: 0 its holder's pid, 1 a name."""
    lines = os.pread(fd, 4096, 0).decode("utf-8", "replace").split("\n")
    return lines[number].strip() if number < len(lines) else ""


def open_writer(path: Path) -> Connection:
    """The writing connection, its schema made or brought up to date. The caller holds the lock."""
    with mapped(str(path)):
        _create(path)
        db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _set_up(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _create(path: Path) -> None:
    """Make the file ourselves, so that nobody else can read it even for a moment."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        reason = obstacle(path, os.W_OK, make=True) or error.strerror
        raise StoreError(str(path), f"cannot be opened: {reason}", _hint(path)) from error


def _hint(path: Path) -> str:
    return f"all in the store's folder must be this user's, and writable: {remedy(path)}"


def _set_up(db: Connection, path: Path) -> None:
    mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        hint = "put the store on a local file system"
        raise StoreError(str(path), "its file system cannot do write-ahead logging", hint)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    # Else what a statement may have to undo goes to a temporary file, once it was long.
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    _check_version(db, path)
    update(db)


def update(db: Connection) -> None:
    """Bring the schema to the newest version."""
    for script in migrate.steps(version(db)):
        db.executescript(script)


def version(db: Connection) -> int:
    """Version of the schema; 0: an empty database."""
    number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def open_reader(path: Path) -> Connection:
    """A connection that cannot write; usable while a daemon writes."""
    closed = obstacle(path, os.R_OK)
    if closed and closed.endswith("does not exist"):
        raise NoStore(str(path))
    if closed:
        raise StoreError(str(path), closed, "run this as the user of the daemon")
    with mapped(str(path)):
        db = _connect(path)
        try:
            _check_version(db, path, oldest=migrate.VERSION)
        except BaseException:
            db.close()
            raise
    return db


def peek(path: Path) -> Connection | None:
    """A connection to a store that need not be there; None if it has nothing of this version yet.

    StoreError if the daemon could not use it. Nothing is changed.
    """
    db = sound(path)
    if db is None:
        return None
    try:
        _check_version(db, path)
        if version(db) == migrate.VERSION:
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


def sound(path: Path) -> Connection | None:
    """A connection to a database, None if nothing is there yet. StoreError if it is none.

    Nothing is changed: where it was closed properly, and so has no log beside it, SQLite is told
    that nobody writes and makes none.
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return None
    if not path.is_file():
        raise StoreError(str(path), "it is not a file", "name a file, which the daemon makes")
    closed = not path.with_name(path.name + "-wal").exists()
    with mapped(str(path)):
        db = _connect(path, "&immutable=1" if closed else "")
        try:
            db.execute("SELECT count(*) FROM sqlite_master")
        except BaseException:
            db.close()
            raise
    return db


def _connect(path: Path, more: str = "") -> Connection:
    """A connection that cannot write."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{more}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _check_version(db: Connection, path: Path, oldest: int = 0) -> None:
    found = version(db)
    if found > migrate.VERSION:
        raise StoreError(
            str(path),
            f"it has version {found}, this program knows up to {migrate.VERSION}",
            "use the version of zmq-subscriber that wrote it, or a newer one",
        )
    if found < oldest:
        hint = "start the daemon once: it brings the store up to date"
        raise StoreError(str(path), "it was written by an older version", hint)
