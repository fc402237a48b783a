"""The guide to Redis, followed on a real server: after a push the head is one look-up away."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.machine import SUBSCRIBER, TOP, Machine, follow, places
from support.pages import Commands, steps
from support.valkey import Server
from support.waiting import wait_for

PAGE = TOP / "docs" / "howto" / "write-to-redis.md"

CLIENT = f"""#!{sys.executable}
# As redis-cli, which is not installed everywhere: -p PORT COMMAND [ARGUMENT…]
import sys, redis
answer = redis.Redis(port=int(sys.argv[2]), decode_responses=True).execute_command(*sys.argv[3:])
print(answer)
"""


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


def test_after_a_push_the_head_is_there(machine: Machine) -> None:
    config = machine.folder / "etc" / "zmqhooks" / "subscriber.yml"
    page = PAGE.read_text()
    (acl,) = re.findall(r"^```\n(ACL .*)\n```", page, re.MULTILINE)
    (rules,) = re.findall(r"^```yaml\n(rules:.*?)^```", page, re.MULTILINE | re.DOTALL)
    _install, credentials, look = (
        step.text for step in steps(PAGE, places(machine.folder)) if isinstance(step, Commands)
    )
    tool = machine.folder / "bin" / "redis-cli"
    tool.parent.mkdir()
    tool.write_text(CLIENT)
    tool.chmod(0o755)
    machine.environment["PATH"] = f"{tool.parent}:{machine.environment['PATH']}"

    with Server(machine.folder / "valkey") as server:
        # Given the user, its file and the rule of the page
        server.client().execute_command(*acl.split())
        machine.run(credentials)
        settings = yaml.safe_load(config.read_text())
        rule = yaml.safe_load(rules.replace("6379", str(server.port)))
        config.write_text(yaml.safe_dump(settings | rule))
        machine.start(f"{SUBSCRIBER}{config}")

        # When something is pushed
        repository = machine.folder / "srv" / "team" / "app"
        machine.run(f"hg init {repository}")
        node = machine.push(repository, "default")

        # Then the commands of the page show it
        wait_for(lambda: machine.done(config))
        head, entries = machine.run(look.replace("6379", str(server.port))).splitlines()
        assert json.loads(head)["node"] == node
        assert node in entries
        assert "PROBLEM" not in machine.run(f"{SUBSCRIBER}{config} check")
