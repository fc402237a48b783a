"""The bench in short: what holds on a noisy machine, too. The numbers come from `make bench`."""

from bench import catchup
from support.site import Site

EVENTS = 4000


def test_a_long_journal_arrives_whole_in_bounded_memory() -> None:
    with Site.made() as site:
        # Every event is verified and stored, though both processes are stopped on the way
        result = catchup.measure(site, EVENTS, rounds=2, sample=400)
        totals, journal, *_ = site.status()
    assert totals["events"] == journal["scanned"] == EVENTS
    assert journal["stopped"] is None
    # and the bench measured what it says
    assert result.seconds > 0
    assert set(result.bare) >= {1, 2, catchup.WORKERS}
    assert all(len(rates) == 2 for rates in result.bare.values())
    assert max(result.memory.values()) < catchup.MOST_MEMORY
    shown = catchup.table(result)
    assert f"{result.events} events" in shown
    assert "under 200 MB" in catchup.verdict(result)[1]
