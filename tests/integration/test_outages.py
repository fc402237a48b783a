"""Whatever was down, stopped or killed: what was pushed arrives once, in its order."""

import itertools
import threading

import pytest
from support.site import Repository, Run, Site, rule
from support.waiting import wait_for

BRANCHES = "default,stable,feature"


def assert_complete(repository: Repository, runs: list[Run]) -> None:
    """Each changeset came in one run, and on each branch in the order in which it was made."""
    by_branch: dict[str, list[str]] = {}
    for run in runs:
        by_branch.setdefault(run.branch, []).extend(run.nodes)
    for branch, nodes in by_branch.items():
        assert nodes == repository.branch_nodes(branch)
    assert sum(map(len, by_branch.values())) == len(repository.nodes())
    for _, lane in itertools.groupby(
        sorted(runs, key=lambda run: (run.rule, run.branch)), lambda run: (run.rule, run.branch)
    ):
        places = [run.place for run in lane]
        assert places == sorted(places, key=lambda place: place[1]), "runs out of order"


def test_pushes_while_no_daemon_runs_arrive_when_it_does(site: Site) -> None:
    # Given a subscriber that ran before, a push it saw, and then none that listens
    site.configure()
    daemon = site.subscriber()
    app = site.repository("team/app")
    client = site.clone(app)
    client.build(3)
    client.hg("push")
    site.wait_runs(1)
    assert daemon.terminate() == 0
    # When pushes go on, also to a repository that nobody has seen
    for _ in range(3):
        client.build(2, "default,stable")
        client.hg("push", "--new-branch")
    other = site.repository("team/other")
    other.build(2)
    # Then each arrives when the subscriber is back, though `start` is latest
    site.subscriber()
    runs = site.wait_runs(8)
    assert_complete(app, [run for run in runs if run.repo == "team/app"])
    assert_complete(other, [run for run in runs if run.repo == "team/other"])
    assert app.verify() == "checked 7 events in 1 journal: no problems found\n"


def test_a_stopped_relay_delays_a_push_by_its_limit_at_most(site: Site) -> None:
    # Given a subscriber, relay inside, that stands still
    site.configure()
    daemon = site.subscriber()
    app = site.repository("team/app")
    app.build(1)
    site.wait_runs(1)
    daemon.freeze()
    # When something is committed, then hg gives up on the live copy when its time is over
    limit = 400
    ran = app.build(1, "default", "--config", f"zmqhooks.live-timeout={limit}", "--debug")
    (line,) = [line for line in ran.out.splitlines() if "live copy" in line]
    assert "no answer in time: 0 of 1 event" in line
    waited = int(line.split()[-2])
    assert limit * 0.8 <= waited < limit + 250
    assert len(site.runs()) == 1
    # and the event arrives when the relay goes on
    daemon.thaw()
    assert_complete(app, site.wait_runs(2))


def test_a_stopped_hg_does_not_stop_others(site: Site) -> None:
    # Given a relay, and a peer that has connected to its publish endpoint and does nothing
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    reader = site.start("idle", "python", "-c", IDLE, site.endpoint("publish"))
    reader.first_output()
    reader.freeze()
    # When somebody commits, then it is confirmed and arrives
    ran = app.build(1, "default", "--debug")
    assert "live copy confirmed: 1 of 1" in ran.out
    site.wait_runs(1)


IDLE = """
import sys, zmq
socket = zmq.Context().socket(zmq.XPUB)
socket.connect(sys.argv[1])
print(socket.recv(), flush=True)
while True:
    socket.poll()
"""


def test_two_subscribers_each_get_everything(site: Site) -> None:
    # Given a subscriber with the relay inside, and a second one, of another name, that follows it
    site.configure(relay={"subscribe": [site.endpoint("subscribe")]})
    first = site.subscriber()
    site.issue("second", "--read", "hg:team/**:default:")
    site.configure(
        "second",
        key="keys/second.key",
        relays=[site.endpoint("subscribe")],
        rules=[rule("mirror")],
    )
    second = site.subscriber("second")
    # When several branches are pushed
    app = site.repository("team/app")
    client = site.clone(app)
    client.build(6, BRANCHES)
    client.hg("push", "--new-branch")
    # Then both ran their scripts, the second one for what its certificate lets it read
    assert_complete(app, site.wait_runs(3, "build"))
    (mirror,) = site.wait_runs(1, "mirror")
    assert mirror.nodes == app.branch_nodes("default")
    # When one of them is down, the other goes on; and what it missed arrives when it is back
    assert second.terminate() == 0
    client.build(3, BRANCHES)
    client.hg("push")
    site.wait_runs(6, "build")
    site.subscriber("second")
    assert [run.branch for run in site.wait_runs(2, "mirror")] == ["default", "default"]
    # When the first one, and with it the relay, is killed and started again, both get the rest
    first.kill()
    client.build(3, BRANCHES)
    client.hg("push")
    site.subscriber()
    assert_complete(app, site.wait_runs(9, "build"))
    assert len(site.wait_runs(3, "mirror")) == 3
    assert len(site.wait_settled(9)) == 9
    assert len(site.wait_settled(3, "second")) == 3


def test_a_relay_of_its_own_that_is_killed_and_started_again(site: Site) -> None:
    # Given zmq-relay and a subscriber that follows it
    site.configure(relays=[site.endpoint("subscribe")])
    site.configure_relay()
    relay = site.relay()
    subscriber = site.subscriber()
    app = site.repository("team/app")
    app.build(1)
    site.wait_runs(1)
    # When the relay is killed and things go on
    relay.kill()
    subscriber.wait_line("no session with the relay")
    app.build(3, BRANCHES)
    # Then they arrive when there is a relay again
    relay = site.relay()
    assert_complete(app, site.wait_runs(4))
    (row,) = [
        row for row in site.status() if row["kind"] == "journal" and row["repo"] == "team/app"
    ]
    assert (row["scanned"], row["behind"], row["stopped"]) == (4, 0, None)
    assert subscriber.terminate() == 0
    assert relay.terminate() == 0
    lag = site.command("zmq-relay", "--config", "relay.yml", "status", "--json").out
    assert '"position": 4' in lag


def test_the_order_of_each_branch_holds_while_many_commit(site: Site) -> None:
    # Given three repositories
    site.configure()
    site.subscriber()
    repositories = [site.repository(f"team/{name}") for name in ("a", "b", "c")]
    # When each is committed to 30 times, on three branches in turn, all at the same time
    threads = [
        threading.Thread(target=one.build, args=(30, BRANCHES, "--single")) for one in repositories
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then every commit made one run, and each branch's runs came in its order
    runs = site.wait_runs(90)
    for one in repositories:
        mine = [run for run in runs if run.repo == one.name]
        assert len(mine) == 30
        assert_complete(one, mine)


@pytest.mark.parametrize("way", ["terminate", "kill"])
def test_a_daemon_that_is_started_again_and_again_loses_and_doubles_nothing(
    site: Site, way: str
) -> None:
    # Given a repository that is committed to all the time
    site.configure()
    daemon = site.subscriber()
    app = site.repository("team/app")
    commits = 40
    begun = threading.Thread(target=app.build, args=(commits, BRANCHES, "--single"))
    begun.start()
    # When the daemon is stopped and started again five times, while actions run
    for number in range(1, 6):
        wait_for(lambda seen=number: len(site.runs()) >= seen * 4, "a few runs more")
        getattr(daemon, way)()
        daemon = site.subscriber()
    begun.join()
    # Then every event is recorded once and was acted upon
    deliveries = site.wait_settled(commits)
    assert len({one["event_id"] for one in deliveries}) == commits
    runs = {run.delivery: run for run in site.runs()}
    assert set(runs) == {one["id"] for one in deliveries}
    assert_complete(app, list(runs.values()))
    # Only a crash may run an action again: then with the same key and a newer fence
    again = len(site.runs()) - len(runs)
    assert again == 0 if way == "terminate" else again <= 5 * 8
    for one in runs.values():
        fences = [run.fence for run in site.runs() if run.delivery == one.delivery]
        assert fences == sorted(set(fences))
    assert app.verify() == f"checked {commits} events in 1 journal: no problems found\n"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_everything_is_killed_again_and_again(site: Site) -> None:
    # Given zmq-relay, a subscriber, and three repositories that are committed to all the time
    site.configure(relays=[site.endpoint("subscribe")])
    site.configure_relay()
    relay, subscriber = site.relay(), site.subscriber()
    repositories = [site.repository(f"team/{name}") for name in ("a", "b", "c")]
    commits = 200
    threads = [
        threading.Thread(target=one.build, args=(commits, BRANCHES, "--single"))
        for one in repositories
    ]
    for thread in threads:
        thread.start()
    # When relay and subscriber are killed in turn, twenty times, each time after some progress
    total = commits * len(repositories)
    for number in range(20):
        before = len({run.delivery for run in site.runs()})
        if number % 2:
            relay.kill()
            relay = site.relay()
        else:
            subscriber.kill()
            subscriber = site.subscriber()
        enough = min(before + 5, total)
        wait_for(
            lambda enough=enough: len({run.delivery for run in site.runs()}) >= enough,
            f"{enough} of {total} runs",
        )
    for thread in threads:
        thread.join()
    # Then every commit was acted upon, in order, and is recorded once
    wait_for(lambda: len({run.delivery for run in site.runs()}) == total, "all runs", 300)
    (totals,) = [row for row in site.status() if row["kind"] == "status"]
    assert totals["events"] == total
    runs = {run.delivery: run for run in site.runs()}
    for one in repositories:
        assert_complete(one, [run for run in runs.values() if run.repo == one.name])
