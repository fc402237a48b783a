"""What tests of a relay share: keys, journals, a running relay, and peers that speak to it.

Everything is real: keys are certified by a root made here, journals are written by the journal's
own writer into `<folder>/hg/<repo>/.hg/store`, the relay runs in a thread, peers use CURVE.
"""

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import zmq

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.format import Mark
from hgext_zmqhooks.relay.server import Relay
from hgext_zmqhooks.relay.settings import RelaySettings
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.wire import certificates, envelope, keyfiles, revocations
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked
from hgext_zmqhooks.wire.session import Follow, Hello, Role, Session, Welcome
from hgext_zmqhooks.wire.values import Draft, Transaction

DEADLINE = 20.0
EVERYTHING = "hg:**:**:"


class Keys:
    """A root and keys under it."""

    def __init__(self) -> None:
        self.root = keyfiles.generate("root")
        self.keyring = Keyring([self.root.public])
        self.publisher = self.make("publisher", publish=(EVERYTHING,))
        self.relay = self.make("relay", roles=("relay",))
        self.subscriber = self.make("ci", read=(EVERYTHING,))

    def make(self, name, *, publish=(), read=(), roles=(), nbf=-3600.0, lasts=3600.0, root=None):
        key = keyfiles.generate(name)
        implied = {"publisher"} if publish else set()
        implied |= {"subscriber"} if read else set()
        now = time.time()
        token = certificates.issue(
            root or self.root,
            name=name,
            public=key.public,
            curve=key.curve_public,
            roles={*roles, *implied},
            publish=publish,
            read=read,
            nbf=int(now + nbf),
            exp=int(now + lasts),
            jti=f"jti-{name}",
        )
        return SecretKey(key.name, key.seed, key.curve_secret, token)

    def revoke(self, name: str) -> None:
        """The root revokes the certificate that was made here for this name; at once in force."""
        now = int(time.time())
        revoked = [Revoked(now, jti=f"jti-{name}")]
        self.keyring.replace([self.root.public], [revocations.issue(self.root, 1, revoked, now)])


class Signer:
    def __init__(self, key: SecretKey) -> None:
        self._key = key

    @property
    def certificate(self) -> bytes:
        return self._key.certificate or b""

    def sign(self, event: bytes) -> bytes:
        return envelope.sign(event, self._key.seed)


def draft(branch="default", *, time=None, name="commit", **lists) -> Draft:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if time is None else time
    return Draft(branch=branch, time=moment, transaction=Transaction("t", name), lists=lists)


class Repo:
    """A repository as far as a relay sees one."""

    def __init__(self, folder: Path, name: str, key: SecretKey) -> None:
        self.folder = folder / name
        self.store = self.folder / ".hg" / "store"
        self.store.mkdir(parents=True)
        self.name = name
        self.key = key
        self.signer = Signer(key)
        self.writer = Writer(Directory(self.store), name)
        self._revisions = 0

    def commit(self, *drafts: Draft) -> list[Message]:
        """One transaction; the live copies that hg would send."""
        self._revisions += 1
        mark = Mark(self._revisions, self._revisions.to_bytes(20, "big"))
        self.writer.heal()
        appended = self.writer.append(
            lambda _name, _offset: None, drafts or (draft(),), mark, self.signer
        )
        self.writer.commit(appended)
        return [Message(*frames) for frames in self.writer.frames(appended)]

    def head(self):
        from hgext_zmqhooks.journal.follow import Follower

        follower = Follower(self.store)
        follower.poll()
        return follower.head


class Place:
    """A short folder (unix sockets take 107 bytes), keys, repositories, and a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = Keys()
        self.context = zmq.Context()
        self.hg = folder / "hg"
        self.hg.mkdir()
        self._clients: list[Client] = []

    @property
    def relay_key(self) -> str:
        """The CURVE key by which clients know the relay."""
        return certificates.decode(self.keys.relay.certificate or b"").curve

    def repo(self, name: str = "team/app") -> Repo:
        return Repo(self.hg, name, self.keys.publisher)

    def endpoint(self, name: str) -> Endpoint:
        return Endpoint.parse(f"ipc://{self.folder}/run/{name}")

    def tcp(self, host: str = "127.0.0.1") -> Endpoint:
        """An endpoint on a port that is free now."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((host.strip("[]"), 0))
            return Endpoint.parse(f"tcp://{host}:{probe.getsockname()[1]}")

    def settings(self, **changes) -> RelaySettings:
        values = {
            "key": self.folder / "relay.key",
            "trust": (self.folder / "root.pub",),
            "publish": self.endpoint("publish"),
            "repositories": (f"{self.hg}/**",),
            "state": self.folder / "relay.db",
            "subscribe": (self.endpoint("subscribe"),),
        }
        return RelaySettings(**{**values, **changes})

    @contextmanager
    def relay(self, **changes) -> Iterator[Relay]:
        """A relay that runs; leaving stops it, and fails if its loop raised."""
        relay = Relay(
            self.settings(**changes), self.keys.relay, self.keys.keyring, context=self.context
        )
        failures: list[BaseException] = []
        stop = Stop()

        def run() -> None:
            try:
                relay.run(stop)
            except BaseException as error:
                failures.append(error)
                raise

        thread = threading.Thread(target=run, daemon=True)
        try:
            relay.start()
            thread.start()
            yield relay
        finally:
            stop.set()
            if thread.ident:
                thread.join(DEADLINE)
                assert not thread.is_alive(), "the relay did not stop"
            relay.close()
        assert not failures

    def client(self, **options) -> "Client":
        client = Client(self, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.context.destroy(linger=0)


@contextmanager
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="zh", dir="/tmp"))
    here = Place(folder)
    try:
        yield here
    finally:
        here.close()
        shutil.rmtree(folder)


class Client:
    """A subscriber's end of a session."""

    def __init__(
        self, place: Place, *, key: SecretKey | None = None, endpoint=None, curve=None, relay=None
    ) -> None:
        self.place = place
        self.key = key or place.keys.subscriber
        self.session = Session(Role.SUBSCRIBER)
        self.socket = place.context.socket(zmq.DEALER)
        sockets.limit(self.socket, 1 << 22)
        if relay is None:
            sockets.curve_client(self.socket, curve or self.key, place.relay_key)
            self.socket.connect(endpoint or place.endpoint("subscribe"))
        else:
            self.socket.connect(relay.inproc)

    def close(self) -> None:
        self.socket.close(linger=0)

    def say(self, message) -> None:
        self.send(self.session.send(message))

    def send(self, frames) -> None:
        assert self.socket.poll(DEADLINE * 1000, zmq.POLLOUT), "no connection"
        self.socket.send_multipart(frames)

    def hear(self, *kinds, seconds: float = DEADLINE):
        """The next message, of one of `kinds` if given; others are passed over."""
        end = time.monotonic() + seconds
        while self.socket.poll(max(0, int((end - time.monotonic()) * 1000))):
            message = self.session.receive(self.socket.recv_multipart())
            if not kinds or isinstance(message, kinds):
                return message
        raise AssertionError(f"heard nothing of {kinds}")

    def hello(self, **changes):
        values = {
            "certificate": self.key.certificate,
            "name": self.key.name,
            "store": "store-1",
            "instance": f"instance-{id(self)}",
        }
        self.say(Hello(**{**values, **changes}))
        return self.hear()

    def follow(self, *patterns, positions=None, **changes) -> Welcome:
        welcome = self.hello()
        assert isinstance(welcome, Welcome), welcome
        self.say(Follow(patterns or (EVERYTHING,), positions or {}, **changes))
        return welcome


def publish_live(
    place: Place, messages, *, endpoint=None, curve=None, seconds=DEADLINE
) -> list[bytes]:
    """Send live copies as hg does; the answers that came before the deadline.

    `curve`: the key for an endpoint that needs one. `seconds`: how long to wait for answers.
    """
    socket = place.context.socket(zmq.XPUB)
    answers: list[bytes] = []
    try:
        sockets.limit(socket, 4096)
        if curve is not None:
            sockets.curve_client(socket, curve, place.relay_key)
        socket.connect(endpoint or place.endpoint("publish"))
        assert socket.poll(DEADLINE * 1000), "the relay does not subscribe"
        end = time.monotonic() + seconds
        assert socket.recv() == b"\x01"
        for frames in messages:
            socket.send_multipart(frames)
        while len(answers) < len(messages) and socket.poll(
            max(0, int((end - time.monotonic()) * 1000))
        ):
            answers.append(socket.recv())
    finally:
        socket.close(linger=0)
    return answers
