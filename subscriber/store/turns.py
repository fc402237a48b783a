"""Whose turn it is: of which rule a delivery is claimed next. Pure.

Each rule keeps the fence of its newest claim as its turn, and the lowest goes first. A rule that
is asked for and has nothing ready, or may not run, is out for the rest of this claim, so that one
claim looks at each rule once and at as many lanes as it gives.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from .values import Terms

NONE = Terms()


class Turns:
    """One claim's view of the rules.

    turns = Turns(terms, running)
    for rule in candidates: turns.add(rule, turn)
    while (rule := turns.next()) is not None:
        ...                         # nothing ready: ask for the next one
        turns.took(rule, fence)
    """

    def __init__(
        self, terms: Mapping[str, Terms] | None, running: Iterable[tuple[str, str | None]]
    ) -> None:
        """`running`: rule and lock of each delivery that runs."""
        self._terms = terms
        self._waiting: list[tuple[int, str]] = []
        self._running: Counter[str] = Counter()
        self._locks: set[str] = set()
        for rule, lock in running:
            self._begin(rule, lock)

    def _begin(self, rule: str, lock: str | None) -> None:
        self._running[rule] += 1
        if lock is not None:
            self._locks.add(lock)

    def terms(self, rule: str) -> Terms:
        """What holds for a rule that may be claimed."""
        return NONE if self._terms is None else self._terms[rule]

    def may_run(self, rule: str) -> bool:
        """Whether a delivery of this rule may begin now."""
        if self._terms is not None and rule not in self._terms:
            return False
        terms = self.terms(rule)
        full = terms.limit is not None and self._running[rule] >= terms.limit
        return not full and terms.lock not in self._locks

    def concerns(self, rule: str, lock: str | None) -> bool:
        """Whether the end of a delivery that runs may let one of our rules begin."""
        if self._terms is None or rule in self._terms:
            return True
        return lock is not None and any(lock == terms.lock for terms in self._terms.values())

    def add(self, rule: str, turn: int) -> None:
        """A rule that may have something ready."""
        heapq.heappush(self._waiting, (turn, rule))

    def __len__(self) -> int:
        """How many rules may have something ready."""
        return len(self._waiting)

    def next(self) -> str | None:
        """The rule whose turn it is, None when no other may run."""
        while self._waiting:
            _, rule = heapq.heappop(self._waiting)
            if self.may_run(rule):
                return rule
        return None

    def took(self, rule: str, fence: int) -> None:
        """A delivery of the rule was claimed: it comes again after the others."""
        self._begin(rule, self.terms(rule).lock)
        self.add(rule, fence)
