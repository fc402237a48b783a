"""The zmq-relay command as a process: it serves, stops, refuses, and reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import relaykit
import zmq
from support.nobody import unprivileged
from support.waiting import wait_for

from hgext_zmqhooks.relay import report
from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.session import Ack, Beat, Events, Follow

COMMAND = [sys.executable, "-c", "import sys; from hgext_zmqhooks.relay.cli import main; sys.exit(main())"]  # fmt: skip  # noqa: E501

CONFIG = """
key: relay.key
trust: [root.pub]
publish: ipc://{folder}/run/publish
subscribe: [ipc://{folder}/run/subscribe]
broadcast: ipc://{folder}/run/broadcast
repositories: ["hg/**"]
state: relay.db
"""


@pytest.fixture
def place():
    with relaykit.place() as here:
        key = here.folder / "relay.key"
        key.write_bytes(here.keys.relay.encode())
        key.chmod(0o600)
        pem = keyfiles.encode_public_pem(here.keys.root.public)
        (here.folder / "root.pub").write_bytes(pem)
        (here.folder / "relay.yml").write_text(CONFIG.format(folder=here.folder))
        yield here


@pytest.fixture
def daemon(place):
    """Starts zmq-relay; what still runs at the end is killed, by its own handle."""
    started = []

    def start(*options):
        process = subprocess.Popen(
            [*COMMAND, "--config", place.folder / "relay.yml", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def relay(place, *arguments, config="relay.yml"):
    return subprocess.run(
        [*COMMAND, "--config", place.folder / config, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_serves_until_sigterm_and_says_what_it_does(place, daemon):
    repo = place.repo()
    repo.commit()
    process = daemon("--log-format", "json")
    client = place.client()
    client.follow()
    assert [record.sequence for record in client.hear(Events).records] == [1]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    lines = [json.loads(line) for line in err.splitlines()]
    said = [line["message"] for line in lines]
    assert said[:2] == ["relay serves", "session began"]
    assert sorted(said[2:]) == ["session ended", "stopping"], "two threads say them"
    assert (lines[0]["repositories"], lines[1]["subscriber"]) == (1, "ci")
    assert not (place.folder / "run/publish").exists()


def test_after_sigkill_the_next_one_takes_over(place, daemon):
    first = daemon()
    place.client().follow()
    first.kill()
    first.wait(20)
    second = daemon()
    client = place.client()
    client.follow()
    assert second.poll() is None


def test_a_second_daemon_is_refused_with_what_to_do(place, daemon):
    first = daemon()
    place.client().follow()
    second = relay(place)
    assert second.returncode == 1
    assert f"{place.folder}/run/publish is already served by pid {first.pid}" in second.stderr
    assert f"hint: one relay per address: stop process {first.pid}" in second.stderr
    assert "instead of `relay:`" not in second.stderr
    assert first.poll() is None


def test_a_key_without_the_role_is_refused_at_start(place):
    (place.folder / "relay.key").write_bytes(place.keys.subscriber.encode())
    refused = relay(place)
    assert refused.returncode == 78
    assert "does not have the role 'relay'" in refused.stderr
    assert f"{place.folder}/relay.yml: key: " in refused.stderr
    assert "--name ci --read 'hg:**:**:' --role relay --out" in refused.stderr


def test_a_misspelt_glob_and_an_ending_certificate_are_told_at_the_start(place, daemon):
    text = (place.folder / "relay.yml").read_text()
    (place.folder / "relay.yml").write_text(text.replace('"hg/**"', '"hgg/**"'))
    ending = place.keys.make("relay", roles=("relay",), nbf=-9000, lasts=900)
    (place.folder / "relay.key").write_bytes(ending.encode())

    process = daemon()
    log = ""
    while "expires" not in log:
        line = process.stderr.readline()
        assert line, log
        log += line

    assert f"no repository found: is it misspelt? key=repositories value={place.folder}/hgg" in log
    assert "the certificate of 'relay' expires" in log


def test_help_says_that_no_verb_runs_the_relay(place):
    assert "verbs (none: run the relay)" in relay(place, "--help").stdout


def test_a_loose_key_is_refused(place):
    (place.folder / "relay.key").chmod(0o644)
    refused = relay(place)
    assert refused.returncode == 78
    assert "0644" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status"), [(["forget", "ci"], 2), (["nonsense"], 2), (["--nonsense"], 2)]
)
def test_what_is_not_a_verb(place, arguments, status):
    assert relay(place, *arguments).returncode == status


def test_a_wrong_configuration_is_78_with_a_hint(place):
    path = place.folder / "relay.yml"
    path.write_text(path.read_text().replace("state:", "staet:"))
    refused = relay(place, "check")
    assert refused.returncode == 78
    assert (
        f"{path}: staet: 'relay.db': unknown key\nhint: did you mean \"state\"?" in refused.stderr
    )


class TestStatus:
    def rows(self, place, **options):
        done = relay(place, "status", "--json", **options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_before_any_relay_has_run(self, place):
        done = relay(place, "status")
        assert done.returncode == 69
        assert "no relay has run" in done.stderr

    def test_lag_in_events_and_seconds(self, place, daemon):
        repo = place.repo()
        for _ in range(3):
            repo.commit()
        daemon()
        client = place.client()
        client.follow(positions={repo.head().journal: 1})
        events = client.hear(Events)
        client.say(Ack({events.journal: 3}, 0))
        wait_for(lambda: (place.folder / "relay.db").exists() and self.rows(place), "a row")
        (row,) = wait_for(lambda: [one for one in self.rows(place) if one["position"] == 3], "ack")
        assert (row["subscriber"], row["repo"], row["head"]) == ("ci", "team/app", 3)
        assert (row["lag"], row["seconds"]) == (0, 0.0)
        client.close()
        repo.commit()
        repo.commit()
        (row,) = self.rows(place)
        assert (row["head"], row["lag"]) == (5, 2)
        assert 0 <= row["seconds"] < 60
        assert abs(datetime.fromisoformat(row["seen"]).timestamp() - time.time()) < 60
        assert row["seen"].endswith("Z")
        text = relay(place, "status").stdout
        assert "team/app" in text

    def test_with_the_configuration_of_a_subscriber(self, place, daemon):
        repo = place.repo()
        repo.commit()
        section = "".join(f"  {line}\n" for line in CONFIG.strip().splitlines())
        config = f"name: ci\nrules: []\nrelay:\n{section.format(folder=place.folder)}"
        (place.folder / "subscriber.yml").write_text(config)
        daemon()
        place.client().follow()
        wait_for((place.folder / "relay.db").exists, "the state")
        assert wait_for(partial(self.rows, place, config="subscriber.yml"), "a row")
        assert relay(place, "check", config="subscriber.yml").returncode == 0
        refused = relay(place, config="subscriber.yml")
        assert refused.returncode == 78
        assert "zmq-subscriber --config" in refused.stderr


class TestCheck:
    def rows(self, place, status):
        done = relay(place, "check", "--json")
        assert done.returncode == status, done.stderr + done.stdout
        return {
            Path(row["path"]).name: row["problems"]
            for row in map(json.loads, done.stdout.splitlines())
        }

    def test_a_sound_repository(self, place):
        place.repo().commit()
        assert self.rows(place, 0) == {"app": []}
        assert "app: ok (team/app at 1)" in relay(place, "check").stdout

    def test_readers_of_the_broadcast_that_are_refused(self, place):
        place.repo().commit()
        old = place.keys.make("old", read=(relaykit.EVERYTHING,), nbf=-60, lasts=-1)
        half = place.keys.make("half", read=("hg:team/**:**:",))
        for key in (place.keys.subscriber, old, half):
            (place.folder / f"{key.name}.cert").write_bytes(key.certificate)
        text = CONFIG.replace("ipc://{folder}/run/broadcast", "tcp://127.0.0.1:5702")
        text += "broadcast-readers: [ci.cert, old.cert, half.cert]\n"
        (place.folder / "relay.yml").write_text(text.format(folder=place.folder))

        rows = self.rows(place, 1)

        refused = "this reader of the broadcast is refused: "
        assert rows.pop("app") == []
        assert rows.pop("old.cert") == [f"{refused}the certificate of 'old' is expired"]
        (problem,) = rows.pop("half.cert")
        assert problem.startswith(f"{refused}'half' may not read everything")
        assert rows == {}

        # The daemon starts unless a reader can never read.
        refusal = relay(place)
        assert refusal.returncode == 78
        assert f"{place.folder}/half.cert: 'half' may not read everything" in refusal.stderr
        assert "hint: zmq-keys issue --root" in refusal.stderr

    def test_no_repository_at_all(self, place):
        ((_, problems),) = self.rows(place, 1).items()
        assert problems == ["no repository found"]

    def test_changesets_without_a_journal(self, place):
        repo = place.repo()
        assert self.rows(place, 0) == {"app": []}, "empty: nothing to journal yet"
        (repo.store / "00changelog.i").write_bytes(b"revlog")
        (problem,) = self.rows(place, 1)["app"]
        assert problem.startswith("not journalled")

    def test_a_torn_record(self, place):
        repo = place.repo()
        repo.commit()
        path = repo.store / "zmqhooks-events"
        content = bytearray(path.read_bytes())
        content[content.rindex(b'"sequence":1')] ^= 1
        path.write_bytes(content)
        (problem,) = self.rows(place, 1)["app"]
        assert "torn record" in problem

    def test_an_abandoned_transaction(self, place):
        repo = place.repo()
        repo.commit()
        (repo.store / "journal").write_bytes(b"00changelog.i\x000\n")
        assert self.rows(place, 1)["app"] == ["abandoned transaction: run `hg recover` there"]
        lock = repo.store / "lock"
        lock.symlink_to(f"{os.uname().nodename}:{os.getpid()}")
        assert self.rows(place, 0) == {"app": []}, "somebody writes right now"
        lock.unlink()
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            gone.wait(20)
        lock.symlink_to(f"{os.uname().nodename}/f000:{gone.pid}")
        assert self.rows(place, 1)["app"] == ["abandoned transaction: run `hg recover` there"]
        lock.unlink()
        lock.symlink_to(f"another-host:{gone.pid}")
        assert self.rows(place, 0) == {"app": []}, "who knows what runs there"

    @pytest.mark.parametrize("closed", ["hg", "hg/team", "hg/team/app", "hg/team/app/.hg/store"])
    def test_a_folder_that_is_closed_to_the_relay_is_named(self, place, closed):
        place.folder.chmod(0o755)
        repo = place.repo()
        repo.commit()
        assert repo.folder == place.folder / "hg/team/app"
        folder = place.folder / closed
        folder.chmod(0o700 if os.geteuid() == 0 else 0)

        with unprivileged() as user:
            rows = list(report.check((f"{place.folder}/hg/**",)))
        folder.chmod(0o755)

        ((problem,),) = [row.problems for row in rows]
        assert f"{folder} (" in problem
        assert f"by user {user}" in problem

    def test_a_folder_that_is_not_there_is_named(self, place):
        problems = [row.problems for row in report.check((f"{place.folder}/none/**",))]

        assert problems == [(f"not looked into: {place.folder}/none does not exist",)]

    @pytest.mark.parametrize("missing", ["store"])
    def test_a_store_that_is_not_there(self, place, missing):
        repo = place.repo()
        shutil.rmtree(repo.folder / ".hg" / missing)
        (problem,) = self.rows(place, 1)["app"]
        assert problem.startswith("not readable")


def test_a_subscriber_that_floods_and_hangs_up_ends_nobody_else(place, daemon):
    """libzmq aborts when a peer leaves whose messages fill a socket: the relay keeps it empty."""
    repo = place.repo()
    process = daemon()
    wait_for((place.folder / "run" / "subscribe").exists, "the relay serves")
    honest = place.client()
    honest.follow()
    heavy = (*[f"hg:x{number}/**:**:" for number in range(999)], relaykit.EVERYTHING)

    for _ in range(3):
        flood = place.client(key=place.keys.make("flood", read=(relaykit.EVERYTHING,)))
        flood.follow()
        frames = flood.session.send(Follow(heavy, {}))
        for _ in range(1500):
            if not flood.socket.poll(200, zmq.POLLOUT):
                break
            flood.socket.send_multipart(frames)
        flood.close()
        honest.say(Beat())
        repo.commit()
        honest.hear(Events)

    assert process.poll() is None
