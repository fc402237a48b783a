"""What a push costs: without the extension, with no relay, a live one, and one that stands still.

    PYTHONPATH=tests python -m bench.push_cost [--rounds N] [--transport ssh|local]

The variants take turns in every round, so that whatever else the machine does hits all alike. One
push is one changeset by a new hg process; over ssh (a local stand-in) that is two. Times are wall
time in ms. `spread` is the distance from the 10th to the 90th percentile.

It ends with status 1 if the stopped relay costs more than live-timeout and the spread of the push
that meets no relay, or if an event did not arrive.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from support.daemons import Daemon
from support.site import Ran, Repository, Run, Site
from support.waiting import wait_for

LIVE_TIMEOUT = 250
ROUNDS = 15

WITHOUT, NOBODY, LIVE, STOPPED = "without the extension", "no relay", "live relay", "stopped relay"
VARIANTS = (WITHOUT, NOBODY, LIVE, STOPPED)


@dataclass(frozen=True)
class Lane:
    """A variant: its served repository, the clone that pushes to it, and the times in ms."""

    variant: str
    served: Repository
    clone: Repository
    pushes: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def push(self, number: int) -> Ran:
        """Push the next changeset."""
        ran = self.clone.hg("push", "--rev", str(number), plain=self.variant == WITHOUT)
        self.pushes.append(ran.seconds * 1000)
        return ran

    @property
    def median(self) -> float:
        return statistics.median(self.pushes)

    @property
    def spread(self) -> float:
        return spread(self.pushes)


def spread(values: Sequence[float]) -> float:
    """From the 10th to the 90th percentile."""
    if len(values) < 2:
        return 0.0
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return tenths[-1] - tenths[0]


def measure(site: Site, rounds: int, transport: str = "ssh") -> dict[str, Lane]:
    """Push in turns; AssertionError if a push fails, or an event does not arrive."""
    site.configure_relay()
    site.configure(relays=[site.endpoint("subscribe")])
    # Repositories come first: one that appears later, and sends no live copy, is looked for every
    # 30 s only.
    lanes = {variant: _lane(site, variant, rounds + 1, transport) for variant in VARIANTS}
    relay = site.relay()
    site.subscriber()
    for number in range(rounds + 1):
        order = VARIANTS[number % 4 :] + VARIANTS[: number % 4]
        for variant in order:
            _round(site, lanes[variant], number, relay)
    for lane in lanes.values():
        # The first one fills caches and writes the first journal.
        del lane.pushes[:1], lane.delays[:1]
    return lanes


def _lane(site: Site, variant: str, count: int, transport: str) -> Lane:
    served = site.repository(f"team/{variant.replace(' ', '-')}")
    url = f"ssh://host/{served.path}" if transport == "ssh" else None
    clone = site.clone(served, url)
    clone.build(count, "default", "--single", plain=True)
    settings = [f"live-timeout = {LIVE_TIMEOUT}"]
    if variant == NOBODY:
        settings.append(f"relay = {site.endpoint('nobody')}")
    lines = "\n".join(["[zmqhooks]", *settings, ""])
    if variant == WITHOUT:
        lines = "[extensions]\nhgext_zmqhooks = !\n"
    (served.path / ".hg" / "hgrc").write_text(lines)
    return Lane(variant, served, clone)


def _round(site: Site, lane: Lane, number: int, relay: Daemon) -> None:
    if lane.variant == STOPPED:
        relay.freeze()
    try:
        lane.push(number)
    finally:
        if lane.variant == STOPPED:
            relay.thaw()
    if lane.variant == WITHOUT:
        assert lane.served.nodes("--rev", str(number)), "the push did not arrive"
        return
    run = wait_for(lambda: _runs(site, lane)[number:], f"the event of push {number}")[0]
    lane.delays.append(delay(run))


def _runs(site: Site, lane: Lane) -> list[Run]:
    return [run for run in site.runs() if run.repo == lane.served.name]


def delay(run: Run) -> float:
    """Milliseconds from the event's time, which is shortly before the commit, to its action."""
    written = datetime.fromisoformat(run.events[0]["time"]).timestamp()
    return (run.at - written) * 1000


def table(lanes: dict[str, Lane]) -> str:
    """The medians side by side."""
    form = "{:<24}{:>5}{:>9}{:>8}{:>8}{:>9}{:>9}{:>18}{:>9}"
    titles = ("push", "n", "median", "min", "max", "spread", "cost", "commit to action", "spread")
    base = lanes[WITHOUT].median
    rows = [form.format(*titles)]
    for lane in lanes.values():
        numbers = [lane.median, min(lane.pushes), max(lane.pushes), lane.spread, lane.median - base]
        shown = [f"{number:.0f}" for number in numbers]
        late = ["-", "-"]
        if lane.delays:
            late = [f"{statistics.median(lane.delays):.0f}", f"{spread(lane.delays):.0f}"]
        rows.append(form.format(lane.variant, len(lane.pushes), *shown, *late))
    return "\n".join(rows)


def verdict(lanes: dict[str, Lane]) -> tuple[bool, str]:
    """Whether the stopped relay costs no more than it may, and the numbers in a sentence."""
    cost = lanes[STOPPED].median - lanes[NOBODY].median
    allowed = LIVE_TIMEOUT + lanes[NOBODY].spread
    text = (
        f"the stopped relay costs {cost:.0f} ms over no relay; allowed are live-timeout"
        f" {LIVE_TIMEOUT} ms + spread {lanes[NOBODY].spread:.0f} ms"
    )
    return cost <= allowed, text


def main() -> int:
    parser = argparse.ArgumentParser(description="What a push costs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--transport", choices=("ssh", "local"), default="ssh")
    given = parser.parse_args()
    with Site.made() as site:
        lanes = measure(site, given.rounds, given.transport)
    good, text = verdict(lanes)
    print(f"one changeset per push, {given.transport}; ms\n{table(lanes)}\n{text}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
