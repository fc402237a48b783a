"""The chain: only the next event is ever the next one."""

from dataclasses import replace

import wirekit
from hypothesis import given
from hypothesis import strategies as st

from hgext_zmqhooks.wire.sequence import JournalState, Outcome, judge
from hgext_zmqhooks.wire.values import Event, Link

journals = st.text("abc", min_size=1, max_size=12)
orders = st.lists(st.integers(0, 11), max_size=40)


class Reader:
    """Stores what is judged to be next; `origin` is where it began."""

    def __init__(self, origin: int = 0) -> None:
        self.state = JournalState(origin, {}, origin)
        self.stored: dict[int, str] = {}
        self.accepted: list[int] = []

    def take(self, event: Event, sha256: str) -> Outcome:
        known = self.stored.get(event.sequence)
        outcome = judge(event, sha256, self.state, known).outcome
        if outcome is Outcome.NEXT:
            self.accepted.append(event.sequence)
            self.stored[event.sequence] = sha256
            branches = {**self.state.branches, event.branch: Link(event.sequence, sha256)}
            scanned = max(self.state.scanned, event.sequence)
            self.state = replace(self.state, scanned=scanned, branches=branches)
        return outcome


@given(journals, st.integers(0, 12))
def test_a_whole_chain_is_accepted(branches: str, origin: int) -> None:
    """From any point on, every event of an undisturbed journal is the next one."""
    reader = Reader(origin)
    for event, sha256 in wirekit.chain(branches)[origin:]:
        assert reader.take(event, sha256) is Outcome.NEXT


@given(journals, orders, st.integers(0, 6))
def test_no_order_but_the_right_one_is_accepted(
    branches: str, order: list[int], origin: int
) -> None:
    """Shuffled, doubled or dropped, what is accepted of a branch is in order and has no hole."""
    chain = wirekit.chain(branches)
    reader = Reader(origin)

    for index in order:
        if origin <= index < len(chain):
            event, sha256 = chain[index]
            seen = event.sequence in reader.stored
            outcome = reader.take(event, sha256)
            assert (outcome is Outcome.DUPLICATE) is seen

    for branch in set(branches):
        whole = [event.sequence for event, _ in chain[origin:] if event.branch == branch]
        accepted = [number for number in reader.accepted if number in whole]
        # The first event met of a branch that began before `origin` may be any that follows
        # directly what was never asked for, which is the first one behind `origin`.
        assert accepted == whole[: len(accepted)]


@given(journals, st.integers(0, 11), st.text(min_size=1, max_size=5))
def test_another_event_in_a_place_is_never_accepted_behind_it(
    branches: str, index: int, other: str
) -> None:
    """Who changes one event of a chain is caught at the next event of that branch."""
    chain = wirekit.chain(branches)
    index %= len(chain)
    event, sha256 = chain[index]
    forged = replace(event, transaction=replace(event.transaction, name=other + "?"))
    reader = Reader()
    for value, digest in chain[:index]:
        reader.take(value, digest)
    assert reader.take(forged, "0" * 64) is Outcome.NEXT
    assert reader.take(event, sha256) is Outcome.FORK

    behind = [reader.take(*pair) for pair in chain[index + 1 :] if pair[0].branch == event.branch]
    assert Outcome.NEXT not in behind
