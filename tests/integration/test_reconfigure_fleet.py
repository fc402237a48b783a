"""The configurations of a fleet change one after another: nothing stands still meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import Daemon
from support.site import Site, rule
from support.valkey import Server
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey", fsync="always") as made:
        yield made


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.made() as made:
        yield made


def configure(site: Site, server: Server, name: str, *branches: str) -> None:
    rules = [rule(branch, f"hg:**:{branch}:") for branch in branches]
    values = {"state": f"{name}.state", "start": "earliest", "rules": rules}
    site.configure(file=name, store=server.url, relays=[site.endpoint("subscribe")], **values)


def taken_up(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_line("taken up", "what=configuration")


def ran(site: Site, branch: str) -> list[int]:
    return [run.place[1] for run in site.runs() if run.branch == branch]


def test_a_wider_rule_reaches_one_host_after_the_other(site: Site, server: Server) -> None:
    # Given two daemons that want one branch; the first one follows the repository
    site.configure_relay()
    app = site.repository("team/app")
    app.build(2, "default,stable")
    site.relay()
    for name in ("one", "two"):
        configure(site, server, name, "default")
    one = site.subscriber("one")
    site.wait_runs(1)
    two = site.subscriber("two")
    # When the second one wants another branch too, and events of it come
    configure(site, server, "two", "default", "stable")
    taken_up(two)
    app.build(2, "default,stable")
    # Then they run, though the first one, which does not want it, had followed the repository
    wait_for(lambda: (ran(site, "default"), ran(site, "stable")) == ([1, 3], [4]))
    # And when the first one takes it up too, all goes on
    configure(site, server, "one", "default", "stable")
    taken_up(one)
    app.build(2, "default,stable")
    wait_for(lambda: (ran(site, "default"), ran(site, "stable")) == ([1, 3, 5], [4, 6]))
    stopped = [row["stopped"] for row in site.status("one") if row["kind"] == "journal"]
    assert stopped == [None]
    for daemon in (one, two):
        assert not daemon.lines("ERROR")
