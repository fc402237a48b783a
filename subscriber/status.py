"""The verb `status`: totals, the daemon, each relay, each repository, and what waits for a person.

Every finding is a row of its own `kind`: status, journal, relay, lock, limit, paused, rule, held,
certificate. The way to go on stands in `next`. What open deliveries wait for: see waiting.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.service.errors import EXIT
from hgext_zmqhooks.service.words import counted
from subscriber import waiting
from subscriber.accept import may_admit
from subscriber.intake.journals import BEYOND
from subscriber.store.base import Reader
from subscriber.store.values import Contact, Held, JournalRow, State, Terms
from subscriber.views import Printer, Row, moment
from subscriber.waiting import Open

UNKNOWN_ROOT = "unknown-root"
REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the journals on this host say themselves, by journal; empty where they are elsewhere.

    `heads`: their newest sequences. `seconds`: how long the oldest event after our position waits.
    `current`: those that a repository goes on with, and where it is.
    """

    heads: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    current: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """Whether a daemon runs. `pid`: None if none does; `command`: what starts it."""

    pid: str | None
    command: str

    def __str__(self) -> str:
        if self.pid is None:
            return f"does not run; start it with: {self.command}"
        return f"runs, process {self.pid}"


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate of ours whose time ends or has ended (`over`), and how it is renewed."""

    key: str
    text: str
    hint: str
    over: bool


@dataclass(frozen=True, slots=True)
class Around:
    """What `status` needs besides the store.

    `look`: asked for what the journals on this host say. `rules`: those in force, with their
    terms; `roots`: the trusted ones, for a person.
    """

    running: Running
    look: Callable[[Collection[JournalRow]], Seen]
    rules: Mapping[str, Terms]
    roots: str
    expiries: Sequence[Expiry] = ()


def status(store: Reader, out: Printer, around: Around) -> int:
    """Print all; PROBLEM if no daemon runs, a relay is lost, or something waits for a person."""
    journals = store.journals()
    seen = around.look(journals)
    lost = {one.relay for one in store.contacts() if _is_lost(one)}
    _totals(store, out, around.running)
    now = time.time()
    newest = {(row.repo, row.relay): row.journal for row in journals}
    # Of the ended journals of a repository people need to see only those that are not done.
    shown = [
        row
        for row in journals
        if out.as_json
        or row.stopped
        or _behind(row, seen)
        or row.journal in {newest[row.repo, row.relay], *seen.current}
    ]
    old = {row.journal for row in shown if around.running.pid is None or row.relay in lost}
    rows = [
        _journal(row, seen, around, old=row.journal in old - seen.heads.keys()) for row in shown
    ]
    head = ["repository", "journal", "position", "head", "behind", "seconds", "state"]
    out.table(head, rows)
    out.table(["relay", "last beat", "last error"], [_contact(c, now) for c in store.contacts()])
    found = waiting.find_open(store)
    out.table(waiting.HEAD, list(waiting.locks(found, around.rules)))
    for row, text in waiting.limits(found, around.rules):
        out.row(row, text)
    undecided = list(_undecided(store, journals, seen, around, found))
    for row, text in undecided:
        out.row(row, text) if row else out.block(text)
    over = any(one.over for one in around.expiries)
    for one in around.expiries:
        out.row(_expiry(one), f"{one.key}: {one.text}\n  {one.hint}")
    bad = around.running.pid is None or lost or undecided or over
    return EXIT.PROBLEM if bad else EXIT.OK


def _undecided(
    store: Reader, journals: Sequence[JournalRow], seen: Seen, around: Around, found: Open
) -> Iterator[tuple[Row, str]]:
    """What waits for a person; an empty row where the journal's own tells it already."""
    for row in journals:
        if row.stopped:
            reason = f"{row.repo}: journal {row.journal} is stopped: {row.stopped}"
            yield {}, f"{reason}\n  {_go_on(row, around)}"
    for repo, places in _twins(journals, seen):
        text = f"{repo}: {len(places)} repositories have this name: {', '.join(places)}"
        hint = "give one of them another name: `zmqhooks.repo` in its .hg/hgrc, or another place"
        yield {"kind": "twins", "repo": repo, "paths": places, "next": hint}, f"{text}\n  {hint}"
    yield from waiting.paused(found, store.paused())
    yield from waiting.gone(found, around.rules)
    for held in store.held():
        yield _held(held), _held_line(held)


def _twins(journals: Sequence[JournalRow], seen: Seen) -> Iterator[tuple[str, list[str]]]:
    """Names that several repositories of this host have now."""
    places = defaultdict(set)
    for row in journals:
        if row.journal in seen.current:
            places[row.repo].add(seen.current[row.journal])
    return ((repo, sorted(found)) for repo, found in places.items() if len(found) > 1)


def _expiry(one: Expiry) -> Row:
    return {
        "kind": "certificate",
        "key": one.key,
        "reason": one.text,
        "over": one.over,
        "next": one.hint,
    }


def _totals(store: Reader, out: Printer, running: Running) -> None:
    total = store.status()
    counts = {state.value: total.deliveries[state] for state in State}
    row = {
        "kind": "status",
        "store": store.identity(),
        "daemon": running.pid is not None,
        "events": total.events,
        "held_events": total.held_events,
        "deliveries": counts,
        "oldest_open": moment(total.oldest_open),
    }
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    held = f" ({total.held_events} held)" if total.held_events else ""
    out.row(row, f"daemon: {running}\nevents: {total.events}{held}\ndeliveries: {listed}")


def _is_lost(one: Contact) -> bool:
    """Whether the newest that is known of a relay is an error."""
    return one.failed is not None and (one.seen is None or one.seen < one.failed)


def _contact(one: Contact, now: float) -> tuple[Row, Sequence[str]]:
    row = {
        "kind": "relay",
        "relay": one.relay,
        "seen": moment(one.seen),
        "failed": moment(one.failed),
        "error": one.error,
        "lost": _is_lost(one),
    }
    seen = "never" if one.seen is None else f"{max(0.0, now - one.seen):.0f} s ago"
    error = "none" if one.failed is None else f"{moment(one.failed)} {one.error}"
    if one.failed is not None and not _is_lost(one):
        error = f"over: {error}"
    return row, [one.relay, seen, error]


def _head(row: JournalRow, seen: Seen) -> int:
    return max(row.head, seen.heads.get(row.journal, 0))


def _behind(row: JournalRow, seen: Seen) -> int:
    return max(0, _head(row, seen) - (row.scanned or 0))


def _journal(
    row: JournalRow, seen: Seen, around: Around, *, old: bool
) -> tuple[Row, Sequence[str]]:
    """`old`: its head is what was last heard, and may have moved since."""
    behind = _behind(row, seen)
    seconds = seen.seconds.get(row.journal) if behind else 0.0
    found = {
        "kind": "journal",
        "journal": row.journal,
        "repo": row.repo,
        "relay": row.relay,
        "scanned": row.scanned,
        "head": _head(row, seen),
        "current": not old,
        "behind": behind,
        "seconds": None if seconds is None else round(seconds, 1),
        "stopped": row.stopped,
        "next": _go_on(row, around) if row.stopped else None,
    }
    state = "stopped" if row.stopped else "behind" if behind else "unknown" if old else "ok"
    age = "?" if seconds is None or old else f"{seconds:.0f}"
    place = [str(row.scanned or 0), str(_head(row, seen)), "?" if old else str(behind), age]
    return found, [row.repo, row.journal[:12], *place, state]


def _go_on(row: JournalRow, around: Around) -> str:
    if (row.stopped or "").startswith(REVOKED):
        return (
            f"if all of it up to {row.head} is genuine: accept {row.repo} --journal {row.journal};"
            " what comes later needs another key there: zmq-keys rotate"
        )
    if may_admit(row):
        return f"if this is as it should be: accept {row.repo} --journal {row.journal}"
    if (row.stopped or "").startswith(BEYOND):
        return f"its next transaction begins another journal; until then: audit {row.repo}"
    if (row.stopped or "").startswith(UNKNOWN_ROOT):
        return (
            "if its publisher is to be trusted add its root.pub to `trust`; else give hg there a"
            f" key under a root that is trusted: {around.roots}. `zmq-keys show N.key` names a"
            " key's root"
        )
    return "it is tried again by itself; `hg events --verify` there tells what is wrong"


def _held(one: Held) -> Row:
    return {
        "kind": "held",
        "repo": one.repo,
        "branch": one.branch,
        "journal": one.journal,
        "first": one.first,
        "last": one.last,
        "count": one.count,
        "next": f"accept {one.repo} {one.branch}",
    }


def _held_line(one: Held) -> str:
    count = counted(one.count, "event")
    return (
        f"{one.repo} {one.branch}: {count} held from sequence {one.first}, signed under a"
        f" certificate that had expired\n  if this is all right: accept {one.repo} {one.branch}"
    )
