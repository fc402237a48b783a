"""Daemons on one store, under a storm of faults: what their record and their effects then say.

    make chaos                 or: python -m fault.fleet --store sqlite [--events N] [--seed N]

Journals with N events on 200 branches in all stand there when it begins; one rule takes every
event. With sqlite there is one daemon, the relay inside, and the clock is set forth and back.
Status 1 unless every delivery is done, once, in order. See sink.py for what order means.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fault import clock, ledger, sink
from fault.storm import Member, Plan, Storm
from support import tables
from support.daemons import Daemon
from support.journals import write_journal
from support.site import Site
from support.waiting import wait_for

from subscriber.settings import load_settings
from subscriber.stores import open_reader

REPOSITORIES = 8
BRANCHES = 200
LEASE = 2
SECONDS = 1200.0


@dataclass(frozen=True)
class Size:
    events: int
    plan: Plan


SQLITE = Size(10_000, Plan(kills=30, stops=30, stopped=LEASE + 1, jumps=20))


@dataclass(frozen=True)
class Outcome:
    """`row`: counts for people; `problems`: what must not be."""

    title: str
    row: dict[str, Any]
    problems: list[str]


def sqlite(size: Size) -> Outcome:
    """One daemon on a SQLite store."""
    with Site.made() as site:
        journals = write_journals(site, size.events)
        site.script("effect.sh", sink.SCRIPT)
        site.configure(rules=[RULE], start="earliest", lease=f"{LEASE}s")
        offset = set_clock(site, 0)

        def start() -> Daemon:
            words = (sys.executable, str(clock.__file__), str(offset))
            return site.start("ci", *words, "zmq-subscriber", "--config", "ci.yml")

        title = "A storm of faults: one daemon on SQLite"
        return weather(title, site, size, journals, [start], jump=lambda to: set_clock(site, to))


RULE = {"name": "effect", "exec": ["./effect.sh"], "retry": {"attempts": 20}}


def write_journals(site: Site, events: int) -> dict[str, int]:
    """So many events in several repositories; how many each has."""
    each, branches = events // REPOSITORIES, BRANCHES // REPOSITORIES
    found = {f"team/r{number}": each for number in range(REPOSITORIES)}
    for repo in found:
        write_journal(site, each, repo, branches)
    return found


def set_clock(site: Site, seconds: int) -> Path:
    """The file that clock.py reads, replaced in one step."""
    new = site.folder / "clock.new"
    new.write_text(str(seconds))
    return new.replace(site.folder / "clock")


def weather(
    title: str,
    site: Site,
    size: Size,
    journals: dict[str, int],
    starts: list[Callable[[], Daemon]],
    **more: Callable[..., object],
) -> Outcome:
    """Run the daemons through the storm until all is done; then stop them, and judge."""
    total = sum(journals.values())
    effects = sink.Effects(site.folder / "effects")
    members = [Member(start) for start in starts]
    storm = Storm(size.plan, members, lambda: effects.look() / total, **more)
    seconds = storm.run(SECONDS)
    settings = load_settings(site.folder / "ci.yml")
    with open_reader(settings) as store:
        wait_for(lambda: not any(store.status().deliveries[one] for one in ledger.OPEN), "receipts")
    ended = [member.daemon.terminate() for member in members]
    effects.look()
    with open_reader(settings) as store:
        count = ledger.judge(store, journals)
    restarts = sum(len(member.ends) for member in members)
    row = {"deliveries": total, **storm.count, "restarts": restarts, "seconds": round(seconds)}
    problems = [f"a daemon ended with status {status}" for status in ended if status]
    return judged(title, row | dict(count), effects.all, problems)


def judged(
    title: str,
    row: dict[str, Any],
    effects: list[sink.Effect],
    problems: list[str],
) -> Outcome:
    """All counts, and which of them must not be."""
    careless, fenced = sink.careless(effects), sink.fenced(effects)
    row |= {
        "effects": len(effects),
        "again": careless.again,
        "out of order": careless.behind,
        "refused by fence": fenced.refused,
        "out of order behind the fence": fenced.behind,
    }
    problems += [f"{name}: {row[name]}" for name in ledger.BAD if row[name]]
    if fenced.behind:
        problems.append(f"{fenced.behind} effects out of order at a sink that checks the fence")
    if careless.behind > row["kill"] + row["stop"]:
        problems.append(f"{careless.behind} effects out of order, more than faults")
    return Outcome(title, row, problems)


def shown(outcome: Outcome) -> str:
    """Counts below each other."""
    rows = [{"count": str(value), "of": name} for name, value in outcome.row.items()]
    return "\n".join([outcome.title, *tables.lines(rows), *outcome.problems])


def main() -> int:
    parser = argparse.ArgumentParser(description="A storm of faults for daemons on one store.")
    parser.add_argument("--store", choices=("sqlite",), default="sqlite")
    parser.add_argument("--events", type=int)
    parser.add_argument("--faults", type=int, help="of each kind that there is")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    size = SQLITE
    plan = replace(size.plan, seed=given.seed)
    if given.faults is not None:
        plan = plan.limited(given.faults)
    size = Size(given.events or size.events, plan)
    outcome = sqlite(size)
    print(shown(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
