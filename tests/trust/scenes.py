"""A subscriber's intake that follows a relay which lies on command: real sockets, CURVE, threads.

with scenes.begin() as scene:
    forged = scene.fork().record(repo="other")
    scene.lie(scene.batch(forged))              once, in place of a true event
    assert scene.refused("wrong-repo") == 1     honest traffic went on, or `lie` had failed
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import zmq
from fault.liar import Liar, Served
from relaykit import EVERYTHING, Keys
from signing import Journal
from trust.kit import SOON, soon

from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import envelope
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Events, Record
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake import client as intake
from subscriber.intake.connect import Remote
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Tools
from subscriber.store.memory import MemoryStore

APP, OTHER, THIRD = "1" * 32, "2" * 32, "3" * 32


class Lying(Liar):
    """A relay that can fall silent without leaving."""

    mute = False

    def forget(self, *journals: str) -> None:
        """Speak of these no more."""
        with self._lock:
            for journal in journals:
                del self._journals[journal]

    def _tell(self, journal: str) -> None:
        with self._lock:
            if journal in self._journals:  # else forgotten meanwhile
                super()._tell(journal)

    def _say(self, route: bytes, message: object) -> None:
        if not self.mute:
            super()._say(route, message)


class Scene:
    """An intake over a store, which follows `liar`: journals `app` (two events) and `other`.

    `keys`: those of all; `patterns`: what the subscriber reads.
    """

    def __init__(self, liar: Lying, keys: Keys, patterns: Sequence[str] = (EVERYTHING,)) -> None:
        self.keys, self.liar = keys, liar
        self.publisher = keys.publisher
        self.counters = Counters()
        self.store = MemoryStore()
        self.app = Journal(self.publisher, "app", APP)
        self.other = Journal(self.publisher, "other", OTHER)
        self.served = liar.serve("app", APP)
        self.honest = liar.serve("other", OTHER)
        self.app_records: list[Record] = []
        self._patterns = tuple(map(Pattern.parse, patterns))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop = Stop()
        self._thread: threading.Thread | None = None
        self._address = liar.address
        self._token = keys.relay.certificate

    def start(self) -> None:
        """Begin with two events of `app` and one of `other` stored."""
        self.app_records = [self.app.record(), self.app.record("stable")]
        self.tell(self.served, *self.app_records)
        self.tell(self.honest, self.other.record())
        self.follow_again()
        soon(lambda: len(self.store.events(0, 10)) >= 3, "the first events")

    def follow(self, address: str, token: bytes | None) -> None:
        """Begin to follow the relay at an address, known by this certificate."""
        self.halt()
        tools = Tools(
            store=self.store,
            keyring=self.keys.keyring,
            patterns=self._patterns,
            allowed=self._patterns,
            match=lambda _parts, _created: (),
            counters=self.counters,
            notify=lambda: None,
        )
        secret = self.keys.subscriber
        client = intake.Client(
            self._context,
            Remote("hg1", address, lambda: token),
            Current(new_identity(secret, secret.name, "store-1"), tools),
            start="earliest",
            on_welcome=lambda: None,
        )
        self._stop = Stop()
        self._thread = threading.Thread(target=client.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def follow_again(self) -> None:
        """Follow the relay that has the relay's key."""
        self.follow(self._address, self._token)

    def halt(self) -> None:
        """End the intake's thread."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(SOON)
            assert not self._thread.is_alive()

    def close(self) -> None:
        """End all of it."""
        self.halt()
        self._context.destroy(linger=0)

    # What the relay says

    def tell(self, served: Served, *records: Record) -> None:
        """Serve what the repository really made."""
        self.liar.tell(served, records, self.publisher)

    def lie(self, *batches: Events) -> None:
        """Once, send these instead of a new event of `app`, and then a true one of `other`."""

        def twist(_: Events) -> Sequence[Events]:
            self.served.twist = lambda batch: [batch]
            return batches

        self.served.twist = twist
        self.tell(self.served, self.app.record())
        self.goes_on()

    def batch(
        self,
        *records: Record,
        scanned: int | None = None,
        signer: SecretKey | None = None,
        journal: str = APP,
    ) -> Events:
        """A batch that brings the certificate of `signer`, else the publisher's."""
        token = (signer or self.publisher).certificate or b""
        last = records[-1].sequence if records else 0
        return Events(journal, last if scanned is None else scanned, (token,), records)

    # What became of it

    def stored(self) -> list[str]:
        """Digests of the stored events, in their order."""
        return [one.record.sha256 for one in self.store.events(0, 100)]

    def refused(self, kind: str) -> int:
        """How often something was refused so."""
        return self.counters.get("refused", kind)

    def lost(self) -> int:
        """How often a session could not be had, or ended."""
        counts = self.counters.snapshot()
        return sum(count for (name, _), count in counts.items() if name == "sessions-lost")

    def has(self, record: Record) -> bool:
        """Whether this very event is stored."""
        return digest(record) in self.stored()

    def takes(self, record: Record) -> None:
        """Wait until an event is stored."""
        soon(lambda: self.has(record), "an honest event is stored")

    def goes_on(self) -> None:
        """Honest traffic: a new event of `other` is stored."""
        record = self.other.record()
        self.tell(self.honest, record)
        self.takes(record)

    def fork(self) -> Journal:
        """`app` as it stands, to make events that its repository never made."""
        now = self.app
        return Journal(now.signer, now.repo, now.journal, now.sequence, last=dict(now.last))


@contextlib.contextmanager
def begin(*, patterns: Sequence[str] = (EVERYTHING,), begun: bool = True) -> Iterator[Scene]:
    """A scene, which has begun unless that is left to the test."""
    keys = Keys()
    with Lying(keys.relay) as liar:
        made = Scene(liar, keys, patterns)
        try:
            if begun:
                made.start()
            yield made
        finally:
            made.close()


def digest(record: Record) -> str:
    """SHA-256 of an event's bytes."""
    return hashlib.sha256(record.event).hexdigest()


def signed(record: Record, signer: SecretKey, old: bytes = b"", new: bytes = b"") -> Record:
    """The event, with other words where `old` stands, signed by somebody."""
    event = record.event.replace(old, new) if old else record.event
    token = hashlib.sha256(signer.certificate or b"").hexdigest()
    return replace(
        record, event=event, signature=envelope.sign(event, signer.seed), certificate=token
    )
