"""What is said of a store that fails."""

from hgext_zmqhooks.service.life import fields
from subscriber.engine.outage import REMIND, Outage
from subscriber.store.base import StoreError

GONE = StoreError("redis://127.0.0.1:6379/0", "it cannot be reached", "is it running?")
REFUSED = StoreError("redis://127.0.0.1:6379/0", "it refuses our user or password", "correct it")


def test_each_reason_is_said_once_a_minute_until_it_is_over(caplog):
    times = iter((1.0, 2.0, 3.0, 3.0 + REMIND))
    outage = Outage("the store failed", lambda: next(times))

    before = outage.over()
    for error in (GONE, GONE, REFUSED, REFUSED):
        outage.failed(error, fields(error=error))

    assert [line.message for line in caplog.records] == ["the store failed"] * 3
    assert (before, outage.over(), outage.over()) == (False, True, False)
