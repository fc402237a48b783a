"""What an engine does for which rule: a frozen value, so that it can be replaced as a whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from subscriber.actions.base import Action
from subscriber.store.values import Terms

from .rules import RuleSpec


@dataclass(frozen=True, slots=True)
class Work:
    """The rules in force and their actions, by name, and the terms of their claims."""

    specs: Mapping[str, RuleSpec]
    actions: Mapping[str, Action]
    terms: Mapping[str, Terms]


def work(rules: Iterable[RuleSpec], actions: Mapping[str, Action]) -> Work:
    """Rules with what each of them does; KeyError for one that does nothing."""
    specs = {rule.name: rule for rule in rules}
    return Work(
        specs,
        {name: actions[name] for name in specs},
        {name: Terms(spec.lock, spec.concurrency) for name, spec in specs.items()},
    )
