"""Without disk, descriptors or a right clock: no push fails that need not, and nothing is lost.

Each message names the file and the reason, and all goes on by itself when the trouble is over.
Limits are set from outside on a process that runs (prlimit), and taken back the same way.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault import clock, limited, soak_ledger
from support.daemons import Daemon
from support.site import Repository, Site, rule
from support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.long

BRANCHES = "default,stable"
DAY = 86_400
GARBAGE = 10_000
NOISES = (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x7f", os.urandom(200))
"""Nothing, another protocol, half a greeting, anything."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.made() as made:
        yield made


@pytest.fixture
def app(site: Site) -> Repository:
    return site.repository("team/app")


def complete(site: Site, *repositories: Repository) -> None:
    """Every changeset came, once, in the order of its branch, and the journal is sound."""
    lanes: dict[tuple[str, str], list[str]] = {}
    for one in repositories:
        for branch in BRANCHES.split(","):
            lanes[one.name, branch] = one.branch_nodes(branch)

    def seen() -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for run in site.runs():
            found.setdefault((run.repo, run.branch), []).extend(run.nodes)
        return found

    count = sum(map(len, lanes.values()))
    wait_for(lambda: sum(map(len, seen().values())) >= count, "all changesets", 90)
    verdict = soak_ledger.Verdict()
    verdict.compare("runs", lanes, seen())
    assert not verdict.problems
    for one in repositories:
        one.verify()


@contextlib.contextmanager
def limit(daemon: Daemon, kind: int, value: int) -> Iterator[None]:
    """A lower limit for a process that runs."""
    before = resource.prlimit(daemon.pid, kind)
    resource.prlimit(daemon.pid, kind, (value, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(daemon.pid, kind, before)


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))  # noqa: PTH208 - a Path each is not needed


def with_limits(*words: str) -> tuple[str, ...]:
    return (sys.executable, str(limited.__file__), *words)


class TestDiskFull:
    @pytest.mark.parametrize("way", ["commit", "push"])
    def test_in_the_journal(self, site: Site, app: Repository, way: str) -> None:
        # Given a journal that is the largest file of its repository, on a disk without room
        site.configure(start="earliest")
        site.subscriber()
        app.build(200, BRANCHES, "--single")
        client = site.clone(app)
        client.build(2, BRANCHES)
        before = app.nodes()
        events = app.store / "zmqhooks-events"
        size = events.stat().st_size
        assert size > (app.store / "00changelog.i").stat().st_size
        # When something is written, then it fails as a whole, and says why
        full = with_limits(f"fsize={size + 100}", "hg")
        if way == "commit":
            ran = site.command(*full, "-R", str(app.path), "testbuild", status=255)
        else:
            words = " ".join(full)
            site.script("ssh.sh", f'#!/bin/sh\nshift\nset -- $*\nshift\nexec {words} "$@"\n')
            ran = client.hg("push", f"ssh://host/{app.path}", status=None)
            assert ran.status
        assert "File too large" in ran.out + ran.err
        assert "zmqhooks-events" in ran.out + ran.err
        assert app.nodes() == before
        # When there is room again, then all goes on
        client.hg("push", str(app.path))
        app.build(2, BRANCHES)
        complete(site, app)

    def test_in_the_store(self, site: Site, app: Repository) -> None:
        # Given a subscriber whose store may not grow
        site.configure()
        daemon = site.subscriber()
        app.build(20, BRANCHES, "--single")
        site.wait_settled(20)
        size = (site.folder / "ci.db-wal").stat().st_size
        with limit(daemon, resource.RLIMIT_FSIZE, size):
            # When pushes go on, then none of them fails, and the log names file and reason
            for _ in range(3):
                app.build(10, BRANCHES)
            line = daemon.wait_line("the store failed")
            assert f"{site.folder}/ci.db" in line
            assert "I/O error" in line or "full" in line
        # When there is room again, then the rest arrives without a restart
        complete(site, app)
        assert daemon.process.poll() is None
        assert len(site.deliveries()) == 26

    def test_in_the_state_of_the_relay(self, site: Site, app: Repository) -> None:
        # Given a relay of its own that cannot write down the acknowledgements
        site.configure(relays=[site.endpoint("subscribe")])
        site.configure_relay()
        relay = site.relay()
        subscriber = site.subscriber()
        app.build(2, BRANCHES)
        site.wait_runs(2)
        state = site.folder / "relay.db-wal"
        wait_for(lambda: state.stat().st_size, "a first position")
        with limit(relay, resource.RLIMIT_FSIZE, state.stat().st_size):
            # When pushes go on, then they arrive, and the log names file and reason
            app.build(10, BRANCHES, "--single")
            line = relay.wait_line("acknowledgements not written")
            assert f"{site.folder}/relay.db" in line
            complete(site, app)
        # When there is room again, then it is written what the subscriber has
        app.build(2, BRANCHES)
        complete(site, app)
        asked = ("zmq-relay", "--config", "relay.yml", "status", "--json")
        wait_for(lambda: '"position": 14' in site.command(*asked, status=None).out, "the position")
        assert relay.process.poll() is None
        assert subscriber.process.poll() is None


def test_a_store_that_may_only_be_read(site: Site, app: Repository) -> None:
    # Given a store with events, which its user may not write to any more
    site.configure()
    daemon = site.subscriber()
    app.build(2, BRANCHES)
    site.wait_settled(2)
    assert daemon.terminate() == 0
    files = list(site.folder.glob("ci.db*"))
    for file in files:
        file.chmod(0o400)
    # When the daemon starts, then it refuses, and says which file and why
    command = with_limits("zmq-subscriber", "--config", "ci.yml")
    refused = site.command(*command, status=None)
    assert refused.status not in {0, None}
    assert f"{site.folder}/ci.db" in refused.err
    assert "may not be written" in refused.err
    assert "Traceback" not in refused.err
    # Pushes do not care
    app.build(4, BRANCHES)
    # When it may write again, then what was missed arrives
    for file in files:
        file.chmod(0o600)
    site.subscriber()
    complete(site, app)


class TestClock:
    @pytest.mark.parametrize("jump", [DAY, -DAY])
    def test_of_the_daemon_jumps(self, site: Site, app: Repository, jump: int) -> None:
        # Given a subscriber, relay inside, whose clock can be set
        offset = set_clock(site, 0)
        site.configure()
        python = (sys.executable, str(clock.__file__), str(offset))
        daemon = site.start("ci", *python, "zmq-subscriber", "--config", "ci.yml")
        daemon.wait_line("daemon: ready")
        app.build(4, BRANCHES, "--single")
        site.wait_runs(4)
        # When it jumps, and back again, while pushes go on, then none of them fails
        for seconds in (jump, 0, jump, 0):
            set_clock(site, seconds)
            app.build(4, BRANCHES, "--single")
        # and in the end everything came, and nothing twice
        complete(site, app)
        assert daemon.process.poll() is None

    def test_of_hg_jumps(self, site: Site, app: Repository) -> None:
        # Given commits whose clock goes forth and back by a day
        site.configure()
        site.subscriber()
        for seconds in (0, DAY, -DAY, 0, -DAY, DAY, 0):
            offset = set_clock(site, seconds)
            words = ("hg", "-R", str(app.path), "testbuild", "--count", "2", "--branches", BRANCHES)
            site.command(sys.executable, str(clock.__file__), str(offset), *words)
        # Then the order is that of the journal
        complete(site, app)


def set_clock(site: Site, seconds: int) -> Path:
    """The file that clock.py reads, replaced in one step."""
    file, new = site.folder / "clock", site.folder / "clock.new"
    new.write_text(str(seconds))
    return new.replace(file)


class TestDescriptors:
    @pytest.mark.parametrize("spare", [0, 3, 12])
    def test_of_the_subscriber_run_out(self, site: Site, app: Repository, spare: int) -> None:
        # Given a subscriber, relay inside, that has few descriptors left
        site.configure()
        daemon = site.subscriber()
        app.build(2, BRANCHES)
        site.wait_settled(2)
        with limit(daemon, resource.RLIMIT_NOFILE, descriptors(daemon) + spare):
            # When pushes go on, then none of them fails
            for _ in range(5):
                app.build(4, BRANCHES, "--single")
        # When it may have them again, then all arrives
        supervised(daemon, site.subscriber)
        app.build(2, BRANCHES)
        complete(site, app)

    def test_of_a_relay_are_used_up_by_strangers_on_tcp(self, site: Site, app: Repository) -> None:
        # Given a relay with few descriptors, and connections that take them all
        with socket.create_server(("127.0.0.1", 0)) as server:
            place = server.getsockname()
        site.configure_relay()
        file = site.folder / "relay.yml"
        address = f"tcp://127.0.0.1:{place[1]}"
        file.write_text(file.read_text().replace(site.endpoint("subscribe"), address))
        site.configure(relays=[address])
        file = site.folder / "ci.yml"
        peer = f"address: {address}"
        file.write_text(file.read_text().replace(peer, f"{peer}\n  certificate: keys/relay.cert"))
        relay = site.relay()
        subscriber = site.subscriber()
        app.build(2, BRANCHES)
        site.wait_runs(2)
        with contextlib.ExitStack() as held:
            held.enter_context(limit(relay, resource.RLIMIT_NOFILE, descriptors(relay) + 8))
            for _ in range(40):
                held.enter_context(socket.create_connection(place, timeout=5))
            # When pushes go on, then none of them fails
            app.build(10, BRANCHES, "--single")
        # When the strangers are gone, then all arrives, and new sessions begin again
        supervised(relay, site.relay)
        complete(site, app)
        subscriber.kill()
        site.subscriber()
        app.build(2, BRANCHES)
        complete(site, app)

    def test_of_a_relay_are_used_up_by_strangers_on_ipc(self, site: Site, app: Repository) -> None:
        # Given a relay with few descriptors, and connections that take them all
        site.configure_relay()
        site.configure(relays=[site.endpoint("subscribe")])
        relay = site.relay()
        site.subscriber()
        app.build(2, BRANCHES)
        site.wait_runs(2)
        with contextlib.ExitStack() as held:
            held.enter_context(limit(relay, resource.RLIMIT_NOFILE, descriptors(relay) + 8))
            for name in ("publish", "subscribe") * 20:
                with contextlib.suppress(OSError):
                    held.enter_context(connected(site, name))
            # When pushes go on, then none of them fails
            app.build(10, BRANCHES, "--single")
            # Then libzmq ends the process, on ipc only, and says why
            relay.process.wait(PATIENCE)
        # When its supervisor starts it again, then all arrives
        supervised(relay, site.relay)
        complete(site, app)


def test_strangers_find_no_end_of_descriptors_below_the_hard_limit(
    site: Site, app: Repository
) -> None:
    # Given a subscriber, relay inside, that is started with the soft limit of a login shell
    site.configure(relay={"subscribe": [site.endpoint("subscribe")]})
    command = with_limits("nofile=100", "zmq-subscriber", "--config", "ci.yml")
    daemon = site.start("ci", *command)
    daemon.wait_line("daemon: ready")
    # When more strangers connect than that, and pushes go on
    with contextlib.ExitStack() as held:
        for name in ("publish", "subscribe") * 100:
            held.enter_context(connected(site, name))
        wait_for(lambda: descriptors(daemon) > 200, "the strangers are let in")
        app.build(4, BRANCHES)
        # Then all arrives
        complete(site, app)
    assert daemon.process.poll() is None


def supervised(daemon: Daemon, start: Callable[[], Daemon]) -> None:
    """Start it again if libzmq has ended it: an accept() on ipc without descriptors does that."""
    status = daemon.process.poll()
    if status is not None:
        assert status == -signal.SIGABRT
        assert "Too many open files (src/ipc_listener.cpp" in daemon.said()
        start()


@contextlib.contextmanager
def connected(site: Site, name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(5)
        made.connect(str(site.folder / "run" / name))
        yield made


@pytest.mark.timeout(400)
def test_ten_thousand_garbage_connections_while_pushes_go_on(site: Site) -> None:
    # Given a relay and subscribers, and strangers that connect and say nonsense
    site.configure(relay={"subscribe": [site.endpoint("subscribe")]}, rules=[rule("build")])
    daemon = site.subscriber()
    app = site.repository("team/app")
    client = site.clone(app)
    client.build(2, BRANCHES)
    client.hg("push", "--new-branch")
    site.wait_runs(2)
    before, memory = descriptors(daemon), daemon.memory()
    made: list[int] = []

    def flood(name: str) -> None:
        count = 0
        while count < GARBAGE // 2:
            with contextlib.suppress(OSError), connected(site, name) as one:
                count += 1
                made.append(count)
                one.sendall(NOISES[count % len(NOISES)])

    threads = [threading.Thread(target=flood, args=(name,)) for name in ("publish", "subscribe")]
    for thread in threads:
        thread.start()
    # When pushes go on, then each of them succeeds
    pushes = 0
    while pushes < 5 or any(thread.is_alive() for thread in threads):
        client.build(2, BRANCHES)
        client.hg("push")
        pushes += 1
    for thread in threads:
        thread.join()
    # Then everything arrived, and the strangers have left nothing behind
    complete(site, app)
    assert len(made) == GARBAGE
    wait_for(lambda: descriptors(daemon) <= before + 5, "descriptors given back")
    assert daemon.memory() < memory + (100 << 20)
    print(f"{len(made)} garbage connections during {pushes} pushes")
