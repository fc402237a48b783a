"""What the engine says of a store that fails: once for each reason, and that it answers again.

A server may be gone for hours, and is asked each second.
"""

import logging
import time
from collections.abc import Callable

from hgext_zmqhooks.service.life import ROOT, fields
from subscriber.store.base import StoreError

REMIND = 60.0
"""Seconds after which the same is said once more."""

log = logging.getLogger(f"{ROOT}.engine")


class Outage:
    """Whether the store fails at present, as far as claims show it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reason: str | None = None
        self._told = 0.0

    def failed(self, error: StoreError) -> None:
        """It failed."""
        now = self._clock()
        if error.reason != self._reason or now - self._told >= REMIND:
            self._reason, self._told = error.reason, now
            log.error("the store failed, trying again", extra=fields(error=error, hint=error.hint))

    def answered(self) -> None:
        """It did not fail."""
        if self._reason is not None:
            self._reason = None
            log.info("the store answers again")
