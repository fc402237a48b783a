"""What the README, the tutorial and a guide tell the reader to do, done."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import PATIENCE, TOP, Machine, follow
from support.pages import Commands, File, steps
from support.waiting import wait_for


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: unix sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    opened = Machine(folder, folder / "etc" / "mercurial" / "hgrc")
    yield opened
    opened.stop()


def test_the_set_up_of_the_readme_runs_a_script(machine: Machine) -> None:
    config = machine.folder / "etc" / "zmqhooks" / "subscriber.yml"
    repository = machine.folder / "srv" / "team" / "app"

    follow(machine, TOP / "README.md")
    machine.run(f"hg init {repository}")
    node = machine.push(repository, "default")
    wait_for(lambda: len(machine.done(config)) == 1)

    assert f"pushed to team/app, now at {node}" in machine.output(config, machine.done(config)[0])
    assert "1 changeset" in machine.run(f"cd {repository}; hg events")
    assert "listens" in machine.run(f"cd {repository}; hg events --check")


def test_the_set_up_of_the_readme_is_short() -> None:
    lines = [line for step in steps(TOP / "README.md", {}) for line in step.text.splitlines()]

    assert 10 < len(lines) < 20


def test_the_guide_to_a_second_subscriber(machine: Machine) -> None:
    first = machine.folder / "etc" / "zmqhooks" / "subscriber.yml"
    second = first.with_name("deploy.yml")
    repository = machine.folder / "srv" / "app"
    endpoint = f"ipc://{machine.folder}/run/zmqhooks/subscribe"

    follow(
        machine,
        TOP / "README.md",
        lambda text: text.replace("relay: {", f'relay: {{subscribe: ["{endpoint}"], '),
    )
    follow(machine, TOP / "docs" / "howto" / "second-subscriber.md")
    machine.run(f"hg init {repository}")
    machine.push(repository, "default")
    machine.push(repository, "release-1")
    wait_for(lambda: len(machine.done(second)) == 1)
    wait_for(lambda: len(machine.done(first)) == 1)

    assert "deploying release-1" in machine.output(second, machine.done(second)[0])


class Session:
    """One bash, as a reader has it: jobs, variables and the folder stay from block to block."""

    def __init__(self, machine: Machine, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._bash = subprocess.Popen(
                ["bash"],
                cwd=machine.folder,
                env=machine.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
            )
        self._count = 0
        self.type("set -em\n")

    def type(self, text: str) -> str:
        """Run a block; what it printed."""
        assert self._bash.stdin is not None
        self._count += 1
        before, mark = len(self.said()), f"[block {self._count} done]"
        self._bash.stdin.write(f"{text}echo '{mark}'\n")
        self._bash.stdin.flush()
        wait_for(lambda: mark in self.said() or self._bash.poll() is not None)
        assert mark in self.said(), f"{text}\n{self.said()}"
        return self.said()[before:]

    def said(self) -> str:
        return self._log.read_text()

    def end(self) -> int:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        return self._bash.wait(PATIENCE)


def test_the_tutorial(machine: Machine) -> None:
    place = machine.folder / "first"
    config = place / "subscriber.yml"
    bash = Session(machine, machine.folder / "session.log")
    machine.environment["HGRCPATH"] = str(place / "hgrc")
    said = ""

    for step in steps(TOP / "docs" / "tutorial" / "first-event.md", {"/tmp/first": place}):
        if isinstance(step, File):
            step.write()
        elif isinstance(step, Commands):
            if "deliveries" in step.text:
                wait_for(lambda: len(machine.done(config)) == 1)
            said += bash.type(step.text)

    assert bash.end() == 0
    assert "publish:     hg:**:**:" in said
    assert "no problems found" in said
    assert re.search(r"done +greet +app +default ", said)
    assert "default of app is now at" in said
