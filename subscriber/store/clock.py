"""A clock for leases: time that goes on evenly, whatever happens to the clock on the wall."""

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """Unix seconds that never jump: the wall clock of now, carried on by the monotonic one.

    A clock that is set forward would otherwise end all leases, and run their deliveries twice.
    """
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()
