"""The guide to running a fleet, followed: server, user, functions, daemons, another password."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.machine import SUBSCRIBER, TOP, Machine, places
from support.pages import File, steps
from support.valkey import binary, free_port
from support.waiting import wait_for

PAGE = TOP / "docs" / "howto" / "run-a-fleet.md"
HGRC = """[extensions]
hgext_zmqhooks =
[zmqhooks]
key = {etc}/publisher.key
relay = ipc://{folder}/run/zmqhooks/publish
root = {folder}/srv
"""
RELAY = """key: relay.key
trust: [root.pub]
publish: ipc://{folder}/run/zmqhooks/publish
subscribe: [ipc://{folder}/run/zmqhooks/subscribe]
repositories: ["{folder}/srv/**"]
state: relay.db
"""
CLI = """#!{python}
# Stands for valkey-cli: a command as words, with -x its last one from standard input; or lines.
import sys, redis, shlex
client = redis.Redis(port={port}, decode_responses=True)
words = sys.argv[1:]
if words[:1] == ["-x"]:
    print(client.execute_command(*words[1:], sys.stdin.read()))
elif words:
    print(client.execute_command(*words))
else:
    for line in sys.stdin:
        print(client.execute_command(*shlex.split(line)))
"""


class Here(Machine):
    """The machine of the guide: hosts, relay and server in one. `port`: the server's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder / "hgrc")
        self.port = free_port()
        self.etc = folder / "etc" / "zmqhooks"
        self.started: list[subprocess.Popen[bytes]] = []
        self.server = ""
        words = {"folder": folder, "etc": self.etc, "port": self.port, "python": sys.executable}
        (folder / "hgrc").write_text(HGRC.format(**words))
        self.program("valkey-cli", CLI.format(**words))
        self.program("valkey-server", f'#!/bin/sh\nexec {binary()} "$@"\n')
        self.environment["PATH"] = f"{folder}/bin:{self.environment['PATH']}"
        self.run(f"zmq-keys quickstart {self.etc}")
        (self.etc / "relay.yml").write_text(RELAY.format(**words))

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def spawn(self, command: str) -> Path:
        """Start what goes on; its output."""
        path = self.folder / f"output-{len(self.started)}"
        with path.open("wb") as out:
            made = subprocess.Popen(command.split(), env=self.environment, stdout=out, stderr=out)
        self.started.append(made)
        return path

    def serve(self) -> None:
        """Start the server with the guide's command."""
        self.spawn(self.server)
        wait_for(self.is_up, "the server")

    def serve_again(self) -> None:
        """End the server and start it again."""
        (running,) = (each for each in self.started if each.args == self.server.split())
        self.started.remove(running)
        running.terminate()
        running.wait(60)
        self.serve()

    def change(self, text: str) -> str:
        """What differs on the machine of a test: addresses, and a port that is free."""
        address = '"tcp://hg1.example.com:5701", certificate: hg1.cert'
        text = text.replace(address, f'"ipc://{self.folder}/run/zmqhooks/subscribe"')
        text = text.replace("/var/lib/valkey", f"{self.folder}/valkey")
        return text.replace("6379", str(self.port))

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.ConnectionError:
            return False

    def close(self) -> None:
        for process in [*self.daemons, *self.started]:
            process.terminate()
            process.wait(60)


@pytest.fixture
def machine() -> Iterator[Here]:
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        folder = Path(name)
        places(folder)
        made = Here(folder)
        yield made
        made.close()


def follow(machine: Here) -> list[str]:
    """Set up as the guide says; the commands that it has for later: of another password."""
    later: list[str] = []
    instead = places(machine.folder) | {"/etc/valkey": machine.folder / "etc" / "valkey"}
    for step in steps(PAGE, instead):
        text = machine.change(step.text)
        if isinstance(step, File):
            File(step.path, text).write()
        elif "valkey-server" in text:
            *make, machine.server = text.strip().splitlines()
            machine.run("\n".join(make))
            machine.serve()
        elif "redis.new" in text or later:
            later.append(text)
        elif text.startswith(SUBSCRIBER) and len(text.split()) == 3:
            machine.start(text)
        elif not text.rstrip().endswith("deliveries"):
            machine.run(text)
    return later


def test_two_daemons_and_another_password(machine: Here) -> None:
    # Given a relay with a repository, and the scripts of the page
    repository = machine.folder / "srv" / "team" / "app"
    machine.run(f"hg init {repository}")
    served = machine.spawn(f"zmq-relay --config {machine.etc}/relay.yml")
    wait_for(lambda: "relay serves" in served.read_text(), "the relay")
    for name in ("build", "deploy"):
        script = machine.etc / f"{name}.sh"
        script.write_text("#!/bin/sh\necho $ZMQHOOKS_BRANCH\n")
        script.chmod(0o755)
    # When the page is followed, and a second daemon is started with a state of its own
    later = follow(machine)
    config = machine.etc / "ci.yml"
    second = machine.etc / "ci2.yml"
    second.write_text(config.read_text().replace("/var/ci\n", "/var/ci2\n"))
    assert second.read_text() != config.read_text()
    machine.start(f"{SUBSCRIBER}{second}")
    # Then what is pushed is done once
    machine.push(repository, "release-1")
    wait_for(lambda: len(machine.done(config)) == 2, "both rules are done")
    assert {row["rule"] for row in machine.done(second)} == {"build", "deploy"}
    # When the password is changed as the page says
    before = (machine.etc / "ci.redis").read_text()
    for text in later:
        machine.run(text)
    assert (machine.etc / "ci.redis").read_text() != before
    assert (machine.etc / "ci.redis").stat().st_mode & 0o777 == 0o600
    # Then everything goes on, and the old one counts no more
    machine.push(repository, "release-2")
    wait_for(lambda: len(machine.done(config)) == 4, "all is done")
    user, _, password = before.strip().partition(":")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=machine.port, username=user, password=password).ping()
    # When the server is started again
    machine.serve_again()
    # Then it knows its user, and all goes on by itself
    machine.push(repository, "release-3")
    wait_for(lambda: len(machine.done(config)) == 6, "all is done again")
