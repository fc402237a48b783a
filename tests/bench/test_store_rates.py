"""The bench in short: the same work is done on both sides. The numbers come from `make bench`."""

import pytest
from bench import store_rates


@pytest.mark.parametrize("kind", store_rates.KINDS, ids=lambda kind: type(kind).__name__)
def test_the_same_work_is_done_by_the_store_and_raw(kind: store_rates.Kind, tmp_path) -> None:
    raw = store_rates.against_raw(kind, tmp_path, rounds=2, number=20)
    assert len(raw) == 4
    assert all(len(pairs) == 2 for pairs in raw.values())

    kept = store_rates.against_empty(kind, tmp_path, rounds=2, number=10, kept=500)
    assert all(rate > 0 for pairs in kept.values() for pair in pairs for rate in pair)

    shown = store_rates.table(kind, raw, kept)
    assert all(what in shown for what in (*raw, *kept))


def test_a_share_that_is_too_small_is_not_enough() -> None:
    good, bad = {"accept": [(6.0, 10.0)] * 3}, {"accept": [(4.0, 10.0)] * 3}
    kept = {"claim": [(9.5, 10.0)] * 3}
    assert store_rates.is_enough(good, kept)
    assert not store_rates.is_enough(bad, kept)
    assert not store_rates.is_enough(good, good)
