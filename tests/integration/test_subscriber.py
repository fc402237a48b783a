"""The subscriber as a process: from journals on disk to commands that ran, however it ends."""

import json
import os
import signal
from pathlib import Path

import pytest
from relaykit import EVERYTHING, Keys, draft
from subscriberkit import Site, burst, site
from support.waiting import wait_for


@pytest.fixture
def here():
    with site() as made:
        yield made


def by_branch(runs: list[dict]) -> dict[str, list[int]]:
    order: dict[str, list[int]] = {}
    for run in runs:
        order.setdefault(run["branch"], []).extend(run["sequences"])
    return order


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_event_runs_its_action_once_in_the_order_of_its_branch(here: Site) -> None:
    repo = here.repo()
    burst(repo, 6)
    daemon = here.start()
    here.wait_runs(6)
    burst(repo, 4)

    runs = here.wait_runs(10)

    assert by_branch(runs) == {"default": [1, 3, 5, 7, 9], "stable": [2, 4, 6, 8, 10]}
    assert {run["attempt"] for run in runs} == {"1"}
    assert len({run["delivery_id"] for run in runs}) == 10
    assert daemon.terminate() == 0
    assert daemon.lines("stopped")


def test_a_restart_goes_on_where_the_last_one_ended(here: Site) -> None:
    repo = here.repo()
    burst(repo, 2)
    first = here.start()
    here.wait_runs(2)
    assert first.terminate() == 0
    burst(repo, 2)

    here.start()

    assert by_branch(here.wait_runs(4)) == {"default": [1, 3], "stable": [2, 4]}


def test_latest_skips_what_was_and_a_new_repository_is_read_from_its_start(here: Site) -> None:
    here.configure(start="latest")
    old = here.repo("old")
    burst(old, 3)
    daemon = here.start()
    old.commit(draft("default"))
    here.wait_runs(1)
    assert daemon.terminate() == 0
    new = here.repo("new")
    burst(new, 2)

    here.start()
    runs = here.wait_runs(3)

    assert sorted((run["repo"], run["sequences"]) for run in runs) == [
        ("new", [1]),
        ("new", [2]),
        ("old", [4]),
    ]


def test_the_first_signal_lets_a_running_action_finish(here: Site) -> None:
    here.script("slow.sh", "#!/bin/sh\ntouch started\nsleep 1\ntouch finished\n")
    here.configure(rules=[here.rule(exec=["./slow.sh"])])
    here.repo().commit(draft())
    daemon = here.start()
    wait_for((here.folder / "started").exists, "the action runs")

    assert daemon.terminate() == 0

    assert (here.folder / "finished").exists()
    (row,) = here.rows("deliveries")
    assert row["state"] == "done"


def test_a_killed_daemon_takes_its_command_along_and_it_runs_again(here: Site) -> None:
    """Given a command that ran at SIGKILL, When a new daemon starts, Then it runs anew, alone."""
    here.script(
        "once.sh",
        "#!/bin/sh\necho $$ >> pids\n[ $(wc -l < pids) = 1 ] && sleep 600\n"
        'echo "$ZMQHOOKS_FENCE $ZMQHOOKS_DELIVERY_ID" >> done\n',
    )
    here.configure(rules=[here.rule(exec=["./once.sh"])])
    here.repo().commit(draft())
    daemon = here.start()
    pids = here.folder / "pids"
    wait_for(lambda: pids.exists() and pids.read_text(), "the action runs")
    daemon.kill()

    again = here.start()
    wait_for((here.folder / "done").exists, "the action ran again")

    assert not alive(int(pids.read_text().split()[0]))
    assert again.terminate() == 0
    (delivery, lost, done) = here.rows("show", here.rows("deliveries")[0]["id"])
    assert delivery["state"] == "done"
    assert (lost["verdict"], lost["counted"], done["verdict"]) == ("lost", False, "done")
    assert done["fence"] > lost["fence"]


def test_a_second_daemon_on_the_same_store_is_refused(here: Site) -> None:
    first = here.start()

    second = here.start(ready=False)

    assert second.process.wait(30) == 1
    assert f"in use by process {first.pid}" in second.said()


def test_a_second_daemon_on_the_same_path_is_told_what_to_write(here: Site) -> None:
    subscribe = f"ipc://{here.folder}/run/subscribe"
    relay = {
        "publish": f"ipc://{here.folder}/run/publish",
        "subscribe": [subscribe],
        "repositories": [f"{here.hg}/**"],
        "key": "relay.key",
    }
    here.write_key("relay.key", here.keys.relay)
    here.configure(relay=relay)
    here.start()
    here.configure(relay=relay, store="sqlite:other.db")

    second = here.start(ready=False)

    assert second.process.wait(30) == 1
    assert "already served by pid" in second.said()
    assert f"relays:\n  - {{address: {subscribe}}}" in second.said()


def two_subscribers(here: Site) -> tuple[Path, Path]:
    """Configurations of one with the relay inside, and of one that follows it over ipc."""
    subscribe = f"ipc://{here.folder}/run/subscribe"
    here.write_key("relay.key", here.keys.relay)
    here.write_key("second.key", here.keys.make("second", read=(EVERYTHING,)))
    here.configure(
        key="second.key",
        relay=None,
        relays=[{"address": subscribe}],
        store="sqlite:second.db",
        rules=[here.rule("second")],
    )
    second = here.config.rename(here.folder / "second.yml")
    here.configure(
        relay={
            "publish": f"ipc://{here.folder}/run/publish",
            "subscribe": [subscribe],
            "repositories": [f"{here.hg}/**"],
            "key": "relay.key",
        },
        rules=[here.rule("first", when={"topic": "hg:none:**:"})],
    )
    return here.config, second


def test_a_second_subscriber_follows_the_relay_of_the_first_and_finds_it_again(here: Site) -> None:
    first, second = two_subscribers(here)
    repo = here.repo()
    burst(repo, 2)
    server = here.start(first)
    follower = here.start(second)
    here.wait_runs(2)

    server.kill()
    follower.wait_line("no session with the relay")
    burst(repo, 2)
    here.start(first)
    runs = here.wait_runs(4)

    assert by_branch(runs) == {"default": [1, 3], "stable": [2, 4]}
    assert {run["rule"] for run in runs} == {"second"}
    assert follower.terminate() == 0


def test_a_relay_whose_certificate_no_root_vouches_for_is_not_spoken_to(here: Site) -> None:
    first, second = two_subscribers(here)
    here.start(first)
    stranger = Keys()
    (here.folder / "run" / "subscribe.cert").write_bytes(stranger.relay.certificate or b"")

    follower = here.start(second, ready=False)

    follower.wait_line("no session with the relay", "relay's certificate is refused")


def test_a_forged_journal_stops_and_is_shown_and_the_others_go_on(here: Site) -> None:
    forged = here.repo("forged", key=Keys().publisher)
    good = here.repo("good")
    burst(forged, 1)
    burst(good, 1)
    daemon = here.start()
    daemon.wait_line("journal stopped", "kind=unknown-root", "repo=forged", "sequence=1")
    here.wait_runs(1)
    burst(good, 1)

    runs = here.wait_runs(2)

    assert {run["repo"] for run in runs} == {"good"}
    done = here.ask("status", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    stopped = {row["repo"]: row["stopped"] for row in rows if row["kind"] == "journal"}
    assert done.returncode == 1
    assert stopped["good"] is None
    assert stopped["forged"].startswith("unknown-root at sequence 1")


def test_an_expired_signature_holds_its_branch_until_a_valid_one_follows(here: Site) -> None:
    expired = here.keys.make("publisher", publish=(EVERYTHING,), nbf=-7200, lasts=-3600)
    repo = here.repo(key=expired)
    repo.commit(draft("default"))
    daemon = here.start()
    daemon.wait_line("event held", "branch=default", "sequence=1")
    (row,) = here.rows("deliveries")
    assert row["state"] == "held"
    repo.signer = type(repo.signer)(here.keys.publisher)

    repo.commit(draft("default"))

    assert by_branch(here.wait_runs(2)) == {"default": [1, 2]}


def test_a_failing_action_is_tried_again_and_then_dead_with_its_output(here: Site) -> None:
    here.script("fail.sh", "#!/bin/sh\necho attempt $ZMQHOOKS_ATTEMPT\nexit 7\n")
    here.configure(rules=[here.rule(exec=["./fail.sh"], retry={"attempts": 2})])
    here.repo().commit(draft())
    daemon = here.start()

    daemon.wait_line("delivery dead", "repo=app", "branch=default", "sequence=1")

    (row,) = here.rows("deliveries", "--state", "dead")
    _, first, second = here.rows("show", row["id"][:8])
    assert (first["exit_status"], second["exit_status"]) == (7, 7)
    assert (first["output"], second["output"]) == ("attempt 1\n", "attempt 2\n")
    assert "exit status 7" in here.ask("show", row["id"]).stdout


def test_a_missing_script_is_a_receipt_that_names_it(here: Site) -> None:
    here.configure(rules=[here.rule(exec=["./gone.sh"], retry={"attempts": 1})])
    here.repo().commit(draft())
    daemon = here.start()

    line = daemon.wait_line("delivery dead")

    assert str(here.folder / "gone.sh") in line


def test_the_log_can_be_json(here: Site) -> None:
    here.repo().commit(draft())
    daemon = here.start()
    assert daemon.terminate() == 0
    command = [*daemon.command, "--log-format", "json"]
    log = here.folder / "json.log"
    again = type(daemon)(command, folder=here.folder, environment=os.environ, log=log)
    here.daemons.append(again)
    again.wait_line('"message": "ready"')

    lines = [json.loads(line) for line in again.said().splitlines()]

    assert {"time", "level", "logger", "message"} <= lines[0].keys()


def test_the_second_signal_leaves_at_once(here: Site) -> None:
    here.script("slow.sh", "#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
    here.configure(rules=[here.rule(exec=["./slow.sh"])])
    here.repo().commit(draft())
    daemon = here.start()
    pid = here.folder / "pid"
    wait_for(lambda: pid.exists() and pid.read_text(), "the action runs")
    daemon.process.terminate()
    daemon.wait_line("stopping")

    daemon.process.terminate()

    assert daemon.process.wait(10) == -signal.SIGTERM
    wait_for(lambda: not alive(int(pid.read_text())), "the command was ended by its runner")
