"""What the reading verbs print: deliveries, show; and how all verbs print.

The daemon may run meanwhile.
Each finding is a mapping; `--json` prints it as one line, the text form as something to read.
Names and output come from others: control characters in them never reach the terminal.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hgext_zmqhooks.service.errors import EXIT, ServiceError
from hgext_zmqhooks.service.table import aligned
from hgext_zmqhooks.service.words import counted
from subscriber.store.base import MAX_LIST, Reader
from subscriber.store.values import Delivery, Receipt, State, StoredEvent, Wanted

Row = Mapping[str, object]

_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is although a terminal obeys it; the rest json escapes."""


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints rows in the form asked for."""

    as_json: bool

    def row(self, row: Row, text: str) -> None:
        """One finding."""
        print(document(row) if self.as_json else plain(text), flush=True)

    def table(self, head: Sequence[str], rows: Sequence[tuple[Row, Sequence[str]]]) -> None:
        """Findings under each other: each as JSON, or its cells in columns below `head`."""
        lines = aligned([head, *(cells for _, cells in rows)])
        if rows:
            self.block(lines[0])
        for (row, _), line in zip(rows, lines[1:], strict=True):
            self.row(row, line)

    def block(self, text: str) -> None:
        """Lines that only people want, such as a command's output."""
        if not self.as_json:
            print(plain(text), flush=True)


def plain(text: str) -> str:
    r"""Text that cannot steer a terminal.

    >>> plain("a\x1b[2Jb\n\tc") == "a\\x1b[2Jb\n\tc"
    True
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def single(text: str) -> str:
    r"""The same on one line: what others named must not look like a line of ours.

    >>> single("a\nb")
    'a\\nb'
    """
    return plain(text).replace("\n", "\\n")


def document(row: Row) -> str:
    r"""A row as JSON on one line, in which nothing steers a terminal either.

    >>> document({"name": "é\x9b2J"})
    '{"name": "é\\u009b2J"}'
    """
    text = json.dumps(row, ensure_ascii=False)
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def moment(seconds: float | None, *, exact: bool = False) -> str | None:
    """A time as people and programs read it; `exact`: to the millisecond.

    >>> moment(0), moment(0.25, exact=True)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:00.250Z')
    """
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(
        timespec="milliseconds" if exact else "seconds"
    )
    return text.replace("+00:00", "Z")


def accepted(rows: Sequence[Row], out: Printer) -> int:
    """What an operator's decision did."""
    for row in rows:
        place = f"journal {row['journal']}, sequence {row['sequence']}"
        if row["verb"] == "release":
            events = counted(int(str(row["released"])), "event")
            text = f"{events} of branch {row['branch']} released: up to {place}"
        elif row["verb"] == "vouch":
            text = f"vouched for: up to {place}; it goes on within seconds"
        else:
            text = f"admitted: {place}; it goes on within seconds"
        out.row(row, text)
    return EXIT.OK


def deliveries(store: Reader, out: Printer, wanted: Wanted, limit: int) -> int:
    """The newest deliveries that fit, oldest of them first."""
    found = store.deliveries(wanted, min(limit, MAX_LIST), newest=True)
    head = ["delivery", "state", "rule", "repository", "branch", "event", "made", "user", "node"]
    rows = [(delivery_row(item), [single(cell) for cell in _cells(item)]) for item in found]
    out.table([*head, "more"], rows)
    return EXIT.OK


def _cells(item: Delivery) -> list[str]:
    """Journal, sequence and node are what `hg events` and `hg log` show of it."""
    event = f"{item.event_id[:8]}/{item.last}"
    made, node = moment(item.created) or "", (item.node or "-")[:12]
    place = [item.id, item.state.value, item.rule, item.repo, item.branch, event]
    return [*place, made, item.user or "-", node, "  ".join(_more(item))]


def dead_letters(store: Reader, out: Printer, wanted: Wanted, limit: int) -> int:
    """The newest dead ones, with the reason, oldest of them first."""
    found = store.deliveries(wanted, min(limit, MAX_LIST), newest=True)
    head = ["delivery", "rule", "repository", "branch", "node", "ended", "attempts", "reason"]
    rows = []
    for item in found:
        place = [item.id, item.rule, item.repo, item.branch, (item.node or "-")[:12]]
        cells = [*place, moment(item.ended) or "-", str(item.attempts), item.reason or "-"]
        rows.append((delivery_row(item), [single(cell) for cell in cells]))
    out.table(head, rows)
    if not found:
        out.block("no dead letters")
    elif len(found) == limit:
        out.block(f"the newest {limit}; --limit shows more")
    return EXIT.OK


def show(store: Reader, out: Printer, name: str) -> int:
    """A delivery with its receipts, or an event (journal/sequence) with its deliveries."""
    if "/" in name:
        return _show_event(store, out, _find_event(store, name))
    item = find_delivery(store, name)
    out.row(delivery_row(item), delivery_line(item))
    out.block(f"  event {item.event_id}  node {item.node or '-'}  user {item.user or '-'}")
    for receipt in store.receipts(item.id):
        out.row(receipt_row(receipt), "  " + receipt_line(receipt))
        text = receipt.outcome.output.decode(errors="replace")
        if text:
            cut = "… " if receipt.outcome.truncated else ""
            out.block("".join(f"    {cut}{line}\n" for line in text.splitlines()).rstrip("\n"))
    return EXIT.OK


def _show_event(store: Reader, out: Printer, stored: StoredEvent) -> int:
    record = stored.record
    document = json.loads(record.event)
    row = {
        "kind": "event",
        "event": document,
        "topic": record.topic,
        "sha256": record.sha256,
        "received": moment(record.received),
        "held": record.held,
    }
    state = "  HELD" if record.held else ""
    title = f"{record.event_id}  {record.topic}  received {moment(record.received)}{state}"
    out.row(row, title)
    out.block(json.dumps(document, indent=1, ensure_ascii=False))
    for item in store.deliveries(Wanted(event_id=record.event_id), MAX_LIST):
        out.row(delivery_row(item), delivery_line(item))
    return EXIT.OK


def find_delivery(store: Reader, prefix: str) -> Delivery:
    """The delivery whose id begins so; ServiceError where that is not one."""
    exact = store.delivery(prefix)
    if exact is not None:
        return exact
    found = store.deliveries(Wanted(id=prefix), MAX_LIST)
    if len(found) == 1:
        return found[0]
    reason = f"{len(found)} deliveries begin with it" if found else "no such delivery"
    raise ServiceError(f"{prefix}: {reason}", hint="list them with the verb `deliveries`")


def _find_event(store: Reader, name: str) -> StoredEvent:
    prefix, _, number = name.rpartition("/")
    known = [row.journal for row in store.journals() if row.journal.startswith(prefix)]
    if len(known) == 1 and number.isdecimal():
        stored = store.event(known[0], int(number))
        if stored is not None:
            return stored
        raise _no_event(store, known[0], int(number))
    raise ServiceError(f"{name}: no such event", hint="an event is JOURNAL/SEQUENCE")


def _no_event(store: Reader, journal: str, number: int) -> ServiceError:
    """Why an event of a journal that is known is not stored."""
    (row,) = (row for row in store.journals() if row.journal == journal)
    name = f"{journal}/{number}"
    if number > (row.scanned or 0):
        return ServiceError(f"{name}: not read yet", hint=f"it is read up to {row.scanned or 0}")
    if number <= row.pruned:
        hint = "`keep` says how long events of what is done are kept"
        return ServiceError(f"{name}: forgotten, as it is done and old", hint=hint)
    if number <= (row.origin or 0):
        hint = "`start` says where a new subscriber begins"
        return ServiceError(f"{name}: reading began after it", hint=hint)
    hint = "compare `when` of the rules with `hg events` there"
    return ServiceError(f"{name}: read past: no rule wanted it", hint=hint)


def every(store: Reader, wanted: Wanted) -> Iterator[Delivery]:
    """All deliveries that fit, page by page."""
    while page := store.deliveries(wanted, MAX_LIST):
        yield from page
        wanted = replace(wanted, after=page[-1].number)


def delivery_row(item: Delivery) -> Row:
    """A delivery as JSON."""
    return {
        "kind": "delivery",
        "id": item.id,
        "state": item.state.value,
        "rule": item.rule,
        "repo": item.repo,
        "branch": item.branch,
        "topic": item.topic,
        "event_id": item.event_id,
        "node": item.node,
        "user": item.user,
        "created": moment(item.created),
        "attempts": item.attempts,
        "fence": item.fence,
        "reason": item.reason,
        "due": moment(item.due),
        "ended": moment(item.ended),
    }


def delivery_line(item: Delivery) -> str:
    """A delivery as one line of text."""
    event = f"{item.event_id[:8]}/{item.last}"
    line = f"{item.id}  {item.state:<8}  {item.rule}  {item.repo} {item.branch}  {event}"
    return single("  ".join([line, *_more(item)]))


def _more(item: Delivery) -> Iterator[str]:
    """What there is to say of a delivery that does not just run and end well."""
    if item.attempts > 1:
        yield f"attempts {item.attempts}"
    if item.claimed is not None:
        yield f"since {moment(item.claimed)} by {item.owner}"
    if item.due is not None:
        yield f"next {moment(item.due)}"
    if item.reason and item.state is not State.DONE:
        yield item.reason


def receipt_row(receipt: Receipt) -> Row:
    """A receipt as JSON; what the command printed is decoded as UTF-8."""
    outcome = receipt.outcome
    return {
        "kind": "receipt",
        "delivery": receipt.delivery,
        "attempt": receipt.attempt,
        "fence": receipt.fence,
        "owner": receipt.owner,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "exit_status": outcome.exit_status,
        "signal": outcome.signal,
        "counted": receipt.counted,
        "started": moment(outcome.started, exact=True),
        "ended": moment(outcome.ended, exact=True),
        "seconds": round(outcome.ended - outcome.started, 3),
        "output": outcome.output.decode(errors="replace"),
        "truncated": outcome.truncated,
    }


def receipt_line(receipt: Receipt) -> str:
    """A receipt as one line of text."""
    outcome = receipt.outcome
    took = outcome.ended - outcome.started
    return single(
        f"attempt {receipt.attempt}  {outcome.verdict}  {outcome.reason or '-'}"
        f"  {moment(outcome.started)}  {took:.3f} s  by {receipt.owner}"
    )
