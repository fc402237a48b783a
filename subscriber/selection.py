"""Which deliveries an order is about: those named by id, or those that filters choose.

An order to one delivery is done at once. What filters choose may be more than the operator thinks,
so more than one is listed first, and is done only when the order is repeated with --yes. It is
done to exactly those that were found at that moment, by id.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.service.words import counted
from subscriber.store.base import Reader
from subscriber.store.values import Delivery, State, Wanted
from subscriber.views import every, find_delivery

SHOWN = 20
"""Deliveries that a question to the operator lists; there may be a million."""


@dataclass(slots=True)
class Selection:
    """What was chosen: all ids, and of the newest ones the deliveries.

    `rules`, `states`: how many there are of each. `left`: named ones that the order is not for.
    """

    ids: list[str] = field(default_factory=list)
    shown: list[Delivery] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)
    left: list[Delivery] = field(default_factory=list)

    def add(self, item: Delivery) -> None:
        """One more, newer than those before."""
        self.ids.append(item.id)
        self.shown = [*self.shown, item][-SHOWN:]
        self.rules[item.rule] += 1
        self.states[item.state] += 1

    def __str__(self) -> str:
        """How many of which rule and in which state."""
        rules = ", ".join(f"{name} {count}" for name, count in sorted(self.rules.items()))
        states = ", ".join(f"{state.value} {count}" for state, count in sorted(self.states.items()))
        return f"{counted(len(self.ids), 'delivery')} ({rules}; {states})"


def named(store: Reader, names: Sequence[str], states: Collection[State]) -> Selection:
    """Those named by their ids or a beginning; ServiceError for a name that is not one delivery's.

    `states`: those that the order is for.
    """
    found = Selection()
    items = {item.id: item for item in (find_delivery(store, name) for name in names)}
    for item in sorted(items.values(), key=lambda item: item.number):
        if item.state in states:
            found.add(item)
        else:
            found.left.append(item)
    return found


def chosen(store: Reader, wanted: Wanted) -> Selection:
    """Those that fit."""
    found = Selection()
    for item in every(store, wanted):
        found.add(item)
    return found
