"""The chain: what comes next, again, too early, too late or from another history."""

import pytest
import wirekit

from hgext_zmqhooks.wire.sequence import JournalState, Outcome, judge
from hgext_zmqhooks.wire.values import Link

OTHER = "e" * 64
CHAIN = wirekit.chain("abab")
A1, B2, A3, B4 = (Link(event.sequence, sha256) for event, sha256 in CHAIN)


def outcome(number: int, state: JournalState, known: str | None = None) -> Outcome:
    event, sha256 = CHAIN[number - 1]
    verdict = judge(event, sha256, state, known)
    assert bool(verdict.detail) is (verdict.outcome in {Outcome.GAP, Outcome.FORK})
    return verdict.outcome


@pytest.mark.parametrize(
    ("number", "state", "expected"),
    [
        (1, JournalState(0, {}), Outcome.NEXT),
        (2, JournalState(1, {"a": A1}), Outcome.NEXT),
        (3, JournalState(2, {"a": A1, "b": B2}), Outcome.NEXT),
        (3, JournalState(2, {"a": A1}), Outcome.NEXT),  # the other branch is not followed
        (3, JournalState(2, {}, origin=2), Outcome.NEXT),  # an anchor
        (3, JournalState(2, {}, origin=1), Outcome.NEXT),
        (3, JournalState(0, {}), Outcome.GAP),  # its first event was kept back
        (4, JournalState(3, {"b": Link(1, OTHER)}), Outcome.GAP),
        (3, JournalState(2, {"a": Link(1, OTHER)}), Outcome.FORK),
        (4, JournalState(3, {"b": Link(3, OTHER)}), Outcome.FORK),
        (2, JournalState(1, {"b": Link(1, OTHER)}), Outcome.FORK),  # it begins a begun branch
        (3, JournalState(2, {"a": Link(3, OTHER)}), Outcome.FORK),
        (2, JournalState(2, {}), Outcome.NEXT),  # left out, and now told
        (3, JournalState(4, {"a": A1}), Outcome.NEXT),
        (3, JournalState(4, {}), Outcome.GAP),  # left out, as the one before it
        (1, JournalState(4, {"a": A3}), Outcome.FORK),  # too late: its branch has gone on
        (2, JournalState(2, {}, origin=2), Outcome.FORK),  # never asked for
        (1, JournalState(3, {"b": B2}, origin=3), Outcome.FORK),
    ],
)
def test_what_an_event_is_to_a_reader(number: int, state: JournalState, expected: Outcome) -> None:
    assert outcome(number, state) is expected


def test_a_stored_event_is_a_duplicate_and_another_in_its_place_a_fork() -> None:
    state = JournalState(4, {"a": A3, "b": B4})

    assert outcome(3, state, known=A3.sha256) is Outcome.DUPLICATE
    assert outcome(3, state, known=OTHER) is Outcome.FORK
