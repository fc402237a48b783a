"""Whether a subscriber that stands still slows the others.

    PYTHONPATH=tests python -m bench.stalled_peer [--rounds N] [--events N]

A relay process serves two subscribers over ipc with CURVE. In every round they are measured twice,
in turns: alone, and beside a third one that asked for a backlog larger than its credit, got what
its credit allows, and neither reads nor acknowledges any more. Latency is the time from before the
journal is written to the arrival of the event at the slower of the two, in ms; the next event is
written when the former has come.

It ends with status 1 if the p99 of all rounds beside the stalled one is over 1.5 times that alone.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace

import relaykit
import zmq
from support.site import Site

from hgext_zmqhooks.keys.files import load_secret
from hgext_zmqhooks.wire.session import Ack, Beat, Events
from hgext_zmqhooks.wire.verbs import CREDIT

ROUNDS = 5
EVENTS = 400
ALLOWED = 1.5
ALONE, STALLED = "alone", "beside a stalled one"
READERS = ("ci", "audit")
LAZY = "lazy"
FILLER = b'"%s"' % (b"f" * 40)
PER_EVENT = 3000

Latencies = dict[str, list[list[float]]]
"""By variant, the latencies of each round in ms."""


class Stage:
    """A relay process, a repository, and subscribers that read what was written."""

    def __init__(self, site: Site, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        for name in (*READERS[1:], LAZY):
            site.issue(name, "--read", relaykit.EVERYTHING)
        keys = {
            name: load_secret(site.folder / "keys" / f"{name}.key") for name in (*READERS[1:], LAZY)
        }
        keys[READERS[0]] = load_secret(site.folder / "keys" / "subscriber.key")
        self._keys = keys
        self._context = context
        relay = load_secret(site.folder / "keys" / "relay.key")
        self._place = SimpleNamespace(
            context=context, keys=SimpleNamespace(relay=relay), relay_key=relay.curve_public
        )
        self._endpoint = site.endpoint("subscribe")
        publisher = load_secret(site.folder / "keys" / "publisher.key")
        self._repo = relaykit.Repo(site.root, "team/app", publisher)
        self._written = 0
        self._fill()
        site.configure_relay()
        site.relay()
        self._live = context.socket(zmq.XPUB)
        self._live.connect(site.endpoint("publish"))
        assert self._live.recv() == b"\x01"
        self._readers = [self.client(name) for name in READERS]
        for reader in self._readers:
            self._read(reader, self._written)

    def _fill(self) -> None:
        """A backlog that is larger than any credit."""
        size = 0
        while size < 2 * CREDIT:
            (message,) = self._repo.commit(relaykit.draft(removed=[FILLER] * PER_EVENT))
            size += len(message.event)
            self._written += 1

    def client(self, name: str) -> relaykit.Client:
        """A subscriber that follows everything from the first event on."""
        client = relaykit.Client(self._place, key=self._keys[name], endpoint=self._endpoint)  # type: ignore[arg-type]
        client.follow()
        return client

    @staticmethod
    def _read(client: relaykit.Client, sequence: int) -> None:
        """Read and acknowledge up to this event."""
        scanned = 0
        while scanned < sequence:
            events = client.hear(Events)
            scanned = events.scanned
            cost = sum(64 + len(record.event) for record in events.records)
            client.say(Ack({events.journal: scanned}, credit=cost, round=events.round))

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Somebody has a session, and reads nothing any more once its credit is used up."""
        with closing(self.client(LAZY)) as lazy:
            taken = 0
            while taken < CREDIT - (1 << 20):
                taken += sum(len(record.event) for record in lazy.hear(Events).records)
            yield

    def one(self) -> float:
        """Write one event; milliseconds until both have it."""
        begin = time.perf_counter()
        for message in self._repo.commit():
            self._live.send_multipart(message.frames())
        self._written += 1
        for reader in self._readers:
            self._read(reader, self._written)
        return (time.perf_counter() - begin) * 1000

    def breathe(self) -> None:
        """Tell the relay that the readers live, and take what came besides events."""
        for reader in self._readers:
            reader.say(Beat())
        while self._live.poll(0):
            self._live.recv()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def measure(site: Site, rounds: int, events: int) -> Latencies:
    """Both variants in every round, the first one in turns."""
    found: Latencies = {ALONE: [], STALLED: []}
    with zmq.Context() as context, closing(Stage(site, context)) as stage:
        for number in range(rounds):
            for variant in (ALONE, STALLED) if number % 2 else (STALLED, ALONE):
                stage.breathe()
                if variant == STALLED:
                    with stage.stalled():
                        times = [stage.one() for _ in range(events)]
                else:
                    times = [stage.one() for _ in range(events)]
                found[variant].append(times)
        context.destroy(linger=0)
    return found


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def ratio(found: Latencies) -> float:
    """p99 of all rounds beside the stalled one over that alone."""
    alone, stalled = (list(itertools.chain(*found[variant])) for variant in (ALONE, STALLED))
    return p99(stalled) / p99(alone)


def table(found: Latencies) -> str:
    """Each round, and all together."""
    form = "{:<24}{:>8}{:>8}{:>9}{:>9}"
    rows = [form.format("ms", "round", "n", "median", "p99")]
    for variant, rounds in found.items():
        labelled = [(str(number + 1), times) for number, times in enumerate(rounds)]
        for label, times in [*labelled, ("all", list(itertools.chain(*rounds)))]:
            numbers = (f"{statistics.median(times):.2f}", f"{p99(times):.2f}")
            rows.append(form.format(variant, label, len(times), *numbers))
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether a stalled subscriber slows the others.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    with Site.made() as site:
        found = measure(site, given.rounds, given.events)
    print(f"{table(found)}\np99 beside a stalled subscriber: {ratio(found):.2f} times that alone")
    return 0 if ratio(found) <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
