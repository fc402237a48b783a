"""Several daemons of one subscriber on one Valkey: who follows, who runs, who takes over."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import Daemon, log_fields
from support.journals import write_journal
from support.site import Repository, Run, Site
from support.valkey import Server
from support.waiting import wait_for

from subscriber.intake.shares import EVERY
from subscriber.intake.shares import LEASE as SHARE

EVENTS = 40
BRANCHES = 8
LEASE = 3
SOON = 10.0
"""Seconds that a machine may be late, besides the leases."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey", fsync="always") as made:
        yield made


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    """A relay of its own, and two daemons that are not started."""
    with Site.made() as made:
        made.configure_relay()
        for name in ("one", "two"):
            configure(made, server, name)
        yield made


@pytest.fixture
def app(site: Site) -> Repository:
    """A repository that a running relay serves."""
    made = site.repository("team/app")
    made.build(1)
    site.relay()
    return made


def configure(site: Site, server: Server, name: str, **more: object) -> None:
    values = {"state": f"{name}.state", "start": "earliest", "lease": f"{LEASE}s"} | more
    relays = [site.endpoint("subscribe")]
    site.configure(file=name, store=server.url, relays=relays, **values)


def stored(daemon: Daemon) -> set[str]:
    """The repositories of which this daemon stored events."""
    lines = daemon.lines("event stored") + daemon.lines("events stored")
    return {repo for line in lines for repo in ("team/a", "team/b") if f"repo={repo}" in line}


def complete(runs: list[Run]) -> bool:
    return sorted(run.place[1] for run in runs) == list(range(1, len(runs) + 1))


class TestJournals:
    def test_are_followed_by_one_each_while_all_run_what_is_to_do(self, site: Site) -> None:
        # Given two journals that nobody read
        for repo in ("team/a", "team/b"):
            write_journal(site, EVENTS, repo, BRANCHES)
        site.relay()
        # When two daemons begin at once
        one, two = (
            site.start(name, "zmq-subscriber", "--config", f"{name}.yml") for name in ("one", "two")
        )
        runs = site.wait_runs(2 * EVENTS)
        # Then each journal was followed by one of them, and each event acted once
        assert not stored(one) & stored(two)
        assert stored(one) | stored(two) == {"team/a", "team/b"}
        assert len({run.event_id for run in runs}) == 2 * EVENTS
        # and both took part
        assert one.lines("delivery done")
        assert two.lines("delivery done")
        assert [one.terminate(), two.terminate()] == [0, 0]

    def test_of_one_that_is_killed_are_taken_over_in_seconds(
        self, site: Site, app: Repository
    ) -> None:
        one = site.subscriber("one")
        site.wait_runs(1)
        two = site.subscriber("two")
        app.build(1)
        site.wait_runs(2)
        assert not two.lines("event stored")
        # When the one that follows is gone for good
        one.kill()
        app.build(1)
        begin = time.monotonic()
        # Then the other one follows soon
        two.wait_line("event stored")
        assert time.monotonic() - begin < SHARE + EVERY + SOON
        assert complete(site.wait_runs(3))

    def test_of_one_that_ends_in_order_are_followed_by_another_at_once(
        self, site: Site, app: Repository
    ) -> None:
        one = site.subscriber("one")
        site.wait_runs(1)
        two = site.subscriber("two")
        assert one.terminate() == 0
        begin = time.monotonic()
        app.build(1)
        two.wait_line("event stored")
        assert time.monotonic() - begin < SHARE

    def test_that_are_stopped_go_on_by_a_decision_made_on_another_host(
        self, site: Site, app: Repository
    ) -> None:
        # Given another repository in the place of a known one
        one = site.subscriber("one")
        site.wait_runs(1)
        shutil.rmtree(app.path)
        site.repository("team/app").build(1)
        stopped = log_fields(one.wait_line("journal stopped", "kind=unfit-journal"))
        # When a person admits it where no daemon runs
        words = ("accept", "team/app", "--journal", stopped["journal"])
        site.command("zmq-subscriber", "--config", "two.yml", *words)
        # Then the daemon that follows it notices
        site.wait_runs(2)

    @pytest.mark.usefixtures("app")
    def test_that_are_new_are_followed_by_one(self, site: Site) -> None:
        both = site.subscriber("one"), site.subscriber("two")
        fresh = site.repository("team/fresh")
        fresh.build(1)
        fresh.build(1)
        site.wait_runs(3)
        assert sum(bool(one.lines("event stored", "team/fresh")) for one in both) == 1


class TestDeliveries:
    @pytest.mark.usefixtures("app")
    def test_of_one_that_is_killed_run_again_after_their_lease(
        self, site: Site, server: Server
    ) -> None:
        # Given a daemon in the middle of an action that never ends
        site.script("record.sh", "#!/bin/sh\ntouch begun\nexec sleep 1000\n")
        one = site.subscriber("one")
        wait_for((site.folder / "begun").exists, "it runs")
        # When it is killed, and another one has an action that ends
        one.kill()
        site.script("done.sh", "#!/bin/sh\necho $ZMQHOOKS_ATTEMPT > ended\n")
        configure(site, server, "two", rules=[{"name": "build", "exec": ["./done.sh"]}])
        site.subscriber("two")
        # Then that one runs it, and the lost attempt does not count
        wait_for((site.folder / "ended").exists, "it ran", LEASE + SOON)
        assert (site.folder / "ended").read_text() == "1\n"

    def test_of_one_that_is_killed_are_freed_by_its_own_successor_at_once(
        self, site: Site, server: Server, app: Repository
    ) -> None:
        # Given two daemons with long leases, each in the middle of an action
        site.script("record.sh", "#!/bin/sh\ntouch begun-$ZMQHOOKS_BRANCH\nexec sleep 1000\n")
        for name in ("one", "two"):
            configure(site, server, name, lease="10m", workers=1)
        one, two = site.subscriber("one"), site.subscriber("two")
        app.build(2, "a,b")
        wait_for(lambda: len(list(site.folder.glob("begun-*"))) == 2, "both run one")
        # When one is killed and started again
        one.kill()
        again = site.subscriber("one")
        # Then its own delivery is free at once, and the other's is not
        line = again.wait_line("attempts were lost with the former daemon")
        assert "count=1" in line
        again.wait_line("delivery starts")
        for daemon in (two, again):
            daemon.kill()  # else each waits for its action

    def test_under_one_lock_exclude_each_other_on_all_hosts(
        self, site: Site, server: Server, app: Repository
    ) -> None:
        # Given two rules on two daemons whose actions must not run at the same time
        script = "#!/bin/sh\nmkdir alone || touch together\nsleep 0.1\nrmdir alone\necho >> count\n"
        site.script("alone.sh", script)
        rules = [{"name": name, "exec": ["./alone.sh"], "lock": "deploy"} for name in "ab"]
        for name in ("one", "two"):
            configure(site, server, name, rules=rules)
        both = site.subscriber("one"), site.subscriber("two")
        # When there is much to do
        app.build(20, "x,y,z", "--single")
        count = site.folder / "count"
        wait_for(lambda: count.exists() and len(count.read_text()) == 42, "all ran")
        # Then they never did
        assert not (site.folder / "together").exists()
        assert all(daemon.process.poll() is None for daemon in both)


class TestOneDaemonPerState:
    @pytest.mark.usefixtures("app")
    def test_a_second_one_is_refused_and_names_the_first(self, site: Site, server: Server) -> None:
        one = site.subscriber("one")
        configure(site, server, "two", state="one.state")
        done = site.command("zmq-subscriber", "--config", "two.yml", status=1)
        assert f"in use by process {one.pid}" in done.err
        assert "state" in done.err


class TestWithoutTheServer:
    @pytest.mark.usefixtures("app")
    def test_a_daemon_waits_for_it_and_says_so(self, site: Site, server: Server) -> None:
        server.kill()
        daemon = site.start("one", "zmq-subscriber", "--config", "one.yml")
        line = daemon.wait_line("waiting for the store")
        assert server.url in line
        assert "cannot be reached" in line
        # When it comes, all goes on by itself
        server.start()
        site.wait_runs(1)

    def test_a_daemon_that_waits_for_it_ends_when_asked(self, site: Site, server: Server) -> None:
        server.kill()
        daemon = site.start("one", "zmq-subscriber", "--config", "one.yml")
        daemon.wait_line("waiting for the store")
        assert daemon.terminate() == 0

    @pytest.mark.parametrize("away", [SHARE + EVERY, pytest.param(60.0, marks=pytest.mark.long)])
    def test_nothing_is_lost_and_all_goes_on_by_itself(
        self, site: Site, server: Server, app: Repository, away: float
    ) -> None:
        both = site.subscriber("one"), site.subscriber("two")
        site.wait_runs(1)
        # When it is away for longer than all leases, and pushes go on
        server.kill()
        begin = time.monotonic()
        app.build(5, "x,y", "--single")
        for daemon in both:
            daemon.wait_line("no session with the relay", "the store failed")
        wait_for(lambda: time.monotonic() - begin > away, "the leases end", away + SOON)
        server.start()
        # Then all arrives, once, and nobody was started again
        assert complete(site.wait_runs(6))
        assert all(daemon.process.poll() is None for daemon in both)

    def test_that_stands_still_is_as_one_that_is_away(
        self, site: Site, server: Server, app: Repository
    ) -> None:
        daemon = site.subscriber("one")
        site.wait_runs(1)
        server.signal(signal.SIGSTOP)
        try:
            app.build(2, "default", "--single")
            daemon.wait_line("the store failed", "does not answer")
        finally:
            server.signal(signal.SIGCONT)
        assert complete(site.wait_runs(3))


class TestServerThatMayLoseWork:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Server]:
        with Server(tmp_path / "valkey", "--maxmemory-policy", "allkeys-lru") as made:
            yield made

    def test_is_told_of_at_the_start_and_by_check(self, site: Site, server: Server) -> None:
        checked = site.command("zmq-subscriber", "--config", "one.yml", "check", status=None)
        assert f"PROBLEM  store: {server.url}: maxmemory-policy is allkeys-lru" in checked.out
        assert "appendfsync is everysec" in checked.out
        daemon = site.start("one", "zmq-subscriber", "--config", "one.yml")
        daemon.wait_line("the server may lose work", "allkeys-lru")


def test_check_says_that_the_server_is_away(site: Site, server: Server) -> None:
    site.relay()
    good = site.command("zmq-subscriber", "--config", "one.yml", "check")
    assert f"ok       store: {server.url}" in good.out
    server.kill()
    checked = site.command("zmq-subscriber", "--config", "one.yml", "check", status=69)
    assert f"PROBLEM  store: {server.url}: it cannot be reached" in checked.out
