"""Which journals this daemon follows, where several daemons share a store: one follows each.

    look      every EVERY seconds each of them takes what is free, for LEASE seconds; so the
              journals of one that is gone are followed by another soon after LEASE
    renew     what it has, when half of LEASE is over: each of them costs the server a write
    release   at an orderly end they are free at once

It spares work, and nothing depends on it: of two that follow one journal for a while each sees that
the other was faster, since the store moves a position only from where it is thought to be. Who
reads other topics than the daemon that said so last follows nothing.
"""

import contextlib
from collections.abc import Collection

from subscriber.store.base import Store, StoreError

LEASE = 10.0
EVERY = 2.5


class Shares:
    """`owner`: under which name the store knows this daemon; `scope`: what it reads."""

    def __init__(self, store: Store, owner: str, scope: str) -> None:
        self._store = store
        self._owner = owner
        self._scope = scope
        self._held: frozenset[str] = frozenset()
        self._renewed = -LEASE

    def look(self, journals: Collection[str]) -> frozenset[str]:
        """Those of some journals that we follow until the next look. StoreError.

        Nobody else follows the journals of a store that nobody shares.
        """
        if not self._store.shared:
            return frozenset(journals)
        now = self._store.now()
        due = now - self._renewed >= LEASE / 2
        wanted = frozenset(journals) if due else frozenset(journals) - self._held
        if wanted:
            self._held = self._store.lease_journals(self._owner, wanted, LEASE, now, self._scope)
        if due:
            self._renewed = now
        return self._held

    def release(self) -> None:
        """Give up all; what a store that fails keeps of them ends by itself."""
        if self._store.shared:
            with contextlib.suppress(StoreError):
                self._store.yield_journals(self._owner)
