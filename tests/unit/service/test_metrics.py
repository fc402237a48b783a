import threading

from hgext_zmqhooks.service import metrics
from hgext_zmqhooks.service.metrics import Counters


def test_counts_by_name_and_kind():
    counters = Counters()
    counters.add("refused", "bad-signature")
    counters.add("refused", "bad-signature", 2)
    counters.add("sessions")
    assert counters.get("refused", "bad-signature") == 3
    assert counters.get("refused", "other") == 0
    assert counters.snapshot() == {("refused", "bad-signature"): 3, ("sessions", ""): 1}


def test_threads_lose_no_count():
    counters = Counters()

    def work():
        for _ in range(5000):
            counters.add("n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.get("n") == 20000


def test_kinds_are_bounded():
    counters = Counters()
    for number in range(metrics.MAX_NAMES + 50):
        counters.add("refused", str(number))
    assert counters.get("refused", "other") == 50
