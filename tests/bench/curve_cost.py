"""What CURVE costs: how fast a session delivers a journal with it, and without.

    PYTHONPATH=tests python -m bench.curve_cost [--rounds N] [--events N]

A relay process (`bench.plain_relay`) serves a journal of N events over ipc, once with CURVE, as
always, and once without, which exists here only. In every round the same subscriber reads all of
it, from the first event to the last, over the one and over the other, in turns; it decodes the
batches and acknowledges them, and neither verifies nor stores anything. Whatever else the machine
does hits both alike.

It ends with status 1 if sessions with CURVE deliver less than 40 % of what they do without.
"""

import argparse
import platform
import statistics
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import relaykit
import zmq
from support.journals import write_journal
from support.site import Site

from hgext_zmqhooks.keys.files import load_secret
from hgext_zmqhooks.wire import certificates
from hgext_zmqhooks.wire.session import Ack, Beat, Events, Follow
from hgext_zmqhooks.wire.verbs import CREDIT

ROUNDS = 9
EVENTS = 40_000
LEAST_SHARE = 0.40
CURVE, PLAIN = "with CURVE", "without CURVE"
KEYS = ("relay", "subscriber")
TESTS = Path(__file__).parents[1]

Rates = dict[str, list[float]]
"""By variant, events per second of each round."""


class Stage:
    """The relay process, and the subscriber that reads from it."""

    def __init__(self, site: Site, context: "zmq.Context[zmq.Socket[bytes]]", events: int) -> None:
        write_journal(site, events)
        self._events = events
        keys = {name: load_secret(site.folder / "keys" / f"{name}.key") for name in KEYS}
        self._place = SimpleNamespace(
            context=context,
            keys=SimpleNamespace(**keys),
            relay_key=certificates.decode(keys["relay"].certificate or b"").curve,
        )
        self._curve, self._plain = site.endpoint("subscribe"), site.endpoint("plain")
        site.configure_relay()
        command = (sys.executable, "-m", "bench.plain_relay", self._plain)
        relay = site.start("relay", "env", f"PYTHONPATH={TESTS}", *command, "--config", "relay.yml")
        relay.wait_line("relay serves")

    def client(self, variant: str) -> relaykit.Client:
        if variant == CURVE:
            return relaykit.Client(self._place, endpoint=self._curve)  # type: ignore[arg-type]
        plain = SimpleNamespace(inproc=self._plain)
        return relaykit.Client(self._place, relay=plain)  # type: ignore[arg-type]

    def rate(self, variant: str) -> float:
        """Events per second, from the FOLLOW to the last one."""
        with closing(self.client(variant)) as client:
            client.hello()
            begin = time.perf_counter()
            client.say(Follow((relaykit.EVERYTHING,), {}, CREDIT))
            scanned = taken = 0
            while scanned < self._events:
                message = client.hear(Events, Beat)
                if isinstance(message, Beat):
                    client.say(Beat())
                    continue
                assert message.records[0].sequence == scanned + 1
                scanned, taken = message.scanned, taken + len(message.records)
                back = client.session.granted - client.session.credit
                client.say(Ack({message.journal: scanned}, credit=back))
            seconds = time.perf_counter() - begin
        assert taken == self._events
        return taken / seconds


def measure(site: Site, rounds: int, events: int) -> Rates:
    """Both variants in every round, the first one in turns."""
    found: Rates = {CURVE: [], PLAIN: []}
    with zmq.Context() as context:
        stage = Stage(site, context, events)
        for number in range(rounds):
            for variant in (CURVE, PLAIN) if number % 2 else (PLAIN, CURVE):
                found[variant].append(stage.rate(variant))
        context.destroy(linger=0)
    return found


def share(found: Rates) -> float:
    """Of the rate without CURVE, the median of what each round had with it."""
    pairs = zip(found[CURVE], found[PLAIN], strict=True)
    return statistics.median(curve / plain for curve, plain in pairs)


def table(found: Rates) -> str:
    """Each round, and the medians."""
    form = "{:>8}{:>14}{:>16}{:>8}"
    versions = (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()}, Python {platform.python_version()},"
        f" pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}; events per second"
    )
    rows = [versions, form.format("round", CURVE, PLAIN, "share")]
    pairs = zip(found[CURVE], found[PLAIN], strict=True)
    for number, (curve, plain) in enumerate(pairs, 1):
        rows.append(form.format(number, f"{curve:.0f}", f"{plain:.0f}", f"{curve / plain:.0%}"))
    medians = [f"{statistics.median(found[variant]):.0f}" for variant in (CURVE, PLAIN)]
    return "\n".join([*rows, form.format("median", *medians, f"{share(found):.0%}")])


def main() -> int:
    parser = argparse.ArgumentParser(description="What CURVE costs a session.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    with Site.made() as site:
        found = measure(site, given.rounds, given.events)
    print(f"{table(found)}\nat least {LEAST_SHARE:.0%} is asked for")
    return 0 if share(found) >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
