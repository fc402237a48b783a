"""`make demo`: shows the way of a push, ends by itself, and says why when something is broken."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_for

TOP = Path(__file__).parents[2]
LIMIT = 110


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo's files go: a short path, for unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="zmqhooks-", dir="/tmp"))
    yield made
    wait_for(lambda: processes_in(made) == [], "the end of what the demo killed", deadline=10)
    shutil.rmtree(made)


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that mention the folder, or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            told += bytes((process / "cwd").readlink())
        except OSError:
            continue
        if os.fsencode(folder) in told:
            found.append(f"{process.name}: {told[:200]!r}")
    return found


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tests.demo", *map(str, arguments)]


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The demo in an environment whose own settings would break it, were they used."""
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "HGRCPATH": "/nonexistent/hgrc",
        "HGPLAIN": "",
        "HGENCODING": "ascii",
        "http_proxy": "http://127.0.0.1:9",
    }
    return subprocess.run(
        command(*arguments),
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def set_up(folder: Path) -> None:
    done = demo("setup", folder)
    assert done.returncode == 0, done.stderr


def failed(folder: Path) -> str:
    """What a run says that must not succeed."""
    done = demo("run", folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"The files are in {folder}" in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_make_demo_runs_it() -> None:
    makefile = (TOP / "Makefile").read_text()

    assert "demo: $(STAMP)" in makefile
    assert "-m tests.demo\n" in makefile


def test_the_demo_shows_the_way_of_every_push() -> None:
    done = demo()

    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(done.stdout.rpartition("The files are in ")[2].strip())
    try:
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith("hg:")]
        assert [(row[0], row[-3], row[-2]) for row in rows] == [
            ("hg:team/app:default:", "build", "0"),
            ("hg:team/app:release-1:", "release", "0"),
            ("hg:team/site:default:", "build", "0"),
            ("hg:team/site:default:", "mark", "0"),
        ]
        assert all(0 <= int(row[-1]) < 60_000 for row in rows)
        assert "bookmark live" in done.stdout
        assert "3 events, each signed by a key that root.pub vouches for" in done.stdout
        assert done.stdout.count("no problems found") == 2
        handed = [json.loads(path.read_bytes()) for path in (folder / "out").iterdir()]
        assert {event["type"] for event in handed} == {"hg.transaction.v1"}
        assert {event["data"]["pusher"]["via"] for event in handed} == {"ssh", "http"}
        assert processes_in(folder) == []
    finally:
        shutil.rmtree(folder)


def test_without_the_key_the_push_fails_and_says_why(folder: Path) -> None:
    set_up(folder)
    key = folder / "keys" / "publisher.key"
    key.unlink()

    said = failed(folder)

    assert f"{key}: does not exist" in said
    assert "zmq-keys quickstart" in said


def test_a_key_that_others_may_read_fails_and_says_why(folder: Path) -> None:
    set_up(folder)
    key = folder / "keys" / "publisher.key"
    key.chmod(0o644)

    assert f"{key}: has mode 0644" in failed(folder)


def test_a_failing_script_is_named_with_its_words(folder: Path) -> None:
    set_up(folder)
    with (folder / "release.sh").open("a") as script:
        script.write("echo 'the disk of the build machine is full' >&2; exit 3\n")

    said = failed(folder)

    assert "the action of rule release failed: exit status 3" in said
    assert "the disk of the build machine is full" in said


def test_a_missing_script_is_named(folder: Path) -> None:
    set_up(folder)
    (folder / "mark.sh").unlink()

    said = failed(folder)

    assert "the action of rule mark failed" in said
    assert str(folder / "mark.sh") in said


def test_a_relay_that_cannot_start_says_why(folder: Path) -> None:
    set_up(folder)
    config = folder / "subscriber.yml"
    config.write_text(config.read_text().replace("/run/publish", "/none/run/publish"))

    said = failed(folder)

    assert "zmq-subscriber" in said
    assert "is not running, it ended with status" in said
    address = f"ipc://{folder}/none/run/publish"
    reason = f"cannot be served: {folder}/none does not exist"
    assert f"{config}: relay.publish: '{address}': {reason}" in said


def test_a_relay_that_is_killed_is_noticed(folder: Path) -> None:
    set_up(folder)
    # The first client action kills the daemon that has the lock of the relay's socket.
    with (folder / "ssh.sh").open("w") as script:
        script.write(f'#!/bin/sh\nkill -9 "$(head -n 1 {folder}/run/publish.lock)"\n')
        script.write('shift\nexec sh -c "$*"\n')

    said = failed(folder)

    assert "is not running, it ended with status -9" in said


def test_an_interrupted_demo_leaves_no_process(folder: Path) -> None:
    set_up(folder)
    running = subprocess.Popen(
        command("run", folder), cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert running.stdout is not None
    assert b"hg push" in running.stdout.readline()
    assert processes_in(folder) != []

    running.send_signal(signal.SIGTERM)

    assert running.wait(LIMIT) == 128 + signal.SIGTERM
    running.stdout.close()
