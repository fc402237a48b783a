"""The guide to webhooks, followed: its receiver verifies what a push makes the daemon send."""

import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.machine import SUBSCRIBER, TOP, Machine, follow, places
from support.pages import Commands, File, steps
from support.waiting import wait_for

from subscriber.settings import load_settings

PAGE = TOP / "docs" / "howto" / "send-a-webhook.md"
RULES = re.findall(r"^```yaml\n(rules:.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """The set-up of the README; a short path, since unix sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        opened = Machine(Path(name), Path(name) / "etc" / "mercurial" / "hgrc")
        follow(opened, TOP / "README.md")
        opened.stop()
        opened.daemons.clear()
        yield opened
        opened.stop()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_receiver_verifies_what_a_push_sends(machine: Machine) -> None:
    etc, port = machine.folder / "etc" / "zmqhooks", free_port()
    config = etc / "subscriber.yml"
    make_secret, look = (
        step.text for step in steps(PAGE, places(machine.folder)) if isinstance(step, Commands)
    )
    (receiver,) = (step for step in steps(PAGE, places(machine.folder)) if isinstance(step, File))

    # Given the secret, the rule and the receiver of the page
    machine.run(make_secret)
    settings = yaml.safe_load(config.read_text())
    rule = yaml.safe_load(RULES[0].replace("8500", port))
    config.write_text(yaml.safe_dump(settings | rule))
    File(receiver.path, receiver.text.replace("8500", port)).write()
    with (machine.folder / "seen").open("w") as seen:
        listening = subprocess.Popen([sys.executable, receiver.path], stdout=seen)
    try:
        # When something is pushed
        machine.start(f"{SUBSCRIBER}{config}")
        repository = machine.folder / "srv" / "team" / "app"
        machine.run(f"hg init {repository}")
        machine.push(repository, "default")

        # Then the receiver verified it, and the commands say so
        wait_for(lambda: machine.done(config))
        (delivery,) = machine.done(config)
        said = (machine.folder / "seen").read_text()
        assert said == f"team/app default {delivery['id']}\n"
        assert "HTTP 204 No Content" in machine.output(config, delivery)
        shown = machine.run(look)
        assert "PROBLEM" not in shown
        assert delivery["id"] in shown
    finally:
        listening.kill()
        listening.wait()


@pytest.mark.parametrize("text", RULES)
def test_every_rule_of_the_page_is_accepted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "subscriber.yml"
    path.write_text(
        "key: a\ntrust: [b]\nrelays: [{address: 'ipc:///c/d'}]\nstore: sqlite:e\n" + text
    )

    assert all(rule.webhook for rule in load_settings(path).rules)
