"""The verb `status`: totals, the daemon, each relay, each repository, and what waits for a person.

Every finding is a row of its own `kind`: status, journal, relay, held. The way to go on stands in
`next`.
"""

import time
from collections.abc import Callable, Collection, Sequence

from hgext_zmqhooks.service.errors import EXIT
from hgext_zmqhooks.service.words import counted
from subscriber.accept import may_admit
from subscriber.intake.journals import BEYOND
from subscriber.store.base import Reader
from subscriber.store.values import Contact, Held, JournalRow, State
from subscriber.views import Printer, Row, moment

Ages = Callable[[Collection[JournalRow]], dict[str, float | None]]
"""Journals -> how many seconds the oldest event after each one's position waits, by journal."""


def status(store: Reader, out: Printer, ages: Ages, daemon: str | None) -> int:
    """Print all; PROBLEM if a journal is stopped or events are held. `daemon`: its pid."""
    journals = store.journals()
    _totals(store, out, daemon)
    now = time.time()
    seconds = ages(journals)
    newest = {row.repo: row.journal for row in journals}
    rows = [
        _journal(row, seconds.get(row.journal))
        for row in journals
        # Of the ended journals of a repository people need to see only those that are not done.
        if out.as_json or row.stopped or _behind(row) or newest[row.repo] == row.journal
    ]
    head = ["repository", "journal", "position", "head", "behind", "seconds", "state"]
    out.table(head, rows)
    contacts = [_contact(one, now) for one in store.contacts()]
    out.table(["relay", "last beat", "last error"], contacts)
    held = store.held()
    stopped = [row for row in journals if row.stopped]
    for row in stopped:
        out.block(f"{row.repo}: journal {row.journal} is stopped: {row.stopped}\n  {_go_on(row)}")
    for one in held:
        out.row(_held(one), _held_line(one))
    return EXIT.PROBLEM if stopped or held else EXIT.OK


def _totals(store: Reader, out: Printer, daemon: str | None) -> None:
    total = store.status()
    counts = {state.value: total.deliveries[state] for state in State}
    row = {
        "kind": "status",
        "store": store.identity(),
        "daemon": daemon is not None,
        "events": total.events,
        "held_events": total.held_events,
        "deliveries": counts,
        "oldest_open": moment(total.oldest_open),
    }
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    held = f" ({total.held_events} held)" if total.held_events else ""
    runs = "does not run" if daemon is None else f"runs, process {daemon}"
    out.row(row, f"daemon: {runs}\nevents: {total.events}{held}\ndeliveries: {listed}")


def _contact(one: Contact, now: float) -> tuple[Row, Sequence[str]]:
    row = {
        "kind": "relay",
        "relay": one.relay,
        "seen": moment(one.seen),
        "failed": moment(one.failed),
        "error": one.error,
    }
    seen = "never" if one.seen is None else f"{max(0.0, now - one.seen):.0f} s ago"
    error = "none" if one.failed is None else f"{moment(one.failed)} {one.error}"
    return row, [one.relay, seen, error]


def _behind(row: JournalRow) -> int:
    return max(0, row.head - (row.scanned or 0))


def _journal(row: JournalRow, seconds: float | None) -> tuple[Row, Sequence[str]]:
    behind = _behind(row)
    if not behind:
        seconds = 0.0
    found = {
        "kind": "journal",
        "journal": row.journal,
        "repo": row.repo,
        "relay": row.relay,
        "scanned": row.scanned,
        "head": row.head,
        "behind": behind,
        "seconds": None if seconds is None else round(seconds, 1),
        "stopped": row.stopped,
        "next": _go_on(row) if row.stopped else None,
    }
    state = "stopped" if row.stopped else "behind" if behind else "ok"
    age = "?" if seconds is None else f"{seconds:.0f}"
    place = [str(row.scanned or 0), str(row.head), str(behind), age]
    return found, [row.repo, row.journal[:12], *place, state]


def _go_on(row: JournalRow) -> str:
    if may_admit(row):
        return f"if this is as it should be: accept {row.repo} --journal {row.journal}"
    if (row.stopped or "").startswith(BEYOND):
        return f"its next transaction begins another journal; until then: audit {row.repo}"
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
    return (
        f"{one.repo} {one.branch}: {counted(one.count, 'event')} held from sequence {one.first},"
        " signed under a certificate that had expired\n  if this is all right:"
        f" accept {one.repo} {one.branch}"
    )
