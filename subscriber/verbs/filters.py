"""Which deliveries a verb is about, in words that all verbs take alike."""

import argparse
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection

from subscriber.moments import moment_of
from subscriber.store.values import State, Wanted

_NAMES = ("rule", "repo", "branch")


def moment(text: str) -> float:
    """A word that is a time, as a type for argparse."""
    try:
        return moment_of(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def add_state(parser: ArgumentParser, of: Collection[State] = tuple(State)) -> None:
    """`--state`, one of these, which may be repeated."""
    states = [state.value for state in State if state in of]
    parser.add_argument("--state", choices=states, action="append", help="may be repeated")


def add_filters(parser: ArgumentParser) -> None:
    """`--rule`, `--repo`, `--branch`, `--since` and `--until`."""
    for name in _NAMES:
        parser.add_argument(f"--{name}")
    made = "an age such as 2h, or a time such as 2026-11-21T10:00Z"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=f"made then or later: {made}")
    parser.add_argument("--until", type=moment, metavar="WHEN", help=f"made before: {made}")


def wanted(words: Namespace, states: Collection[State] | None = None) -> Wanted:
    """What the words choose; `states`: where none is named."""
    named = getattr(words, "state", None)
    chosen = frozenset(map(State, named)) if named else states
    return Wanted(
        states=None if chosen is None else frozenset(chosen),
        rule=words.rule,
        repo=words.repo,
        branch=words.branch,
        since=words.since,
        until=words.until,
    )


def any_given(words: Namespace) -> bool:
    """Whether the words choose at all."""
    names = ("state", *_NAMES, "since", "until")
    return any(getattr(words, name, None) is not None for name in names)
