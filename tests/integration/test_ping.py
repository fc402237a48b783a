"""`hg events --ping` and `--subscribers` with real daemons: who got an event, and how soon."""

import json

from support.site import Site, rule
from support.waiting import wait_for

from hgext_zmqhooks.ping import PING_SECONDS

AMPLE = ("--config", "zmqhooks.live-timeout=9000")


def test_a_ping_goes_the_whole_way(site: Site) -> None:
    # Given two subscribers, of which one has a rule that asks for pings
    site.configure(
        relay={"subscribe": [site.endpoint("subscribe")]},
        rules=[rule("build"), rule("pinged", origin=["ping"])],
    )
    site.issue("mirror", "--read", "hg:**:**:")
    site.configure("mirror", key="keys/mirror.key", relays=[site.endpoint("subscribe")])
    site.subscriber()
    mirror = site.subscriber("mirror")
    app = site.repository("team/app")
    app.build(1)
    site.wait_runs(2, "build")
    # When somebody pings, then hg says how soon each of them had it
    told = app.hg("events", "--ping", *AMPLE).out.splitlines()
    words = [line.split(":")[0] for line in told]
    assert words[:3] == ["ping 2", "journalled", "live copy"]
    assert sorted(words[3:]) == ["ci", "mirror"]
    assert "confirmed after" in told[2]
    assert all("acknowledged after" in line for line in told[3:])
    # and only the rule that asks for it sees it
    (run,) = site.wait_runs(1, "pinged")
    assert run.events[0]["data"]["origin"] == "ping"
    assert run.nodes == []
    assert len(site.runs("build")) == 2
    assert "no problems found" in app.verify()
    # When one of them is not there, then it is not waited for
    assert mirror.terminate() == 0
    (found,) = json.loads(app.hg("events", "--ping", "-T", "json", *AMPLE).out)
    rows = {row["subscriber"]: row for row in found["subscribers"]}
    assert found["sequence"] == 3
    assert found["relay"] == "confirmed"
    assert rows["ci"]["after"] >= 0
    assert (rows["mirror"]["after"], rows["mirror"]["connected"]) == (None, False)
    # and the list says how far behind it is
    told = app.hg("events", "--subscribers", *AMPLE).out.splitlines()
    assert told[0] == "ci: up to date, acknowledged 3, connected"
    assert told[1].startswith("mirror: 1 event behind, acknowledged 2, not connected, last seen ")


def test_the_first_ping_of_a_new_repository(site: Site) -> None:
    """The relay learns of the journal by it; nobody is passed over because it is new."""
    site.configure()
    site.subscriber()
    app = site.repository("team/new")
    told = app.hg("events", "--ping", *AMPLE).out
    assert "ping 1: " in told
    assert "ci:          acknowledged after" in told


def test_who_is_connected_and_stands_still_is_named(site: Site) -> None:
    # Given a subscriber that is stopped
    site.configure_relay()
    site.relay()
    site.configure(relays=[site.endpoint("subscribe")])
    daemon = site.subscriber()
    app = site.repository("team/app")
    app.build(1)
    site.wait_runs(1)
    daemon.freeze()
    # When somebody pings, then hg waits no longer than it says, and ends with 1
    ran = app.hg("events", "--ping", *AMPLE, status=1)
    assert f"ci:          connected, did not acknowledge it within {PING_SECONDS:.0f} s" in ran.out
    assert ran.seconds < PING_SECONDS * 3
    daemon.thaw()
    wait_for(
        lambda: "up to date" in app.hg("events", "--subscribers", *AMPLE, status=None).out,
        "it goes on",
    )
