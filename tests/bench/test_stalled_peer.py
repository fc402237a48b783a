"""The bench in short: every event arrives. The numbers come from `make bench`."""

from bench import stalled_peer
from support.site import Site


def test_every_event_arrives_beside_a_subscriber_that_stands_still() -> None:
    with Site.made() as site:
        found = stalled_peer.measure(site, rounds=1, events=20)
    assert {variant: len(rounds[0]) for variant, rounds in found.items()} == {
        stalled_peer.ALONE: 20,
        stalled_peer.STALLED: 20,
    }
    # and the table shows both variants, each round and all together
    assert stalled_peer.table(found).count("\n") == 4
    assert stalled_peer.ratio(found) > 0
