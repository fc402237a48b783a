"""The chain: whether an event fits behind what a reader already has.

Sequences are dense per journal. Each event also names the one before it on its own branch by
sequence and SHA-256 of its bytes, so that a reader who follows some branches only sees a gap at
the next event of that branch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .values import Event, Link


class Outcome(Enum):
    """What an event is to a reader at a known place."""

    NEXT = "next"
    """It fits: store it and go on."""
    DUPLICATE = "duplicate"
    """The same event was handled before: drop it, count it."""
    GAP = "gap"
    """An event of this branch is missing before it: ask for that one, do not go on."""
    FORK = "fork"
    """Another event has this place: two histories claim one journal. Hold and alarm."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome`, and for GAP and FORK what was expected and seen, for a person."""

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JournalState:
    """What a reader holds of one journal.

    `scanned`: everything up to here was looked at. `branches`: the last stored event of each
    branch. `origin`: the sequence behind which the reader began to read with its present
    patterns; what a branch did up to there may be missing.
    """

    scanned: int
    branches: Mapping[str, Link]
    origin: int = 0


NEXT = Verdict(Outcome.NEXT)
DUPLICATE = Verdict(Outcome.DUPLICATE)


def judge(event: Event, sha256: str, state: JournalState, known: str | None = None) -> Verdict:
    """Whether the event is the next one for a reader in `state`.

    `sha256`: digest of the event's bytes. `known`: the digest that the reader stored for this
    (journal, sequence), if it did.

    A branch is anchored by an event that follows one at or before `origin`, for which the reader
    never asked: the first that it meets, or the next one since it asks for the branch again.

    Behind `origin` an event may come late, at a place that was looked at: somebody left it out
    then. It is judged as any other, by the chain of its branch.
    """
    if known is not None:
        if known == sha256:
            return DUPLICATE
        return Verdict(
            Outcome.FORK,
            f"sequence {event.sequence} is already stored with SHA-256 {known}, came as {sha256}",
        )
    if event.sequence <= min(state.scanned, state.origin):
        return Verdict(
            Outcome.FORK,
            f"sequence {event.sequence} came late: reading began behind {state.origin}",
        )
    last = state.branches.get(event.branch)
    if last is not None and event.sequence <= last.sequence:
        return Verdict(
            Outcome.FORK,
            f"sequence {event.sequence} came after {last.sequence} of the same branch",
        )
    return _chained(event, last, state)


def _chained(event: Event, last: Link | None, state: JournalState) -> Verdict:
    """Compare the event's `previous` with the last event of its branch that the reader has."""
    before = event.previous
    if last == before:
        return NEXT
    stands = f"the branch stands at {last.sequence}, {last.sha256}" if last else "none is stored"
    if before is None:
        return Verdict(Outcome.FORK, f"it begins the branch, but {stands}")
    if before.sequence <= state.origin and (last is None or last.sequence < before.sequence):
        return NEXT
    follows = f"it follows sequence {before.sequence}, {before.sha256}; {stands}"
    if last is None or before.sequence > last.sequence:
        return Verdict(Outcome.GAP, follows)
    return Verdict(Outcome.FORK, follows)
