"""What must hold after a soak: changelogs against receipts, and against the scripts' own record.

    lost          changesets in a changelog without a receipt "done", or without a script's line
    doubled       changesets in two events, events with two deliveries or two receipts "done", and
                  scripts that ran to their end again without an attempt that was lost before
    repeated      scripts that ran to their end again because the daemon died before the receipt
    out of order  a branch whose events, or changesets, did not come in the journal's order
    phantom       changesets in a receipt or a script's line that no changelog has

A script's record is one file per lane; an entry is a new line, four fields, and an end mark, so
that one which was cut off is told from a whole one.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Lane = tuple[str, str]
"""Repository and branch."""
Changelog = Mapping[Lane, list[str]]
"""The nodes of each branch, in the order of the changelog."""

KEEP = """\
#!/bin/sh
# Keeps what it got, at the end of its lane's file.
set -eu
event=$(cat)
printf '\\n%s\\t%s\\t%s\\t%s\\t.' "$ZMQHOOKS_DELIVERY_ID" "$ZMQHOOKS_FENCE" "$ZMQHOOKS_EVENT_ID" \\
    "$event" >> "out/$ZMQHOOKS_RULE/$ZMQHOOKS_REPO/$ZMQHOOKS_BRANCH"
"""

_DONE = """
SELECT event.repo, event.branch, event.event FROM delivery
JOIN event ON event.journal = delivery.journal AND event.branch = delivery.branch
    AND event.sequence BETWEEN delivery.first AND delivery.last
WHERE delivery.state = 'done'
    AND EXISTS (SELECT 1 FROM receipt
        WHERE receipt.delivery = delivery.number AND receipt.verdict = 'done')
ORDER BY event.number
"""


@dataclass
class Verdict:
    """Counts, and a line for each problem."""

    problems: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, what: str) -> None:
        self.count[kind] += 1
        self.problems.append(f"{kind}: {what}")

    def compare(self, who: str, changelog: Changelog, seen: Mapping[Lane, list[str]]) -> None:
        """Sets, then order, of the changesets of each branch."""
        for lane in sorted(changelog.keys() | seen.keys()):
            expected, got = changelog.get(lane, []), seen.get(lane, [])
            place = f"{who} {lane[0]} {lane[1]}"
            for node in sorted(set(expected) - set(got)):
                self.add("lost", f"{place} {node}")
            for node in sorted(set(got) - set(expected)):
                self.add("phantom", f"{place} {node}")
            for node, times in Counter(got).items():
                if times > 1:
                    self.add("doubled", f"{place} {node}: {times} times")
            common = set(expected) & set(got)
            wanted = [node for node in expected if node in common]
            if list(dict.fromkeys(node for node in got if node in common)) != wanted:
                self.add("out of order", place)


def judge(name: str, database: Path, record: Path, changelog: Changelog, into: Verdict) -> None:
    """One subscriber: its store, and what its scripts wrote below `record`."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        _judge_store(name, db, changelog, into)
        _judge_record(name, db, record, changelog, into)
    finally:
        db.close()


def _judge_store(name: str, db: sqlite3.Connection, changelog: Changelog, into: Verdict) -> None:
    seen: dict[Lane, list[str]] = defaultdict(list)
    for repo, branch, event in db.execute(_DONE):
        seen[repo, branch] += nodes(event)
    into.compare(f"{name} receipts", changelog, seen)
    for state, count in db.execute(
        "SELECT state, count(*) FROM delivery WHERE state != 'done' GROUP BY state"
    ):
        into.problems.append(f"{name}: {count} deliveries are {state}")
    for event_id, count in db.execute(
        "SELECT event_id, count(*) FROM delivery GROUP BY event_id, rule HAVING count(*) > 1"
    ):
        into.add("doubled", f"{name} event {event_id}: {count} deliveries")
    for number, count in db.execute(
        "SELECT delivery, count(*) FROM receipt WHERE verdict = 'done'"
        " GROUP BY delivery HAVING count(*) > 1"
    ):
        into.add("doubled", f"{name} delivery {number}: {count} receipts")
    last: dict[tuple[str, str], int] = {}
    for journal, branch, sequence in db.execute(
        "SELECT journal, branch, sequence FROM event ORDER BY number"
    ):
        if sequence <= last.get((journal, branch), 0):
            into.add("out of order", f"{name} stored {journal}/{sequence} of {branch}")
        last[journal, branch] = sequence


def _judge_record(
    name: str, db: sqlite3.Connection, record: Path, changelog: Changelog, into: Verdict
) -> None:
    lost = dict(db.execute("SELECT id, lost FROM delivery"))
    seen: dict[Lane, list[str]] = defaultdict(list)
    for file in sorted(path for path in record.rglob("*") if path.is_file()):
        lane = (str(file.parent.relative_to(record)), file.name)
        runs: Counter[str] = Counter()
        fence, before = 0, ""
        for delivery, number, event_id, event in entries(file.read_bytes()):
            runs[delivery] += 1
            again = runs[delivery] > 1
            if int(number) <= fence or (again and delivery != before):
                into.add("out of order", f"{name} ran {event_id} of {lane} with fence {number}")
            fence, before = int(number), delivery
            if not again:
                seen[lane] += nodes(event)
        for delivery, times in runs.items():
            into.count["repeated"] += times - 1
            if times - 1 > lost.get(delivery, 0):
                into.add("doubled", f"{name} ran {delivery} {times} times, {lost.get(delivery)}")
    into.compare(f"{name} scripts", changelog, seen)


def entries(data: bytes) -> Iterable[tuple[str, str, str, bytes]]:
    """The whole entries of a script's record.

    >>> list(entries(b"\\nd\\t1\\tj/1\\t{}\\t.\\nd\\t2\\tj/1\\t{"))
    [('d', '1', 'j/1', b'{}')]
    """
    for line in data.split(b"\n"):
        fields = line.split(b"\t")
        if len(fields) == 5 and fields[4] == b".":
            yield fields[0].decode(), fields[1].decode(), fields[2].decode(), fields[3]


def nodes(event: bytes) -> list[str]:
    """The changesets that an event tells of."""
    return [each["node"] for each in json.loads(event)["data"].get("changesets", ())]
