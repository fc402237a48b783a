"""Who we are to every relay and what we may read, and how that changes while the daemon runs.

A session belongs to one key and one set of patterns, and the store is told of other patterns only
while nobody reads. So a change waits until no session is open:

    change    close the door → ring for all → every session says BYE → change → open it again
    intake    session → … → rung for: leave in order → wait at the door → the next session, at once
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hgext_zmqhooks.service.life import Bell
from hgext_zmqhooks.wire.keyfiles import SecretKey
from subscriber.intake.inbox import Tools


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to every relay."""

    secret: SecretKey
    name: str
    store: str
    instance: str


def new_identity(secret: SecretKey, name: str, store: str) -> Identity:
    """An identity whose instance is this process."""
    return Identity(secret, name, store, secrets.token_hex(8))


class Current:
    """What all intakes of a daemon share, as it is now."""

    def __init__(self, identity: Identity, tools: Tools) -> None:
        self.identity = identity
        self.tools = tools
        self._door = threading.Condition()
        self._changing = False
        self._inside = 0
        self._bells: list[Bell] = []

    @property
    def changing(self) -> bool:
        """Whether every session is to end now."""
        return self._changing

    def bell(self) -> Bell:
        """A new bell that is rung when something changes: one for each intake."""
        made = Bell()
        self._bells.append(made)
        return made

    def ring(self) -> None:
        """Tell all intakes that whom we trust has changed, or what they tried may work now."""
        for bell in self._bells:
            bell.ring()

    @contextmanager
    def session(self) -> Iterator[tuple[Identity, Tools]]:
        """What a session has from its beginning to its end; it begins when nothing is changing."""
        with self._door:
            self._door.wait_for(lambda: not self._changing)
            self._inside += 1
        try:
            yield self.identity, self.tools
        finally:
            with self._door:
                self._inside -= 1
                self._door.notify_all()

    def change(
        self, identity: Identity, tools: Tools, before: Callable[[], object] = lambda: None
    ) -> None:
        """End all sessions in order, call `before`, and begin them with these.

        What `before` raises leaves everything as it was.
        """
        with self._door:
            self._changing = True
        self.ring()
        with self._door:
            self._door.wait_for(lambda: not self._inside)
            try:
                before()
                self.identity, self.tools = identity, tools
            finally:
                self._changing = False
                self._door.notify_all()
