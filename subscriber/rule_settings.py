"""What a rule says in `subscriber.yml`: one item of `rules`.

name: build
when: {topic: "hg:team/*:default:", changes: changesets, files: ["src/**"]}
each: event                       # event, head, changeset
exec: ["./build.sh"]              # exactly one action; what it may say: actions/settings
timeout: 15m
order: branch                     # branch, repo, none, or a template such as "deploy-{repo}"
overlap: queue                    # or latest
concurrency: 2                    # at most so many at once
lock: deploy-prod                 # those of all rules that name it exclude each other
retry: {attempts: 4, delays: [1s, 10s, 60s], patience: 3d}
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import msgspec

from hgext_zmqhooks.service.config import Duration, Frozen, span
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.actions.redis_settings import RedisSettings
from subscriber.actions.settings import ACTIONS, ExecSettings, Said, wrong_action
from subscriber.actions.webhook_settings import WebhookSettings
from subscriber.actions.wrong import Wrong
from subscriber.engine import schedule
from subscriber.engine.orders import BRANCH, FIELDS, WORDS, compile_order

EVERY_TOPIC = "hg:**:**:"
LIMIT = 900.0
LIMIT_OF_REQUEST = 30.0
MAX_TIMEOUT = 7 * 86400
MAX_ATTEMPTS = 1000
MAX_DELAYS = 100
MAX_PATIENCE = 30 * 86400
MAX_RULES = 1000
MAX_CONCURRENCY = 10_000

Each = Literal["event", "head", "changeset"]
Change = Literal["changesets", "bookmarks", "tags", "phases", "obsoleted", "removed"]
Phase = Literal["public", "draft"]
Origin = Literal["live", "catchup", "revealed", "ping", "baseline"]

_NAME = re.compile("[a-z0-9_-]+")
_LOCK = re.compile("[A-Za-z0-9._-]{1,64}")


class When(Frozen, frozen=True):
    """Conditions, all of which must hold; one left out always does. A list means any of it.

    `topic` defaults to every topic, `origin` to all but ping and baseline. What each of them means
    is told in engine/rules.
    """

    topic: str | tuple[str, ...] = EVERY_TOPIC
    changes: Change | tuple[Change, ...] = ()
    files: str | tuple[str, ...] = ()
    user: str | tuple[str, ...] = ()
    phase: Phase | tuple[Phase, ...] = ()
    pusher: str | tuple[str, ...] = ()
    origin: Origin | tuple[Origin, ...] = ()


class Retry(Frozen, frozen=True):
    """How often a failing action is tried in all, after which delays, and how long it may ask.

    The last delay is for all attempts that follow. What of it means what: engine/schedule. None:
    what is usual for the action.
    """

    attempts: int | None = None
    delays: tuple[Duration, ...] | None = None
    patience: Duration | None = None


class Rule(Frozen, frozen=True):
    """One rule: what it waits for, and what it then does, by exactly one of `ACTIONS`."""

    name: str
    exec: tuple[str, ...] | ExecSettings | None = None
    webhook: WebhookSettings | None = None
    redis: RedisSettings | None = None
    when: When = When()
    each: Each = "event"
    timeout: Duration | None = None
    order: str = BRANCH
    overlap: Literal["queue", "latest"] = "queue"
    concurrency: int | None = None
    lock: str | None = None
    retry: Retry = Retry()

    @property
    def action(self) -> Said:
        """What the rule says of its action; only one that was looked at (`wrong_rules`) has it."""
        return next(iter(self.actions().values()))

    @property
    def limit(self) -> float:
        """Seconds that one attempt may take."""
        usual = LIMIT if self.exec is not None else LIMIT_OF_REQUEST
        return float(usual if self.timeout is None else self.timeout)

    @property
    def retries(self) -> schedule.Retry:
        """How it is tried again, with what is usual for its action."""
        said = msgspec.structs.asdict(self.retry)
        usual = schedule.DEFAULTS.get(next(iter(self.actions()), ""), schedule.DEFAULT)
        return replace(usual, **{key: value for key, value in said.items() if value is not None})

    def actions(self) -> dict[str, Said]:
        """What stands there under keys of actions."""
        given = {name: getattr(self, name) for name in ACTIONS}
        return {name: said for name, said in given.items() if said is not None}


def many(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """A key that takes one text or a list of them.

    >>> many("a"), many(("a", "b"))
    (('a',), ('a', 'b'))
    """
    return (value,) if isinstance(value, str) else tuple(value)


def wrong_rules(rules: tuple[Rule, ...]) -> Iterator[Wrong]:
    """All that is wrong with the rules of a file; keys are paths inside it."""
    if not 0 < len(rules) <= MAX_RULES:
        hint = "`zmq-subscriber init` prints a sample with a rule"
        yield "rules", None, f"{len(rules)} rules, from 1 to {MAX_RULES} are possible", hint
    seen: dict[str, int] = {}
    for at, rule in enumerate(rules):
        if rule.name in seen:
            yield (
                f"rules[{at}].name",
                rule.name,
                f"is the name of rules[{seen[rule.name]}] too",
                "give each rule a name of its own: receipts and order keys go by it",
            )
        seen[rule.name] = at
        for key, value, reason, hint in _wrong_rule(rule):
            yield f"rules[{at}].{key}", value, reason, hint


def _wrong_rule(rule: Rule) -> Iterator[Wrong]:
    if not _NAME.fullmatch(rule.name) or len(rule.name) > 64:
        better = re.sub("[^a-z0-9_-]+", "-", rule.name.lower()).strip("-")[:64] or "build"
        yield "name", rule.name, "not 1 to 64 of a-z, 0-9, _ and -", f"write for example {better}"
    yield from _wrong_actions(rule)
    if not 0 < rule.limit <= MAX_TIMEOUT:
        yield "timeout", span(rule.limit), "not between 0 and 7d", "write for example 15m"
    yield from _wrong_order(rule.order)
    if rule.order == "none" and rule.overlap == "latest":
        reason = "replaces nothing where order is none: each delivery waits by itself"
        yield "overlap", rule.overlap, reason, "write order: branch, or take one of the two out"
    yield from _wrong_retry(rule.retry)
    if rule.concurrency is not None and not 0 < rule.concurrency <= MAX_CONCURRENCY:
        hint = "1 runs one delivery at a time; leave the key out for no limit"
        yield "concurrency", rule.concurrency, f"not between 1 and {MAX_CONCURRENCY}", hint
    if rule.lock is not None:
        yield from _wrong_lock(rule.lock)
    if not many(rule.when.topic):
        yield "when.topic", [], "an empty list matches nothing", "leave the key out for all topics"
    for text in many(rule.when.topic):
        try:
            Pattern.parse(text)
        except Refused as error:
            hint = 'write for example "hg:team/*:default:"'
            yield "when.topic", text, error.detail, hint


def _wrong_lock(name: str) -> Iterator[Wrong]:
    if not _LOCK.fullmatch(name):
        better = re.sub("[^A-Za-z0-9._-]+", "-", name).strip("-")[:64] or "deploy"
        reason = "not 1 to 64 of letters, digits, dot, _ and -"
        yield "lock", name, reason, f"write for example {better}"


def _wrong_order(text: str) -> Iterator[Wrong]:
    try:
        compile_order(text)
    except ValueError as error:
        fields = " ".join(f"{{{name}}}" for name in FIELDS)
        hint = (
            f'write one of {", ".join(WORDS)}, or a template such as "deploy-{{repo}}" of {fields}'
        )
        yield "order", text, str(error), hint


def _wrong_retry(retry: Retry) -> Iterator[Wrong]:
    if retry.attempts is not None and not 0 < retry.attempts <= MAX_ATTEMPTS:
        hint = "1 tries once and never again"
        yield "retry.attempts", retry.attempts, f"not between 1 and {MAX_ATTEMPTS}", hint
    if retry.delays is not None and not 0 < len(retry.delays) <= MAX_DELAYS:
        reason = f"{len(retry.delays)} of them, from 1 to {MAX_DELAYS} are possible"
        yield "retry.delays", [], reason, "write for example [1s, 10s, 60s]"
    for at, delay in enumerate(retry.delays or ()):
        if delay > MAX_TIMEOUT:
            yield f"retry.delays[{at}]", span(delay), "longer than 7d", "write for example 1h"
    if retry.patience is not None and retry.patience > MAX_PATIENCE:
        yield "retry.patience", span(retry.patience), "longer than 30d", "write for example 3d"


def _wrong_actions(rule: Rule) -> Iterator[Wrong]:
    """A rule does one thing: two would need two receipts, two schedules, two orders."""
    given = rule.actions()
    if len(given) == 1:
        yield from wrong_action(*given.popitem())
        return
    names = ", ".join(ACTIONS)
    if given:
        hint = "make a rule of each: deliveries, receipts and retries go by rule"
        yield list(given)[1], None, f"the rule {rule.name} has {' and '.join(given)}", hint
    else:
        hint = f'give it one of {names}, such as exec: ["./build.sh"]'
        yield ACTIONS[0], None, f"missing: the rule {rule.name} does nothing", hint
