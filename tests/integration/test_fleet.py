"""Several daemons of one subscriber on one Valkey: who follows, who runs, who takes over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import Daemon
from support.journals import write_journal
from support.site import Site
from support.valkey import Server
from support.waiting import wait_for

EVENTS = 40
BRANCHES = 8
LEASE = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey", fsync="always") as made:
        yield made


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    """A relay of its own, with two repositories, and two daemons that are not started."""
    with Site.made() as made:
        made.configure_relay()
        for repo in ("team/a", "team/b"):
            write_journal(made, EVENTS, repo, BRANCHES)
        for name in ("one", "two"):
            configure(made, server, name)
        yield made


def configure(site: Site, server: Server, name: str, **more: object) -> None:
    site.configure(
        file=name,
        store=server.url,
        state=f"{name}.state",
        relays=[site.endpoint("subscribe")],
        start="earliest",
        lease=f"{LEASE}s",
        **more,
    )


def done(site: Site) -> int:
    (totals, *_) = site.status("one")
    return int(totals["deliveries"]["done"])


def stored(daemon: Daemon) -> set[str]:
    """The repositories of which this daemon stored events."""
    lines = daemon.lines("event stored") + daemon.lines("events stored")
    return {repo for line in lines for repo in ("team/a", "team/b") if f"repo={repo}" in line}


def test_one_daemon_follows_each_journal_and_both_run_what_is_to_do(site: Site) -> None:
    site.relay()
    one, two = site.subscriber("one"), site.subscriber("two")

    wait_for(lambda: done(site) == 2 * EVENTS, "all is done")

    # Then each journal was followed by one of them, and each event acted once
    assert not stored(one) & stored(two)
    assert stored(one) | stored(two) == {"team/a", "team/b"}
    runs = site.runs()
    assert len(runs) == len({run.event_id for run in runs}) == 2 * EVENTS
    # and both took part
    assert one.lines("delivery done")
    assert two.lines("delivery done")
    assert [one.terminate(), two.terminate()] == [0, 0]
