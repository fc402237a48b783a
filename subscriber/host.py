"""What belongs to a daemon on its host: the files beside `state`, and what a former one left.

    ci.db.lock      flock of the daemon that runs; its pid, and who it is to the store
    ci.db.control   the socket on which it takes an operator's decisions (see control)
    ci.db.runners   share-locked as long as a command runs (see actions/guard)
    ci.db.relay     what the relay inside keeps

One daemon runs per `state`. Others that share its store have a `state` of their own, on this host
or on another one. Each claims under a name that no other process ever had; a daemon finds the name
of the one before it in the lock file, and ends the leases of that one alone.
"""

import fcntl
import logging
import os
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, Stop, fields
from subscriber.actions.exec import GRACE
from subscriber.settings import beside
from subscriber.store.base import Store
from subscriber.store.connection import Lock

RUNNERS_BOUND = 3 * GRACE + 30

log = logging.getLogger(f"{ROOT}.daemon")


def new_owner(name: str) -> str:
    """Who a process of this subscriber is: name, host, pid, and what tells it from a later one.

    Pids come again, and containers often have the same one, and the same host name.
    """
    return f"{name}/{socket.gethostname()}/{os.getpid()}-{secrets.token_hex(4)}"


class Host:
    """The right to run with this `state`, until `close`. StoreError when another daemon has it.

    `owner`: under what name we claim.
    """

    def __init__(self, state: Path, name: str) -> None:
        self._state = state
        self.owner = new_owner(name)
        self.lock = Lock(beside(state, ".lock"))

    def inherit(self, store: Store, stop: Stop) -> None:
        """Wait until the former daemon's commands have ended, then take back what it held.

        ServiceError when they do not end. In a store that nobody shares, all that is held was its.
        Nothing is taken back once `stop` is set: they may still run, and the next daemon waits.
        """
        await_runners(beside(self._state, ".runners"), RUNNERS_BOUND, stop)
        if stop.is_set():
            return
        former = self.lock.former
        freed = 0
        if not store.shared:
            freed = store.release_leases(store.now())
        elif former:
            freed = store.release_leases(store.now(), former)
            store.yield_journals(former)
        if freed:
            log.warning("attempts were lost with the former daemon", extra=fields(count=freed))
        self.lock.sign(self.owner)

    def close(self) -> None:
        """Give it back. A second call does nothing."""
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


def await_runners(path: Path, seconds: float, stop: Stop) -> None:
    """Wait until no command of a former daemon runs, or `stop`; ServiceError after `seconds`.

    Each runner holds the file share-locked; who gets it exclusively knows that there is none.
    """
    end = time.monotonic() + seconds
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)) as file:
        # Who can open it can lock it, and so keep us from starting anything.
        os.fchmod(file.fileno(), 0o600)
        told = False
        while not _lock_exclusively(file.fileno()):
            if time.monotonic() >= end:
                raise ServiceError(
                    f"commands of a former daemon still run after {seconds:g} s",
                    hint=f"see who has {path} open (fuser {path}), end them, and start again",
                )
            if not told:
                log.warning("waiting for commands of a former daemon to end")
                told = True
            if stop.wait(0.05):
                return


def _lock_exclusively(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
