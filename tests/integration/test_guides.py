"""The guides for bad nights, followed on a machine where the thing has gone wrong."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import SUBSCRIBER, TOP, Machine, follow, places
from support.pages import Commands, steps
from support.waiting import wait_for

GUIDES = TOP / "docs" / "howto"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: unix sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="zmqhooks-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    """The set-up of the README, with a daemon and a repository that was pushed to once."""
    opened = Machine(folder, folder / "etc" / "mercurial" / "hgrc")
    follow(opened, TOP / "README.md")
    opened.run(f"hg init {repository(opened)}")
    opened.push(repository(opened), "default")
    wait_for(lambda: len(opened.done(config(opened))) == 1)
    yield opened
    opened.stop()


def repository(machine: Machine) -> Path:
    return machine.folder / "srv" / "team" / "app"


def config(machine: Machine) -> Path:
    return machine.folder / "etc" / "zmqhooks" / "subscriber.yml"


def commands(machine: Machine, page: str) -> list[str]:
    found = steps(GUIDES / page, places(machine.folder))
    return [step.text for step in found if isinstance(step, Commands)]


def push_again(machine: Machine) -> str:
    """What a push from the same clone says, and how it ends."""
    return machine.run(
        "cd clone-default; echo more >> default; hg commit -m more -u a;"
        " hg push -q 2>&1 || echo refused"
    )


def test_each_step_of_the_way_can_be_looked_at(machine: Machine) -> None:
    said = [
        machine.run(f"cd {repository(machine)}; {text}")
        for text in commands(machine, "nothing-happens.md")
    ]

    assert "1 changeset" in said[0]
    assert "listens" in said[0]
    assert "ci:          acknowledged after" in said[1]
    assert f"{repository(machine)}: ok (team/app at 2)" in said[2]
    assert "PROBLEM" not in said[3]
    (line,) = [line.split() for line in said[4].splitlines() if " build " in line]
    assert line[1:5] == ["done", "build", "team/app", "default"]


def restart(machine: Machine) -> None:
    """Stop the daemon that runs, and start it again."""
    machine.stop()
    machine.daemons.clear()
    machine.start(f"{SUBSCRIBER}{config(machine)}")


def test_keys_are_rotated_under_the_same_root_and_under_another_one(machine: Machine) -> None:
    keys = [config(machine).with_name(f"{name}.key") for name in ("subscriber", "publisher")]
    seen = [path.read_bytes() for path in keys]
    rotate, root, rotate_again = commands(machine, "rotate-a-key.md")

    for done, texts in enumerate([[rotate], [root, rotate_again]], 2):
        said = "".join(machine.run(text) for text in texts)
        restart(machine)
        assert push_again(machine) == ""

        assert "PROBLEM" not in said
        wait_for(lambda: len(machine.done(config(machine))) == done)  # noqa: B023
        seen += [path.read_bytes() for path in keys]
    assert len(set(seen)) == 6


def test_a_key_is_revoked(machine: Machine) -> None:
    prepare, revoke = commands(machine, "revoke-a-key.md")
    page = (GUIDES / "revoke-a-key.md").read_text()
    (setting,) = re.findall(r"^revocations: .*$", page, re.MULTILINE)
    publisher = config(machine).with_name("publisher.key")
    shown = json.loads(machine.run(f"zmq-keys show --json {publisher}"))

    # When the list is made and named, then the key rotated and its old certificate revoked
    machine.run(prepare)
    own = setting.replace("/etc/zmqhooks", str(config(machine).parent))
    config(machine).write_text(f"{config(machine).read_text()}{own}\n")
    stolen = publisher.read_bytes()
    machine.run(revoke.replace("SERIAL", shown["serial"]))
    restart(machine)

    # Then pushes go on with the new key, and those with the old one do not
    assert push_again(machine) == ""
    wait_for(lambda: len(machine.done(config(machine))) == 2)
    publisher.write_bytes(stolen)
    push_again(machine)
    status = f"{SUBSCRIBER}{config(machine)} status || true"
    wait_for(lambda: "revoked at sequence" in machine.run(status))
    assert len(machine.done(config(machine))) == 2


def test_a_lost_store_is_filled_from_the_journals_again(machine: Machine) -> None:
    (prepare,) = commands(machine, "store-lost-or-damaged.md")
    machine.stop()
    machine.daemons.clear()
    (machine.folder / "var" / "ci.db").unlink()

    machine.run(prepare)
    machine.start(f"{SUBSCRIBER}{config(machine)}")

    wait_for(lambda: len(machine.done(config(machine))) == 1)
    push_again(machine)
    wait_for(lambda: len(machine.done(config(machine))) == 2)


def test_a_dead_delivery_is_understood_and_runs_again(machine: Machine) -> None:
    script = config(machine).with_name("build.sh")
    good = script.read_text()
    script.write_text("echo no disk; exit 65\n")
    push_again(machine)
    listed = f"{SUBSCRIBER}{config(machine)} dead --json"
    wait_for(lambda: machine.run(listed) != "")
    (dead,) = map(json.loads, machine.run(listed).splitlines())
    find, understand, attempt, redeliver, several = commands(machine, "when-an-action-fails.md")

    assert dead["id"] in machine.run(find)
    assert "no disk" in machine.run(understand.replace("ID", dead["id"]))
    script.write_text(good)
    assert "done: " in machine.run(attempt)
    machine.run(redeliver.replace("ID", dead["id"][:10]))

    wait_for(lambda: len(machine.done(config(machine))) == 2)
    assert machine.run(listed) == ""

    # And so do all of a rule, which here is one
    script.write_text("exit 65\n")
    push_again(machine)
    wait_for(lambda: machine.run(listed) != "")
    script.write_text(good)
    machine.run(several)
    wait_for(lambda: len(machine.done(config(machine))) == 3)


def test_a_rule_is_paused_and_resumed(machine: Machine) -> None:
    pause, waiting, resume = commands(machine, "pause-a-rule.md")

    machine.run(pause)
    push_again(machine)
    wait_for(lambda: " pending " in machine.run(waiting))
    machine.run(resume)

    wait_for(lambda: len(machine.done(config(machine))) == 2)


def test_a_rule_is_tried_and_run(machine: Machine) -> None:
    ask, run = commands(machine, "try-a-rule.md")
    before = machine.done(config(machine))

    assert "rule build: matches, 1 delivery" in machine.run(ask)
    said = machine.run(run)
    assert "pushed to team/app" in said
    assert said.splitlines()[-1].startswith("done: ")
    assert machine.done(config(machine)) == before


def test_the_guide_to_what_happens_names_what_the_commands_say() -> None:
    page = (GUIDES / "nothing-happens.md").read_text()
    source = "".join(
        path.read_text()
        for room in ("hgext_zmqhooks", "subscriber")
        for path in (TOP / room).rglob("*.py")
    )

    for words in re.findall(r"^- \*\*`([^`]+)`", page, re.MULTILINE):
        known = {"retrying", "dead", "pending", "done", "unknown command 'events'"}
        assert words in known or words in source, words


def test_a_lost_key_is_replaced_and_pushes_go_on_meanwhile(machine: Machine) -> None:
    page = (GUIDES / "hg-refuses-to-write.md").read_text()
    hgrc = machine.folder / "etc" / "mercurial" / "hgrc"
    normal = hgrc.read_text()
    config(machine).with_name("publisher.key").unlink()

    said = push_again(machine)
    assert "refused" in said
    assert "publisher.key: does not exist" in said

    (pause,) = re.findall(r"^```ini\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    hgrc.write_text(normal + pause)
    assert push_again(machine) == ""

    (issue,) = commands(machine, "hg-refuses-to-write.md")
    machine.run(issue)
    hgrc.write_text(normal.replace("publisher.key", "publisher-2.key"))
    assert push_again(machine) == ""

    wait_for(lambda: len(machine.done(config(machine))) == 3)
    listed = machine.run(f"cd {repository(machine)}; hg events")
    assert "catchup: 2 changesets" in listed
    assert machine.run(f"{SUBSCRIBER}{config(machine)} status")


def test_a_damaged_journal_is_set_aside(machine: Machine) -> None:
    page = (GUIDES / "hg-refuses-to-write.md").read_text()
    assert "```\nhg events --verify\nhg events --repair\n```" in page
    events = repository(machine) / ".hg" / "store" / "zmqhooks-events"
    content = bytearray(events.read_bytes())
    content[content.rindex(b'"sequence":')] ^= 1
    events.write_bytes(content)

    said = push_again(machine)
    assert "refused" in said
    assert "zmqhooks-events of team/app is damaged" in said

    machine.run(f"cd {repository(machine)}; hg events --verify || hg events --repair")
    assert push_again(machine) == ""
    assert "no problems found" in machine.run(f"cd {repository(machine)}; hg events --verify")
