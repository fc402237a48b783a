"""Opens the store that the settings name: a SQLite file of this host."""

from subscriber.settings import Settings
from subscriber.store.base import Reader, Store
from subscriber.store.connection import Lock, lock_path, peek
from subscriber.store.sqlite import SqliteStore
from subscriber.store.sqlite_reader import SqliteReader


def open_store(settings: Settings, lock: Lock | None = None) -> Store:
    """For who writes; `lock`: that of the daemon on this host, if it has it. StoreError."""
    own = lock is not None and lock.path == lock_path(settings.store)
    return SqliteStore.open(settings.store, lock if own else None)


def open_reader(settings: Settings) -> Reader:
    """For who looks, also while a daemon writes. StoreError."""
    return SqliteReader.open(settings.store)


def glance(settings: Settings) -> Reader | None:
    """For who looks at a store that need not be there yet; None if it is not. StoreError."""
    db = peek(settings.store)
    return None if db is None else SqliteReader(settings.store, db)
