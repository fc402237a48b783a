"""The bench in short: what holds on a noisy machine, too. The numbers come from `make bench`."""

import pytest
from bench import push_cost
from support.site import Site


@pytest.mark.long
def test_pushes_succeed_and_events_arrive_whatever_the_relay_does() -> None:
    with Site.made() as site:
        # Every push of every variant succeeds, and every event arrives, the stopped relay's too
        lanes = push_cost.measure(site, rounds=1, transport="local")
    for variant, lane in lanes.items():
        assert len(lane.pushes) == 1
        assert len(lane.delays) == (0 if variant == push_cost.WITHOUT else 1)
    # and the table shows them
    shown = push_cost.table(lanes)
    assert all(variant in shown for variant in push_cost.VARIANTS)
    assert "live-timeout 250 ms" in push_cost.verdict(lanes)[1]
    # A relay that stands still is waited for, so its variant measures what it says
    assert min(lanes[push_cost.STOPPED].pushes) > push_cost.LIVE_TIMEOUT
