"""The clock of leases."""

import time


def boot_clock() -> float:
    """Seconds that only go on: the same for all processes of this host, also while it sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Darwin has no CLOCK_BOOTTIME
    return time.clock_gettime(clock)
