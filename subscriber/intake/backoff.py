"""How long to wait before a relay is tried again."""

import random
from collections.abc import Callable

FIRST_DELAY = 0.2
LAST_DELAY = 30.0


class Backoff:
    """Growing delays with jitter: 0.2 s doubling to 30 s, each cut by up to a half at random."""

    def __init__(self, rand: Callable[[], float] = random.random) -> None:
        self._rand = rand
        self._next = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._next * (0.5 + self._rand() / 2)
        self._next = min(self._next * 2, LAST_DELAY)
        return delay

    def reset(self) -> None:
        """An attempt went well."""
        self._next = FIRST_DELAY
