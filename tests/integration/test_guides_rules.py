"""The guides to what runs when, followed on a machine with a daemon that runs."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import SUBSCRIBER, TOP, Machine, follow, places
from support.pages import Commands, File, steps
from support.waiting import wait_for

GUIDES = TOP / "docs" / "howto"
WAIT = "while ! test -e go; do sleep 0.05; done\n"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """The set-up of the README, with a daemon and a repository that was pushed to once."""
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        folder = Path(name)
        opened = Machine(folder, folder / "etc" / "mercurial" / "hgrc")
        follow(opened, TOP / "README.md")
        opened.run(f"hg init {folder}/srv/team/app")
        opened.push(folder / "srv" / "team" / "app", "default")
        wait_for(lambda: len(opened.done(config(opened))) == 1)
        yield opened
        opened.stop()


def config(machine: Machine) -> Path:
    return machine.folder / "etc" / "zmqhooks" / "subscriber.yml"


def push(machine: Machine) -> None:
    machine.run("cd clone-default; echo more >> default; hg commit -m more -u a; hg push -q")


def rows(machine: Machine, *verb: str) -> list[dict]:
    said = machine.run(f"{SUBSCRIBER}{config(machine)} {' '.join(verb)} --json")
    return [json.loads(line) for line in said.splitlines()]


def taken_up(machine: Machine) -> None:
    log = machine.folder / "daemon-0.log"
    wait_for(lambda: "taken up what=configuration" in log.read_text())


def test_rules_that_share_a_machine_and_builds_that_skip_what_is_old(machine: Machine) -> None:
    # Given what the page writes, with scripts that wait until they may go on
    page = list(steps(GUIDES / "order-and-limit-actions.md", places(machine.folder)))
    for step in page:
        if isinstance(step, File):
            step.write()
    folder = config(machine).parent
    slow = folder / "deploy.sh"
    slow.write_text(slow.read_text().replace('echo "deployed', WAIT + 'echo "deployed'))
    (folder / "build.sh").write_text(WAIT)
    taken_up(machine)
    # When three pushes come while the first is built
    check, look = [step.text for step in page if isinstance(step, Commands)]
    assert "PROBLEM" not in machine.run(check)
    for _ in range(3):
        push(machine)
    wait_for(lambda: len(rows(machine, "deliveries", "--rule build --state superseded")) == 1)
    # Then the second build is superseded, and the lock is held by one of those that name it
    said = machine.run(look)
    assert "superseded" in said
    (lock,) = [row for row in rows(machine, "status") if row["kind"] == "lock"]
    assert (lock["lock"], lock["repo"]) == ("prod", "team/app")
    assert lock["delivery"] in said
    # and when they go on all of them run, never two with the lock
    (folder / "go").touch()
    wait_for(lambda: len(machine.done(config(machine))) == 1 + 2 + 3 + 3)
    receipts = {
        row["rule"]: machine.output(config(machine), row) for row in machine.done(config(machine))
    }
    assert "deployed" in receipts["deploy"]
    assert "reported" in receipts["report"]
    assert rows(machine, "deliveries", "--state dead") == []


def test_rules_are_changed_while_the_daemon_runs(machine: Machine) -> None:
    replace, look = [
        step.text
        for step in steps(GUIDES / "change-rules-while-it-runs.md", places(machine.folder))
        if isinstance(step, Commands)
    ]
    # Given another configuration, with one rule more
    script = config(machine).with_name("tell.sh")
    script.write_text('echo "told of $ZMQHOOKS_BRANCH"\n')
    more = "  - {name: tell, exec: [sh, tell.sh]}\n"
    config(machine).with_name("next.yml").write_text(config(machine).read_text() + more)
    # When it is looked at and put in the place of the old one
    assert "PROBLEM" not in machine.run(replace)
    taken_up(machine)
    push(machine)
    # Then both rules run, and the former event did not meet the new one
    wait_for(lambda: len(machine.done(config(machine))) == 3)
    assert [row["rule"] for row in machine.done(config(machine))].count("tell") == 1
    assert "runs, process" in machine.run(look)


def test_the_script_of_the_page_about_actions_runs_as_its_rule_says(machine: Machine) -> None:
    page = (GUIDES / "write-an-action.md").read_text()
    (rules,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    work = config(machine).parent / "work"
    work.mkdir()
    (work / "build.sh").write_text(script)
    (work / "build.sh").chmod(0o755)
    before, _, _ = config(machine).read_text().partition("rules:")
    config(machine).write_text(before + rules)
    taken_up(machine)

    push(machine)

    wait_for(lambda: len(machine.done(config(machine))) == 2)
    *_, last = (machine.output(config(machine), row) for row in machine.done(config(machine)))
    assert "1 changesets on default of team/app\n" in last
