"""The page of commands names what can be typed, and nothing else."""

import argparse
import re
from pathlib import Path

import pytest

import subscriber.cli
from hgext_zmqhooks import commands
from hgext_zmqhooks.keys import cli as keys
from hgext_zmqhooks.relay import cli as relay
from hgext_zmqhooks.service.errors import EXIT
from subscriber.store.values import State

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
PARSERS = {
    "zmq-subscriber": subscriber.cli.parser(),
    "zmq-relay": relay._parser(),
    "zmq-keys": keys._parser(),
}


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def first_cells(text: str) -> set[str]:
    return set(re.findall(r"^\| `?([\w-]+)", text, re.MULTILINE)) - {"---"}


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def options(parser: argparse.ArgumentParser) -> set[str]:
    parsers = [parser, *verbs(parser).values()]
    found = {text for each in parsers for a in each._actions for text in a.option_strings}
    return {text for text in found if text.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", PARSERS)
def test_every_verb_is_documented_and_no_other(command: str) -> None:
    assert first_cells(section(command)) == set(verbs(PARSERS[command])) | {"verb"}


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_is_documented_and_no_other(command: str) -> None:
    assert set(re.findall(r"--[a-z][a-z-]*", section(command))) == options(PARSERS[command])


def test_every_option_of_hg_events_is_documented_and_no_other() -> None:
    known = {f"--{option[1].decode()}" for option in commands.cmdtable[b"events"][1]}

    assert set(re.findall(r"--[a-z][a-z-]*", section("hg events"))) == known


def test_every_exit_status_is_documented_and_no_other() -> None:
    assert first_cells(section("Exit statuses")) == {str(int(status)) for status in EXIT} | {
        "status"
    }


def test_every_state_of_a_delivery_is_documented() -> None:
    assert [state for state in State if f"`{state.value}`" not in section("zmq-subscriber")] == []
