"""What is said of a store that fails."""

import logging

from subscriber.engine.outage import REMIND, Outage
from subscriber.store.base import StoreError

GONE = StoreError("redis://127.0.0.1:6379/0", "it cannot be reached", "is it running?")
REFUSED = StoreError("redis://127.0.0.1:6379/0", "it refuses our user or password", "correct it")


def test_each_reason_is_said_once_a_minute_and_that_it_is_over(caplog):
    caplog.set_level(logging.INFO, "zmqhooks.engine")
    times = iter((1.0, 2.0, 3.0, 3.0 + REMIND))
    outage = Outage(lambda: next(times))

    outage.answered()
    for error in (GONE, GONE, REFUSED, REFUSED):
        outage.failed(error)
    outage.answered()
    outage.answered()

    assert [(line.levelname, line.message) for line in caplog.records] == [
        ("ERROR", "the store failed, trying again"),
        ("ERROR", "the store failed, trying again"),
        ("ERROR", "the store failed, trying again"),
        ("INFO", "the store answers again"),
    ]
