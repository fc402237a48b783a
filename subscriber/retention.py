"""What is done is forgotten after a while: receipts and events older than `keep`.

At the start, once an hour, and when `keep` changes. It goes in small steps with pauses as long as
the steps themselves, so that the intake and the engine have their turns in between.
"""

import logging
import time

from hgext_zmqhooks.service.config import span
from hgext_zmqhooks.service.life import ROOT, Bell, Stop, fields
from subscriber.store.base import Store, StoreError

PERIOD = 3600.0
STEP = 200
"""Rows forgotten in one step of the store."""
PAUSE = 0.005
"""The least pause between two steps."""

log = logging.getLogger(f"{ROOT}.retention")


class Retention:
    """Forgets what ended more than `keep` seconds ago. Several may do so at once on one store."""

    def __init__(self, store: Store, keep: float) -> None:
        self._store = store
        self._keep = keep
        self._bell = Bell()

    def change(self, keep: float) -> None:
        """Keep things for so long from now on. From any thread."""
        if keep != self._keep:
            self._keep = keep
            self._bell.ring()

    def run(self, stop: Stop) -> None:
        """Prune, and prune again, until `stop`."""
        while not stop.is_set():
            self.prune(stop)
            self._bell.wait(stop, PERIOD)

    def prune(self, stop: Stop) -> int:
        """Forget all that is old enough, or as much as is done at `stop`; how many rows."""
        keep, count = self._keep, 0
        before = self._store.now() - keep
        try:
            while not stop.is_set() and (forgotten := self._step(before, stop)):
                count += forgotten
        except StoreError as error:
            said = fields(error=error, hint=error.hint, again=span(PERIOD))
            log.error("what is old could not be pruned", extra=said)  # noqa: TRY400
        if count:
            log.info("pruned", extra=fields(count=count, older_than=span(keep)))
        return count

    def _step(self, before: float, stop: Stop) -> int:
        begin = time.monotonic()
        forgotten = self._store.prune(before, STEP)
        stop.wait(max(PAUSE, time.monotonic() - begin))
        return forgotten
