"""The rules of a configuration as the daemon works by them, made whole before any of it is used."""

from collections.abc import Mapping
from dataclasses import dataclass

from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.actions.base import Action
from subscriber.actions.make import make, refused
from subscriber.actions.place import Place
from subscriber.engine.rules import RuleSpec, compile_rule, deliveries
from subscriber.intake.inbox import Match
from subscriber.rule_settings import Rule, many
from subscriber.settings import Settings, followed


@dataclass(frozen=True, slots=True)
class Compiled:
    """`patterns` and `match` are for the intake, `specs` and `actions` (by rule) for the engine."""

    patterns: tuple[Pattern, ...]
    match: Match
    specs: tuple[RuleSpec, ...]
    actions: Mapping[str, Action]


def compiled(settings: Settings, place: Place) -> Compiled:
    """What the rules want, match and do; `place`: where actions run. ConfigError."""
    specs = tuple(rule_spec(rule) for rule in settings.rules)
    rules = [compile_rule(spec) for spec in specs]
    return Compiled(
        followed(settings),
        lambda parts, created: deliveries(rules, parts, created),
        specs,
        {rule.name: action(settings, rule, place) for rule in settings.rules},
    )


def action(settings: Settings, rule: Rule, place: Place) -> Action:
    """What a rule does. ConfigError where no daemon on this host could do it."""
    at = settings.rules.index(rule)
    for name, said in rule.actions().items():
        for key, value, reason, hint in refused(f"rules[{at}].{name}", said):
            raise ConfigError(settings.file, key, value, reason, hint)
    return make(rule.action, place)


def rule_spec(rule: Rule) -> RuleSpec:
    """A rule as the engine takes it."""
    when = rule.when
    return RuleSpec(
        name=rule.name,
        topics=many(when.topic),
        changes=many(when.changes),
        files=many(when.files),
        users=many(when.user),
        phases=many(when.phase),
        pushers=many(when.pusher),
        origins=many(when.origin),
        each=rule.each,
        timeout=rule.limit,
        order=rule.order,
        latest=rule.overlap == "latest",
        concurrency=rule.concurrency,
        lock=rule.lock,
        retry=rule.retries,
    )
