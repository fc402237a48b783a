"""The verb `trace`: what a changeset caused here.

    event       each stored event that tells of it: who pushed, when, whether it is held
      delivery  what a rule made of that event
        attempt who ran it, when, how long, and how it ended

Where no rule took the event, each rule of now says why not. Where nothing is known of the changeset
the reasons that there may be are told, first those of which the store shows a sign: not every
changeset is named by an event that comes here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hgext_zmqhooks.service.errors import EXIT
from hgext_zmqhooks.wire import events
from subscriber.engine.rules import RuleSpec, compile_rule
from subscriber.store.base import MAX_LIST, Reader
from subscriber.store.values import Delivery, Incoming, JournalRow, StoredEvent, Wanted
from subscriber.trial import judged
from subscriber.views import (
    Printer,
    delivery_line,
    delivery_row,
    every,
    moment,
    receipt_line,
    receipt_row,
    single,
)

NAMED = 5
"""Repositories that one reason names at most."""

ALWAYS = (
    "no rule wants its branch: only what `when.topic` of a rule fits is read",
    "it was there before the journal began, which tells of that in baselines, without names",
    "it came in a catch-up of more than 1,000, of which there is only a summary",
    "it is secret, was never pushed to a repository that publishes, or the hash is another one's",
)


def trace(store: Reader, out: Printer, node: str, specs: Sequence[RuleSpec]) -> int:
    """Print all of it; PROBLEM where nothing is known. `node`: lower-case hex, or a beginning."""
    found = store.trace(node, MAX_LIST)
    apart = {spec.name for spec in specs if spec.each == "changeset"}
    for stored in found:
        row = _row(stored.record, node)
        out.row(row, _line(row))
        made = list(_deliveries(store, stored, node, apart))
        for item in made:
            _attempts(store, out, item)
        if not made:
            _nothing_made(store, out, stored.record, specs)
    if not found:
        _unknown(store, out, node)
    return EXIT.OK if found else EXIT.PROBLEM


def _deliveries(
    store: Reader, stored: StoredEvent, node: str, apart: Collection[str]
) -> Iterator[Delivery]:
    """What was made of an event; a delivery is made of its last part, or of a changeset's own.

    `apart`: rules that make a delivery of each changeset, of which only this one's counts.
    """
    record = stored.record
    names = dict.fromkeys([record.event_id, f"{record.journal}/{_last(record)}"])
    for name in names:
        for item in every(store, Wanted(event_id=name)):
            ours = item.rule not in apart or (item.node or "").startswith(node)
            if item.first <= record.sequence <= item.last and ours:
                yield item


def _last(record: Incoming) -> int:
    """The sequence of the last part: a journal has the parts of one event in a row."""
    return record.sequence + record.parts - record.part


def _attempts(store: Reader, out: Printer, item: Delivery) -> None:
    out.row(delivery_row(item), f"  {delivery_line(item)}")
    for receipt in store.receipts(item.id):
        out.row(receipt_row(receipt), f"    {receipt_line(receipt)}")


def _nothing_made(store: Reader, out: Printer, record: Incoming, specs: Sequence[RuleSpec]) -> None:
    first = record.sequence - record.part + 1
    lines = store.parts(record.journal, record.branch, first, _last(record))
    if len(lines) < record.parts:
        out.block(f"  no delivery: {len(lines)} of its {record.parts} parts are stored")
        return
    out.block("  no delivery was made of it; by the rules of now:")
    parts = [events.decode(line) for line in lines]
    for spec in specs:
        row, text = judged(compile_rule(spec), parts)
        out.row(row, "".join(f"    {line}\n" for line in text.splitlines()).rstrip("\n"))


def _row(record: Incoming, node: str) -> dict[str, Any]:
    event = events.decode(record.event)
    return {
        "kind": "event",
        "event_id": record.event_id,
        "topic": record.topic,
        "nodes": _nodes(record, node),
        "user": event.pusher.user if event.pusher else None,
        "time": event.time,
        "origin": event.origin,
        "received": moment(record.received),
        "held": record.held,
    }


def _line(row: Mapping[str, Any]) -> str:
    pushed = f"pushed by {row['user'] or '-'} at {row['time']}, received {row['received']}"
    cells = [f"event {row['event_id']}", row["topic"], *row["nodes"], row["origin"], pushed]
    if row["held"]:
        cells.append("HELD, since its signer's certificate had expired")
    return single("  ".join(cells))


def _nodes(record: Incoming, node: str) -> list[str]:
    return [one for one in record.nodes if one.startswith(node)]


def _unknown(store: Reader, out: Printer, node: str) -> None:
    signs = list(_signs(store.journals()))
    row = {"kind": "unknown", "node": node, "signs": signs, "reasons": list(ALWAYS)}
    lines = [f"nothing is known of {node}: no event that is stored tells of it"]
    lines += [f"  {sign}" for sign in signs]
    lines += ["  or:" if signs else "  perhaps:", *(f"  - {reason}" for reason in ALWAYS)]
    out.row(row, "\n".join(map(single, lines)))


def _signs(rows: Sequence[JournalRow]) -> Iterator[str]:
    """Why an event with it may not be here, as far as the store shows it."""
    if not rows:
        yield "nothing was received yet: `status` says whether the daemon runs"
    behind = [f"{row.repo} ({row.head - (row.scanned or 0)})" for row in rows if _behind(row)]
    if behind:
        yield f"not all is read yet of {_some(behind)}"
    stopped = [f"{row.repo} ({row.stopped})" for row in rows if row.stopped]
    if stopped:
        yield f"reading is stopped of {_some(stopped)}"
    late = [f"{row.repo} (after {row.origin})" for row in rows if row.origin]
    if late:
        yield f"reading began late (`start`, or a rule that came later), of {_some(late)}"
    pruned = [f"{row.repo} (up to {row.pruned})" for row in rows if row.pruned]
    if pruned:
        yield f"old events were forgotten, as `keep` says, of {_some(pruned)}"


def _behind(row: JournalRow) -> bool:
    return row.stopped is None and row.head > (row.scanned or 0)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
