"""What open deliveries wait for: named locks, limits, paused rules, rules that are gone.

For `status`, which prints it, and for the daemon's log. Kinds of rows:

    lock    a named lock that is held: by which delivery, since when, by which daemon, who waits
    limit   a rule of which as many run as may
    paused  a rule that an operator paused
    rule    a rule that is not configured any more, though deliveries of it are open
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.service.words import counted
from subscriber.store.base import MAX_LIST, OPEN, Delivery, Paused, Reader, State, Terms, Wanted
from subscriber.views import Row, moment

HEAD = ["lock", "rule", "delivery", "repository", "branch", "held by", "since", "waiting"]


@dataclass(slots=True)
class Open:
    """The open deliveries: which run, and how many of each rule wait to."""

    running: list[Delivery] = field(default_factory=list)
    waiting: Counter[str] = field(default_factory=Counter)
    by_rule: Counter[str] = field(default_factory=Counter)


def find_open(store: Reader) -> Open:
    """Look at all that is open, page by page."""
    found, after = Open(), 0
    while page := store.deliveries(Wanted(states=OPEN, after=after), MAX_LIST):
        after = page[-1].number
        for item in page:
            found.by_rule[item.rule] += 1
            if item.state is State.RUNNING:
                found.running.append(item)
            elif item.state is not State.HELD:
                found.waiting[item.rule] += 1
    return found


def gone_rules(found: Open, rules: Collection[str]) -> dict[str, int]:
    """How much is open of rules that are not configured any more: nothing runs it."""
    return {rule: count for rule, count in sorted(found.by_rule.items()) if rule not in rules}


def locks(found: Open, terms: Mapping[str, Terms]) -> Iterator[tuple[Row, Sequence[str]]]:
    """The named locks that are held, as rows of a table below `HEAD`."""
    for item in sorted(found.running, key=lambda item: item.lock or ""):
        if item.lock is None:
            continue
        rules = {item.rule} | {name for name, each in terms.items() if each.lock == item.lock}
        waiting = sum(found.waiting[name] for name in rules)
        row = {
            "kind": "lock",
            "lock": item.lock,
            "delivery": item.id,
            "rule": item.rule,
            "repo": item.repo,
            "branch": item.branch,
            "owner": item.owner,
            "since": moment(item.claimed),
            "waiting": waiting,
        }
        since = moment(item.claimed) or ""
        place = [item.repo, item.branch, item.owner or "", since, str(waiting)]
        yield row, [item.lock, item.rule, item.id, *place]


def limits(found: Open, terms: Mapping[str, Terms]) -> Iterator[tuple[Row, str]]:
    """Rules of which no more may run now, although some wait."""
    running = Counter(item.rule for item in found.running)
    for name, each in sorted(terms.items()):
        if each.limit is not None and running[name] >= each.limit and found.waiting[name]:
            row = {
                "kind": "limit",
                "rule": name,
                "concurrency": each.limit,
                "running": running[name],
                "waiting": found.waiting[name],
            }
            waits = counted(found.waiting[name], "delivery")
            yield row, f"rule {name}: {running[name]} of {each.limit} run, {waits} waiting"


def paused(found: Open, rules: Iterable[Paused]) -> Iterator[tuple[Row, str]]:
    """Rules that an operator paused."""
    for one in rules:
        row = {
            "kind": "paused",
            "rule": one.rule,
            "who": one.who,
            "at": moment(one.at),
            "reason": one.reason,
            "waiting": found.waiting[one.rule],
            "next": f"resume {one.rule}",
        }
        why = f": {one.reason}" if one.reason else ""
        waits = counted(found.waiting[one.rule], "delivery")
        text = f"rule {one.rule}: paused by {one.who} at {moment(one.at)}{why}; {waits} waiting"
        yield row, f"{text}\n  to go on: resume {one.rule}"


def gone(found: Open, rules: Collection[str]) -> Iterator[tuple[Row, str]]:
    """Rules that are not configured any more, though something of them is open."""
    for rule, count in gone_rules(found, rules).items():
        go_on = f"write the rule again: then they run; or: dead --give-up --rule {rule}"
        row = {"kind": "rule", "rule": rule, "open": count, "next": go_on}
        waits = f"{counted(count, 'delivery')} of it, open, and nothing runs them"
        yield row, f"rule {rule}: it is not configured any more; {waits}\n  {go_on}"
