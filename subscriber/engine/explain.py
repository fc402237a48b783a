"""Why a rule does not take an event. Pure, and asks the conditions of `rules` themselves.

>>> from hgext_zmqhooks.wire.values import Event, Transaction
>>> event = Event(repo="app", branch="default", journal="0" * 32, sequence=1, time="",
...     transaction=Transaction("t", "serve", None), origin="ping")
>>> spec = RuleSpec(name="build", topics=("hg:lib:*:",), changes=("tags",))
>>> for unmet in why_not(compile_rule(spec), [event]): print(unmet)
topic: hg:app:default: fits none of hg:lib:*:
origin: it is ping, the rule takes catchup, live, revealed
changes: it has none of tags, it has nothing
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hgext_zmqhooks.wire.values import LISTS, Event

from .rules import CONDITIONS, Rule, RuleSpec, compile_rule, deliveries, origin

SHOWN = 5
"""Names that one reason lists at most."""

_OF_CHANGESETS = {"files": "files", "user": "users", "phase": "phases"}
"""Keys of `when` that are about one changeset, and where a RuleSpec has them."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """A condition that does not hold: its key in the configuration, and what it met."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


def why_not(rule: Rule, parts: Sequence[Event]) -> list[Unmet]:
    """Every condition that keeps the rule from making a delivery; none: it makes one."""
    found = [
        unmet
        for name, holds in CONDITIONS.items()
        if not holds(rule, parts)
        for unmet in _REASONS[name](rule, parts)
    ]
    if not found and not deliveries([rule], parts, 0.0):
        found = [Unmet("each", f"the event has no {_each(rule.spec)}")]
    return found


def _each(spec: RuleSpec) -> str:
    return "new head" if spec.each == "head" else "changeset that fits"


def _topic(rule: Rule, parts: Sequence[Event]) -> Iterator[Unmet]:
    yield Unmet("topic", f"{parts[0].topic} fits none of {_some(rule.spec.topics)}")


def _origin(rule: Rule, parts: Sequence[Event]) -> Iterator[Unmet]:
    taken = _some(sorted(rule.origins))
    yield Unmet("origin", f"it is {origin(parts[0])}, the rule takes {taken}")


def _pusher(rule: Rule, parts: Sequence[Event]) -> Iterator[Unmet]:
    pusher = parts[0].pusher
    who = pusher.user if pusher and pusher.user else "nobody that is known"
    yield Unmet("pusher", f"{who} fits none of {_some(rule.spec.pushers)}")


def _changes(rule: Rule, parts: Sequence[Event]) -> Iterator[Unmet]:
    there = [name for name in LISTS if any(getattr(part, name) for part in parts)]
    has = _some(there) if there else "nothing"
    yield Unmet("changes", f"it has none of {_some(rule.spec.changes)}, it has {has}")


def _changeset(rule: Rule, parts: Sequence[Event]) -> Iterator[Unmet]:
    """Keys that no changeset fits; where each has one that fits, that no one fits all."""
    wanted = {key: getattr(rule.spec, name) for key, name in _OF_CHANGESETS.items()}
    wanted = {key: texts for key, texts in wanted.items() if texts}
    alone = [key for key in wanted if not CONDITIONS["changeset"](_only(rule, key), parts)]
    for key in alone:
        met = _some(_met(key, parts)) or "no changeset"
        yield Unmet(key, f"{met}: fits none of {_some(wanted[key])}")
    if not alone:
        yield Unmet(", ".join(wanted), "each is met, but no changeset meets all of them")


def _only(rule: Rule, key: str) -> Rule:
    """The rule with one of the conditions on a changeset."""
    others = {name: () for other, name in _OF_CHANGESETS.items() if other != key}
    return compile_rule(replace(rule.spec, **others))  # type: ignore[arg-type]


def _met(key: str, parts: Sequence[Event]) -> Iterable[str]:
    changesets = [changeset for part in parts for changeset in part.changesets]
    if key == "files":
        return dict.fromkeys(file for changeset in changesets for file in changeset.files)
    name = "user" if key == "user" else "phase"
    return dict.fromkeys(getattr(changeset, name) for changeset in changesets)


def _some(names: Iterable[str]) -> str:
    """The first few.

    >>> _some("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    all_of_them = list(names)
    shown, more = ", ".join(all_of_them[:SHOWN]), len(all_of_them) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


_REASONS: Mapping[str, Callable[[Rule, Sequence[Event]], Iterator[Unmet]]] = {
    "topic": _topic,
    "origin": _origin,
    "pusher": _pusher,
    "changes": _changes,
    "changeset": _changeset,
}
