"""Opens the store that the settings name: a SQLite file of this host, or a server.

What a server needs is imported only when there is one: who keeps everything in SQLite need not
have installed it.
"""

import logging
import time
from pathlib import Path

from hgext_zmqhooks.service.life import ROOT, Stop, fields
from subscriber.credentials import name_of
from subscriber.settings import Settings
from subscriber.store.base import Reader, Store, StoreError
from subscriber.store.connection import Lock, lock_path, peek
from subscriber.store.errors import NoStore
from subscriber.store.sqlite import SqliteStore
from subscriber.store.sqlite_reader import SqliteReader

PAUSE = 2.0
"""Seconds between two tries to reach a server."""
REMIND = 60.0
"""Seconds after which it is said again that we wait."""

log = logging.getLogger(f"{ROOT}.daemon")


def open_store(settings: Settings, lock: Lock | None = None) -> Store:
    """For who writes; `lock`: that of the daemon on this host, if it has it. StoreError."""
    place = settings.store
    if isinstance(place, Path):
        own = lock is not None and lock.path == lock_path(place)
        return SqliteStore.open(place, lock if own else None)
    from subscriber.store.redis import RedisStore  # noqa: PLC0415

    return RedisStore.open(place, name_of(settings))


def await_store(settings: Settings, lock: Lock, stop: Stop) -> Store | None:
    """For a daemon: waits for a server that cannot be used yet; None once `stop` is set.

    A file that cannot be used stays so until somebody does something: StoreError.
    """
    told, reason = 0.0, ""
    while not stop.is_set():
        try:
            store = open_store(settings, lock)
            for doubt in doubts(settings):
                log.warning("the server may lose work", extra=fields(reason=doubt))
            return store
        except StoreError as error:
            if isinstance(settings.store, Path):
                raise
            now = time.monotonic()
            if error.reason != reason or now - told >= REMIND:
                told, reason = now, error.reason
                said = fields(store=error.file, reason=error.reason, hint=error.hint)
                log.warning("waiting for the store", extra=said)
        stop.wait(PAUSE)
    return None


def doubts(settings: Settings) -> list[str]:
    """By what settings of its own a server may lose work. StoreError if it cannot be used."""
    place = settings.store
    if isinstance(place, Path):
        return []
    from hgext_zmqhooks.service.redis_client import connect  # noqa: PLC0415
    from subscriber.store.redis_server import check_server  # noqa: PLC0415

    client = connect(place, name="zmqhooks")
    try:
        return check_server(client, str(place))
    finally:
        client.close()


def open_reader(settings: Settings) -> Reader:
    """For who looks, also while daemons write. StoreError."""
    place = settings.store
    if isinstance(place, Path):
        return SqliteReader.open(place)
    from subscriber.store.redis import RedisReader  # noqa: PLC0415

    return RedisReader.open(place, name_of(settings))


def glance(settings: Settings) -> Reader | None:
    """For who looks at a store that need not be there yet; None if it is not. StoreError."""
    if isinstance(settings.store, Path):
        db = peek(settings.store)
        return None if db is None else SqliteReader(settings.store, db)
    try:
        return open_reader(settings)
    except NoStore:
        return None
