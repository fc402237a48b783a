"""Which deliveries a stored transaction makes. Pure: values in, values out.

A rule is written as a `RuleSpec`, compiled once to a `Rule`, and asked about one (transaction,
branch) at a time, with all its parts. All of its conditions must hold; an empty one always does,
one with several entries holds when one of them does:

    topics     patterns over the event's topic
    origins    live, catchup, revealed, ping, baseline. Without this condition a rule sees live,
               catchup and revealed. A ping, or the baseline that a journal begins with (an event
               of type hg.baseline.v1), comes only to rules that name it here.
    changes    which lists of the event must have something in them
    pushers    globs over the user that pushed
    files, users, phases
               globs over a changeset's files and author, and its phase. One changeset must fit
               all three. `phases` alone is fulfilled by a change to that phase too.

What a glob is stands in `globs`. What an event does not list in full (a changeset with `truncated`,
a summary in place of changesets) counts as a match.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hgext_zmqhooks.wire.topics import Pattern, matches_any
from hgext_zmqhooks.wire.values import BASELINE, LISTS, Changeset, Event
from subscriber.store.values import NewDelivery

from .globs import Globs
from .orders import BRANCH, Order, Values, compile_order
from .schedule import DEFAULT, Retry

CHANGES = LISTS
ORIGINS = ("live", "catchup", "revealed", "ping", "baseline")
DEFAULT_ORIGINS = frozenset({"live", "catchup", "revealed"})

Each = Literal["event", "head", "changeset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """A rule as the configuration says it.

    `each`: one delivery per `event` (a transaction's work on one branch), per new `head`, or per
    `changeset` that fits. `timeout` is in seconds.

    How its deliveries run: `order` says which of them one after another (see orders), `latest`
    that of those that wait in one lane only the newest counts, `concurrency` how many at once,
    `lock` which name excludes them and those of other rules that have it, `retry` how often.
    """

    name: str
    topics: tuple[str, ...]
    changes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    pushers: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    each: Each = "event"
    timeout: float = 900.0
    order: str = BRANCH
    latest: bool = False
    concurrency: int | None = None
    lock: str | None = None
    retry: Retry = DEFAULT


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule."""

    spec: RuleSpec
    order: Order
    topics: tuple[Pattern, ...]
    origins: frozenset[str]
    files: Globs
    users: Globs
    pushers: Globs


def compile_rule(spec: RuleSpec) -> Rule:
    """Parse what a rule says.

    wire.errors.Refused for a topic pattern that is none, ValueError for an order that is none.
    """
    return Rule(
        spec=spec,
        order=compile_order(spec.order),
        topics=tuple(Pattern.parse(text) for text in spec.topics),
        origins=frozenset(spec.origins) or DEFAULT_ORIGINS,
        files=Globs(spec.files),
        users=Globs(spec.users),
        pushers=Globs(spec.pushers),
    )


def deliveries(rules: Iterable[Rule], parts: Sequence[Event], created: float) -> list[NewDelivery]:
    """What one transaction makes on one branch, in the order in which it shall run.

    `parts` are all stored events of that transaction and branch, in order; ask when the last
    one has come (`part == parts`).
    """
    return [made for rule in rules if _matches(rule, parts) for made in _make(rule, parts, created)]


def delivery_id(rule: str, event_id: str, node: str | None) -> str:
    """The same id whenever the same rule meets the same event: 26 of a-z and 2-7 (130 bits).

    `node` only where a rule makes several deliveries of one event.

    >>> delivery_id("build", "9f0c/42", None)
    's7t276pz3ah2vicrhq2ly7iioe'
    """
    digest = hashlib.sha256("\0".join((rule, event_id, node or "")).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:26]


def origin(event: Event) -> str:
    """Where the event comes from, in the words of a rule."""
    return "baseline" if event.type == BASELINE else event.origin


def tip(parts: Sequence[Event]) -> str | None:
    """The branch's newest head after the transaction; None where the branch has none left."""
    last = parts[-1]
    if last.heads:
        return last.heads.tip
    if last.summary:
        return last.summary.tip
    nodes = [changeset.node for part in parts for changeset in part.changesets]
    return nodes[-1] if nodes else None


def _matches(rule: Rule, parts: Sequence[Event]) -> bool:
    return all(holds(rule, parts) for holds in CONDITIONS.values())


def _has_topic(rule: Rule, parts: Sequence[Event]) -> bool:
    return matches_any(rule.topics, parts[0].topic)


def _has_origin(rule: Rule, parts: Sequence[Event]) -> bool:
    return origin(parts[0]) in rule.origins


def _has_pusher(rule: Rule, parts: Sequence[Event]) -> bool:
    pusher = parts[0].pusher
    return rule.pushers.fits(pusher.user if pusher else None)


def _has_change(rule: Rule, parts: Sequence[Event]) -> bool:
    wanted = rule.spec.changes
    if not wanted:
        return True
    summarised = "changesets" in wanted and any(part.summary for part in parts)
    return summarised or any(getattr(part, name) for part in parts for name in wanted)


def _has_changeset(rule: Rule, parts: Sequence[Event]) -> bool:
    spec = rule.spec
    if not (spec.files or spec.users or spec.phases):
        return True
    if any(part.summary for part in parts) or any(_fitting(rule, parts)):
        return True
    moved_is_enough = spec.phases and not (spec.files or spec.users)
    moves = (move.new for part in parts for move in part.phases)
    return bool(moved_is_enough) and any(new in spec.phases for new in moves)


CONDITIONS: Mapping[str, Callable[[Rule, Sequence[Event]], bool]] = {
    "topic": _has_topic,
    "origin": _has_origin,
    "pusher": _has_pusher,
    "changes": _has_change,
    "changeset": _has_changeset,
}
"""All that must hold, the cheapest first. `changeset`: files, users and phases together."""


def _fitting(rule: Rule, parts: Sequence[Event]) -> Iterator[tuple[Event, Changeset]]:
    """The changesets that fit the rule, each with the part that holds it."""
    for part in parts:
        for changeset in part.changesets:
            if _fits(rule, changeset):
                yield part, changeset


def _fits(rule: Rule, changeset: Changeset) -> bool:
    if rule.spec.phases and changeset.phase not in rule.spec.phases:
        return False
    if not rule.users.fits(changeset.user):
        return False
    return (
        not rule.spec.files
        or changeset.truncated
        or any(rule.files.fits(file) for file in changeset.files)
    )


def _make(rule: Rule, parts: Sequence[Event], created: float) -> Iterator[NewDelivery]:
    """One delivery per event, new head or changeset.

    A delivery about one changeset gets only the part that holds it, so that a push of many
    changesets does not hand all of them to each action.
    """
    if rule.spec.each == "event":
        yield _delivery(rule, parts, tip(parts), created)
    elif rule.spec.each == "head":
        for node in _new_heads(parts):
            yield _delivery(rule, parts, node, created, own=True)
    else:
        for part, changeset in _fitting(rule, parts):
            yield _delivery(rule, [part], changeset.node, created, own=True)


def _delivery(
    rule: Rule, parts: Sequence[Event], node: str | None, created: float, *, own: bool = False
) -> NewDelivery:
    """`own`: there may be others of the same event, so the node is part of the id."""
    last, name = parts[-1], rule.spec.name
    made = delivery_id(name, last.id, node if own else None)
    user = last.pusher.user if last.pusher else None
    about = _about(last, node, user)
    return NewDelivery(
        id=made,
        rule=name,
        order_key=rule.order(name, made, about),
        repo=last.repo,
        branch=last.branch,
        topic=last.topic,
        journal=last.journal,
        event_id=last.id,
        first=parts[0].sequence,
        last=last.sequence,
        node=node,
        user=user,
        created=created,
        latest=rule.spec.latest,
    )


def _about(event: Event, node: str | None, user: str | None) -> Values:
    """What an order may name."""
    return {
        "repo": event.repo,
        "branch": event.branch,
        "user": user,
        "topic": event.topic,
        "node": node,
    }


def _new_heads(parts: Sequence[Event]) -> list[str]:
    """Heads that the transaction added, each once; of a summary, all it names."""
    added = [node for part in parts if part.heads for node in part.heads.added]
    if not added:
        added = [node for part in parts if part.summary for node in part.summary.heads]
    return list(dict.fromkeys(added))
