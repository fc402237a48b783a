"""The bench in short: the whole journal comes over both. The numbers come from `make bench`."""

from bench import curve_cost
from support.site import Site


def test_a_whole_journal_comes_with_curve_and_without() -> None:
    with Site.made() as site:
        found = curve_cost.measure(site, rounds=2, events=3000)
    assert {variant: len(rates) for variant, rates in found.items()} == {
        curve_cost.CURVE: 2,
        curve_cost.PLAIN: 2,
    }
    # and the table shows each round and the medians
    assert curve_cost.table(found).count("\n") == 4
    assert curve_cost.share(found) > 0
