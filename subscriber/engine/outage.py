"""What the engine says while the store fails: once for each reason, and again after a minute.

A server may be gone for hours, and what it shall do is tried each second.
"""

import logging
import time
from collections.abc import Callable

from hgext_zmqhooks.service.life import ROOT
from subscriber.store.base import StoreError

REMIND = 60.0
"""Seconds after which the same is said once more."""

log = logging.getLogger(f"{ROOT}.engine")


class Outage:
    """Says `text` of one thing that the store shall do."""

    def __init__(self, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._text = text
        self._clock = clock
        self._reason: str | None = None
        self._told = 0.0

    def failed(self, error: StoreError, extra: dict[str, object]) -> None:
        """The store failed; `extra`: what the line carries."""
        now = self._clock()
        if error.reason != self._reason or now - self._told >= REMIND:
            self._reason, self._told = error.reason, now
            log.error(self._text, extra=extra)

    def over(self) -> bool:
        """The store did it; returns whether it had failed before."""
        failed, self._reason = self._reason is not None, None
        return failed
