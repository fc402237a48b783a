"""The attempts that run, and the leases under which they do.

What must never happen is two attempts of one delivery at once. So a lease that cannot be extended
in time has its attempt broken off while the lease still lasts. How long it lasts is counted from
before the store was asked for it, by a clock that goes on while this process or the whole machine
stands still; the attempt knows that time too, and ends itself by it should nobody tell it to.
"""

import logging
import threading

from hgext_zmqhooks.service.clock import boot_clock
from hgext_zmqhooks.service.life import ROOT
from subscriber.store.base import Store, StoreError

from .attempt import Attempt

EXTEND = 1 / 3
"""Part of a lease after which it is extended."""
GIVE_UP = 2 / 3
"""Part of a lease after which an attempt whose lease cannot be extended is broken off."""

log = logging.getLogger(f"{ROOT}.engine")


class Leases:
    """Adds and removes are from any thread; one alone extends."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._running: dict[str, Attempt] = {}
        self.seconds = seconds

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        with self._lock:
            return list(self._running.values())

    def get(self, delivery_id: str) -> Attempt | None:
        """The attempt of a delivery that runs here."""
        with self._lock:
            return self._running.get(delivery_id)

    def add(self, attempt: Attempt) -> None:
        """It is about to run."""
        with self._lock:
            self._running[attempt.id] = attempt

    def remove(self, attempt: Attempt) -> None:
        """It has ended."""
        with self._lock:
            del self._running[attempt.id]

    def extend(self) -> bool:
        """Extend the leases that need it; False if the store failed.

        Its first failure is the last question: each may take as long as the time limit of a
        client, and who asks has more to do. The attempts that it was asked for longest ago are
        first, so that one at which it fails alone costs the others nothing.
        """
        kept = True
        for attempt in sorted(self.running(), key=lambda attempt: attempt.asked):
            if kept:
                kept = self._keep(attempt)
            else:
                self._give_up(attempt)
        return kept

    def _keep(self, attempt: Attempt) -> bool:
        if self._age(attempt) < self.seconds * EXTEND:
            return True
        with attempt.lock:
            return attempt.over or self._extend_one(attempt)

    def _extend_one(self, attempt: Attempt) -> bool:
        attempt.asked = asked = boot_clock()
        fence, now = attempt.claim.fence, self._store.now()
        try:
            if self._store.extend(attempt.id, fence, self.seconds, now):
                attempt.extend(asked, self.seconds)
            else:
                self.doom(attempt, "its lease was given to another")
        except StoreError as error:
            attempt.unextended.failed(error, attempt.fields(error=error))
            self._give_up(attempt)
            return False
        return True

    def _give_up(self, attempt: Attempt) -> None:
        """Break it off, by the clock, if that is due; what is over already takes no harm."""
        if not attempt.over and self._age(attempt) >= self.seconds * GIVE_UP:
            self.doom(attempt, "its lease could not be extended")

    def _age(self, attempt: Attempt) -> float:
        return boot_clock() - attempt.extended

    def doom(self, attempt: Attempt, reason: str) -> None:
        """Break off an attempt whose lease is lost, or about to be."""
        if not attempt.doomed:
            attempt.doomed = True
            attempt.cancel.set(reason)
            log.error("attempt broken off", extra=attempt.fields(reason=reason))

    def until_extension(self, most: float) -> float:
        """Seconds until the next lease needs to be extended, at most `most`."""
        ages = [self._age(attempt) for attempt in self.running()]
        return min([most, *(self.seconds * EXTEND - age for age in ages)])
