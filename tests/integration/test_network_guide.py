"""The guide to serving over a network, followed: relay, subscriber and reader by tcp."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import relaykit
from support.machine import SUBSCRIBER, TOP, Machine, places
from support.pages import File, steps
from support.waiting import wait_for

PAGE = TOP / "docs" / "howto" / "serve-over-a-network.md"
HGRC = """[extensions]
hgext_zmqhooks =
[zmqhooks]
key = {etc}/publisher.key
relay = ipc://{folder}/run/zmqhooks/publish
root = {folder}/srv
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """With the keys of a quickstart, and hg set up."""
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        folder = Path(name)
        etc = folder / "etc" / "zmqhooks"
        places(folder)
        made = Machine(folder, folder / "hgrc")
        (folder / "hgrc").write_text(HGRC.format(etc=etc, folder=folder))
        made.run(f"zmq-keys quickstart {etc}")
        yield made


@pytest.fixture
def spawn(machine: Machine) -> Iterator:
    """Starts a command of the page that goes on; its output."""
    started = []

    def start(command: str) -> Path:
        path = machine.folder / f"output-{len(started)}"
        with path.open("wb") as out:
            process = subprocess.Popen(
                command.split(), env=machine.environment, stdout=out, stderr=out
            )
        started.append(process)
        return path

    yield start
    for process in started:
        process.terminate()
        process.wait(relaykit.DEADLINE)


def test_a_subscriber_and_a_reader_elsewhere(machine: Machine, spawn) -> None:
    ports = {number: free_port() for number in ("5701", "5702")}

    def change(text: str) -> str:
        """What differs on the machine of a test: addresses, and ports that are free."""
        for old, new in ports.items():
            text = text.replace(f":{old}", f":{new}")
        return text.replace("hg1.example.com", "127.0.0.1").replace("192.0.2.0/24", "127.0.0.0/8")

    repository = machine.folder / "srv" / "team" / "app"
    machine.run(f"hg init {repository}")
    outputs = {}
    for step in steps(PAGE, places(machine.folder)):
        command = step.text.strip()
        if isinstance(step, File):
            File(step.path, change(step.text)).write()
        elif command.startswith(("zmq-relay", "python3")) and not command.endswith("check"):
            outputs[command.split()[0]] = spawn(command)
            if command.startswith("zmq-relay"):
                wait_for(lambda: "relay serves" in outputs["zmq-relay"].read_text(), "the relay")
        elif command.startswith(SUBSCRIBER) and not command.endswith("check"):
            machine.start(command)
        else:
            machine.run(command)

    machine.push(repository, "release-1")
    config = machine.folder / "etc" / "zmqhooks" / "deploy.yml"
    wait_for(lambda: len(machine.done(config)) == 1, "the delivery")
    assert "deploying" in machine.output(config, machine.done(config)[0])

    heard = outputs["python3"]
    pushes = iter(range(2, 100))
    wait_for(
        lambda: heard.read_text() or machine.push(repository, f"release-{next(pushes)}") == "",
        "the reader",
    )
    assert heard.read_text().startswith("hg:team/app:release-")
    machine.stop()


def free_port() -> int:
    with relaykit.place() as place:
        return place.tcp().port
