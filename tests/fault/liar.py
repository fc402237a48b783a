"""A relay that serves what it is told to, true or not: real sockets, CURVE, and a relay's key.

    with Liar(keys.relay) as liar:
        app = liar.serve("app", "1" * 32)
        liar.tell(app, records, publisher)
        app.twist = lambda batch: [...]         what is sent instead of a batch

It answers as an honest relay does, by wire/session.py: WELCOME with all journals to HELLO, and to
each FOLLOW the records behind its positions, in one batch per journal, which `twist` may change.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import zmq

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.service.zap import SUBSCRIBE, Zap
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.messages import BEAT_SECONDS, MAX_MESSAGE
from hgext_zmqhooks.wire.session import (
    Beat,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Record,
    Role,
    Session,
    Welcome,
)

Twist = Callable[[Events], Sequence[Events]]


@dataclass
class Served:
    """A journal as it is told. `follows`: how often somebody was to get something of it."""

    info: JournalInfo
    records: list[Record] = field(default_factory=list)
    tokens: dict[str, bytes] = field(default_factory=dict)
    twist: Twist = lambda batch: [batch]
    follows: int = 0

    def batch(self, after: int) -> Events:
        """What comes behind a position, with all certificates it needs."""
        records = tuple(record for record in self.records if record.sequence > after)
        tokens = tuple(self.tokens[key] for key in {record.certificate for record in records})
        scanned = records[-1].sequence if records else after
        return Events(self.info.journal, scanned, tokens, records)


class Liar:
    """Runs in a thread between `with` and its end, at a free port if none is given."""

    def __init__(self, secret: SecretKey, address: str = "tcp://127.0.0.1:*") -> None:
        self._secret = secret
        self._journals: dict[str, Served] = {}
        self._lock = threading.RLock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop = Stop()
        self._peers: dict[bytes, tuple[Session, dict[str, int | None]]] = {}
        self.address = address
        self._news = self._context.socket(zmq.PAIR)
        self._news.bind("inproc://news")

    def __enter__(self) -> Self:
        self._zap = Zap(self._context)
        self._zap.start()
        self._router = self._context.socket(zmq.ROUTER)
        sockets.limit(self._router, MAX_MESSAGE)
        sockets.curve_server(self._router, self._secret, SUBSCRIBE)
        self._router.bind(self.address)
        self.address = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._router.close(linger=0)
        self._news.close(linger=0)
        self._zap.close()
        self._context.term()

    # What the test says

    def serve(self, repo: str, journal: str) -> Served:
        """A journal that the next WELCOME names, as that of this repository."""
        with self._lock:
            served = self._journals[journal] = Served(JournalInfo(journal, repo, 1, 0))
        return served

    def tell(self, served: Served, records: Sequence[Record], *signers: SecretKey) -> None:
        """Serve these events too, and tell all who follow."""
        with self._lock:
            served.records += records
            for token in (signer.certificate or b"" for signer in signers):
                served.tokens[hashlib.sha256(token).hexdigest()] = token
            served.info = replace(served.info, sequence=records[-1].sequence)
        self._news.send(served.info.journal.encode())

    # The relay

    def _run(self) -> None:
        news = self._context.socket(zmq.PAIR)
        news.connect("inproc://news")
        poller = zmq.Poller()
        for each in (self._router, news, self._stop.fileno()):
            poller.register(each, zmq.POLLIN)
        beat = 0.0
        while not self._stop.is_set():
            ready = dict(poller.poll(int(BEAT_SECONDS * 200)))
            if self._router in ready:
                route, *frames = self._router.recv_multipart()
                self._hear(route, frames)
            if news in ready:
                self._tell(news.recv().decode())
            if time.monotonic() > beat:
                beat = time.monotonic() + BEAT_SECONDS / 2
                for route in list(self._peers):
                    self._say(route, Beat())
        news.close(linger=0)

    def _tell(self, journal: str) -> None:
        """New records: a head to all, and the records to those who follow."""
        with self._lock:
            served = self._journals[journal]
        for route, (session, positions) in list(self._peers.items()):
            if session.round:
                self._say(route, Beat((served.info,)))
                self._serve(route, served, positions)

    def _hear(self, route: bytes, frames: list[bytes]) -> None:
        if frames[1:2] == [b"HELLO"]:
            self._peers[route] = (Session(Role.RELAY), {})
        if route not in self._peers:
            return
        session, positions = self._peers[route]
        try:
            message = session.receive(frames)
        except Refused:
            del self._peers[route]
            return
        with self._lock:
            journals = list(self._journals.values())
        match message:
            case Hello():
                self._say(route, Welcome("liar", tuple(served.info for served in journals)))
            case Follow():
                positions.clear()
                positions.update({name: _number(at) for name, at in message.positions.items()})
                for served in journals:
                    self._serve(route, served, positions)
            case _:
                if session.ended:
                    del self._peers[route]

    def _serve(self, route: bytes, served: Served, positions: dict[str, int | None]) -> None:
        after = positions.setdefault(served.info.journal, 0)
        if after is None:
            return
        batch = served.batch(after)
        served.follows += 1
        if batch.records:
            positions[served.info.journal] = batch.scanned
            for each in served.twist(batch):
                self._say(route, each)

    def _say(self, route: bytes, message: Message) -> None:
        session, _ = self._peers[route]
        if not session.ended:
            self._router.send_multipart([route, *session.send(message)])


def _number(position: object) -> int | None:
    assert position is None or isinstance(position, int), position
    return position
