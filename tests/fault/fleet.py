"""Daemons on one store, under a storm of faults: what their record and their effects then say.

    make chaos                 or: python -m fault.fleet sqlite [--events N] [--seed N]

Journals on 200 branches in all grow to N events in STAGES steps, each when half of what came before
had its effect: so there is something to take in and something to do throughout. One rule takes
every event. Status 1 unless every delivery is done, once, in order; sink.py says what order is.

    sqlite    one daemon, the relay inside; its clock is set forth and back
    scripts   the same, with scripts in place of webhooks
    valkey    four daemons, two relays that both send everything, and Valkey with `appendfsync
              always`, which is killed and started again
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fault import clock, ledger, sink
from fault.storm import Member, Plan, Storm
from support import tables
from support.daemons import Daemon
from support.journals import Journal
from support.site import NAME, Site
from support.valkey import Server
from support.waiting import wait_for

from subscriber.settings import load_settings
from subscriber.stores import open_reader

REPOSITORIES = 8
STAGES = 10
BRANCHES = 200
LEASE = 2
DAEMONS = 4
SECONDS = 1200.0


@dataclass(frozen=True)
class Size:
    events: int
    plan: Plan


SQLITE = Size(10_000, Plan(kills=30, stops=30, stopped=LEASE + 1, jumps=20))
VALKEY = Size(10_000, Plan(kills=30, stops=30, stopped=LEASE + 1, outages=5))


@dataclass(frozen=True)
class Outcome:
    """`row`: counts for people; `problems`: what must not be."""

    title: str
    row: dict[str, Any]
    problems: list[str]


def sqlite(size: Size) -> Outcome:
    """One daemon on a SQLite store, with webhooks."""
    with sink.Web() as effects, Site.made() as site:
        return _sqlite(size, site, effects)


def scripts(size: Size) -> Outcome:
    """The same with scripts, each a process: it takes longer."""
    with Site.made() as site:
        return _sqlite(size, site, sink.Lines(site.folder))


def _sqlite(size: Size, site: Site, effects: sink.Lines | sink.Web) -> Outcome:
    supply = Supply(site, size.events)
    site.configure(rules=[rule(effects)], start="earliest", lease=f"{LEASE}s")
    offset = set_clock(site, 0)
    words = (sys.executable, str(clock.__file__), str(offset))
    begin = partial(site.start, NAME, *words, "zmq-subscriber", "--config", f"{NAME}.yml")
    scene = Scene("A storm of faults: one daemon on SQLite", site, supply, effects)
    return weather(scene, size.plan, [begin], jump=lambda to: set_clock(site, to))


def valkey(size: Size) -> Outcome:
    """Four daemons on one Valkey, and two relays."""
    with (
        Site.made() as site,
        Server(site.folder / "valkey", fsync="always") as server,
        sink.Web() as effects,
    ):
        supply = Supply(site, size.events)
        relays = [relay(site, name) for name in ("east", "west")]
        names = [NAME, *(f"{NAME}{number}" for number in range(2, DAEMONS + 1))]
        for name in names:
            site.configure(
                file=name,
                relays=relays,
                rules=[rule(effects)],
                store=server.url,
                state=f"{name}.state",
                start="earliest",
                lease=f"{LEASE}s",
            )
        title = "A storm of faults: four daemons on Valkey"
        starts = [partial(start, site, name) for name in names]
        scene = Scene(title, site, supply, effects)
        return weather(scene, size.plan, starts, outage=lambda: restart(server))


def relay(site: Site, name: str) -> str:
    """A relay of its own that serves everything; where subscribers connect."""
    address = site.endpoint(f"{name}-subscribe")
    site.configure_relay(
        file=name,
        publish=site.endpoint(f"{name}-publish"),
        subscribe=[address],
        state=f"{name}.db",
    )
    site.relay(name)
    return address


def start(site: Site, name: str) -> Daemon:
    return site.start(name, "zmq-subscriber", "--config", f"{name}.yml")


def restart(server: Server) -> None:
    """As a crash, with its supervisor."""
    server.kill()
    server.start()


def rule(effects: sink.Lines | sink.Web) -> dict[str, Any]:
    """Of every event."""
    return {"name": "effect", **effects.action}


class Supply:
    """Journals of several repositories, `events` in all at the end."""

    def __init__(self, site: Site, events: int) -> None:
        self._step = events // REPOSITORIES // STAGES
        self._stage = 0
        self._journals = [
            Journal(site, f"team/r{number}", BRANCHES // REPOSITORIES)
            for number in range(REPOSITORIES)
        ]
        self.total = self._step * REPOSITORIES * STAGES
        self.grow(0)

    def grow(self, done: int) -> None:
        """`done`: how many events had their effect."""
        while self._stage < STAGES and done >= (self._stage - 0.5) * self.total / STAGES:
            self._stage += 1
            for journal in self._journals:
                journal.grow(self._step)

    @property
    def journals(self) -> dict[str, int]:
        """How many events each repository has."""
        return {journal.repo: journal.events for journal in self._journals}


def set_clock(site: Site, seconds: int) -> Path:
    """The file that clock.py reads, replaced in one step."""
    new = site.folder / "clock.new"
    new.write_text(str(seconds))
    return new.replace(site.folder / "clock")


@dataclass(frozen=True)
class Scene:
    """`effects`: where they come."""

    title: str
    site: Site
    supply: Supply
    effects: sink.Lines | sink.Web

    def progress(self) -> float:
        """What share of the work is done."""
        done = self.effects.look()
        self.supply.grow(done)
        return done / self.supply.total


def weather(
    scene: Scene, plan: Plan, starts: list[Callable[[], Daemon]], **more: Callable[..., object]
) -> Outcome:
    """Run the daemons through the storm until all is done; then stop them, and judge."""
    effects = scene.effects
    members = [Member(start) for start in starts]
    storm = Storm(plan, members, scene.progress, **more)
    seconds = storm.run(SECONDS)
    settings = load_settings(scene.site.folder / f"{NAME}.yml")
    with open_reader(settings) as store:
        wait_for(lambda: not any(store.status().deliveries[one] for one in ledger.OPEN), "receipts")
    ended = [member.daemon.terminate() for member in members]
    effects.look()
    with open_reader(settings) as store:
        count = ledger.judge(store, scene.supply.journals)
    restarts = sum(len(member.ends) for member in members)
    row = {
        "events": scene.supply.total,
        **storm.count,
        "restarts": restarts,
        "seconds": round(seconds),
    }
    problems = [f"a daemon ended with status {status}" for status in ended if status]
    return judged(scene.title, row | dict(count), effects.all, problems)


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


STORMS = {"sqlite": (sqlite, SQLITE), "scripts": (scripts, SQLITE), "valkey": (valkey, VALKEY)}


def main() -> int:
    parser = argparse.ArgumentParser(description="A storm of faults for daemons on one store.")
    parser.add_argument("storm", nargs="?", choices=sorted(STORMS), default="sqlite")
    parser.add_argument("--events", type=int)
    parser.add_argument("--faults", type=int, help="of each kind that there is")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    run, size = STORMS[given.storm]
    plan = replace(size.plan, seed=given.seed)
    if given.faults is not None:
        plan = plan.limited(given.faults)
    size = Size(given.events or size.events, plan)
    outcome = run(size)
    print(shown(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
