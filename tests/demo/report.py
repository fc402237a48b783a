"""What came of the pushes: asked of the subscriber and of hg, shown as a table, and judged."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from .place import REPOSITORIES, DemoError, Place
from .push import Pushed
from .serve import Daemon, wait_for

FINAL = {"done", "dead", "superseded"}
HEADINGS = ("topic", "changesets", "rule", "exit", "ms from commit to action")


@dataclass(frozen=True)
class Ran:
    """One action that ran, with the event that it ran for."""

    topic: str
    rule: str
    nodes: tuple[str, ...]
    bookmarks: tuple[str, ...]
    handed: frozenset[str]
    exit_status: int | None
    verdict: str
    reason: str
    output: str
    delay: float

    def cells(self) -> tuple[str, ...]:
        what = [node[:12] for node in self.nodes] + [f"bookmark {name}" for name in self.bookmarks]
        return (
            self.topic,
            ", ".join(what),
            self.rule,
            str(self.exit_status),
            f"{self.delay * 1000:.0f}",
        )


def wait_for_actions(place: Place, pushed: Pushed, daemon: Daemon) -> list[Ran]:
    """The newest attempt of each delivery, once every expected one was tried."""

    def tried() -> bool:
        rows = _ask(place, "deliveries")
        return len([row for row in rows if row["state"] in FINAL | {"retrying"}]) >= (
            pushed.expected.total()
        )

    try:
        wait_for(tried, daemon, f"not all of the {pushed.expected.total()} actions ran")
    except DemoError as error:
        raise DemoError(f"{error}\n{_findings(place)}") from None
    return [_ran(place, row) for row in _ask(place, "deliveries")]


def _ask(place: Place, *verb: str) -> list[dict]:
    said = place.run("zmq-subscriber", "--config", str(place.config), *verb, "--json")
    return [json.loads(line) for line in said.splitlines()]


def _findings(place: Place) -> str:
    """What the checks of subscriber and relay say, when something did not arrive."""
    said = []
    for command in (("zmq-subscriber", "status"), ("zmq-relay", "check")):
        done = place.tried(command[0], "--config", str(place.config), command[1])
        said.append(f"{' '.join(command)}:\n{(done.stdout + done.stderr).strip()}")
    return "\n".join(said)


def _ran(place: Place, delivery: dict) -> Ran:
    receipt = [row for row in _ask(place, "show", delivery["id"]) if row["kind"] == "receipt"][-1]
    event = _ask(place, "show", delivery["event_id"])[0]["event"]
    handed = place.folder / "out" / f"{delivery['rule']}-{receipt['fence']}.json"
    return Ran(
        topic=delivery["topic"],
        rule=delivery["rule"],
        nodes=tuple(_nodes(event)),
        bookmarks=tuple(move["name"] for move in event["data"].get("bookmarks", ())),
        handed=frozenset(_nodes(json.loads(handed.read_bytes())) if handed.exists() else ()),
        exit_status=receipt["exit_status"],
        verdict=receipt["verdict"],
        reason=receipt["reason"],
        output=receipt["output"],
        delay=(_moment(receipt["started"]) - _moment(event["time"])).total_seconds(),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _nodes(event: dict) -> list[str]:
    return [changeset["node"] for changeset in event["data"].get("changesets", ())]


def show(rows: list[Ran]) -> None:
    """The table."""
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    print()
    for row in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print()


def judge(rows: list[Ran], pushed: Pushed) -> None:
    """DemoError unless every action ran once, went well and was handed what was pushed."""
    for row in rows:
        if row.verdict != "done" or row.exit_status != 0:
            said = f": {row.output.strip()}" if row.output.strip() else ""
            raise DemoError(f"the action of rule {row.rule} failed: {row.reason}{said}")
        if row.handed != pushed.nodes[row.topic] or set(row.nodes) != pushed.nodes[row.topic]:
            raise DemoError(f"{row.topic}: the script got other changesets than were pushed")
    ran = Counter((row.rule, row.topic) for row in rows)
    if ran != pushed.expected:
        raise DemoError(f"expected were {dict(pushed.expected)}, but there ran {dict(ran)}")


def verify(place: Place, pushed: Pushed) -> None:
    """DemoError unless all signatures are good: the subscriber's finding, and hg's own."""
    total = _ask(place, "status")[0]
    if (total["events"], total["held_events"]) != (len(pushed.nodes), 0):
        raise DemoError(f"the subscriber accepted {total['events']} of {len(pushed.nodes)} events")
    print(
        f"zmq-subscriber: {total['events']} events, each signed by a key that root.pub vouches for"
    )
    for name in REPOSITORIES:
        said = place.run("hg", "events", "--verify", cwd=place.repository(name))
        print(f"hg events --verify in {name}: {said.strip()}")
