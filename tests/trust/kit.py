"""What the tests of trust share: ways in for an attacker, and honest traffic to compare with.

Over real sockets, with CURVE, against a relay in this process; scenes.py has the subscriber's side.
"""

import contextlib
import importlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from relaykit import DEADLINE, EVERYTHING, Client, Keys, Place, Repo, Signer, publish_live
from support.curve import CurvePeer
from support.nobody import NOBODY, unprivileged
from support.waiting import wait_for
from zmq.utils.monitor import parse_monitor_message

from hgext_zmqhooks import settings, signer
from hgext_zmqhooks.relay.server import Relay
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Events, Hello, SessionRefused, Welcome
from subscriber import control

SOON = DEADLINE
"""Seconds for what an honest peer gets at once; a test whose check is gone may wait as long."""
SHORT = 5.0
"""Seconds in which an answer comes, if there is one."""
ELSEWHERE = "127.0.0.2"
"""An address of this machine that is not the one from which honest peers come."""


def soon(condition: Callable[[], object], what: str) -> None:
    """Wait for something, no longer than a test may take whose check is gone."""
    wait_for(condition, what, SOON)


# Keys


def unknown(name: str) -> SecretKey:
    """A key pair under no root; the root that certifies it is one that nobody trusts."""
    return Keys().make(name, publish=(EVERYTHING,), read=(EVERYTHING,))


def certified_by_itself(name: str, root: SecretKey, **rights: object) -> SecretKey:
    """A key whose certificate names `root` as its signer, and which somebody else signed."""
    made = Keys().make(name, **rights)
    header = (Keys().make(name, root=root, **rights).certificate or b"").split(b".")[0]
    rest = (made.certificate or b"").split(b".")[1:]
    return replace(made, certificate=b".".join([header, *rest]))


def hg_signer(key: Path) -> SecretKey:
    """The key as hg loads it, named in [zmqhooks]. Raises SettingError."""
    return signer.read_key(settings.parse({"key": str(key), "relay": ""}))


class Unfaithful(Signer):
    """Signs something else than what is written."""

    def sign(self, event: bytes) -> bytes:
        return super().sign(event + b" ")


# A relay's publish endpoint


def reach(
    place: Place, messages: Sequence[Sequence[bytes]], *, endpoint: str, key: SecretKey
) -> None:
    """Send these to a tcp publish endpoint, with the CURVE keys of `key`."""
    with place.context.socket(zmq.XPUB) as own:
        sockets.limit(own, 4096)
        sockets.curve_client(own, key, place.relay_key)
        own.setsockopt(zmq.LINGER, 1000)
        own.connect(endpoint)
        assert own.poll(SOON * 1000), "the relay does not subscribe"
        for frames in messages:
            own.send_multipart(frames)


def looked_at(relay: Relay) -> None:
    """Wait until the relay took something, or refused something."""

    def counted() -> bool:
        return any(
            name in {"live", "questions", "refused"} for name, _ in relay.counters.snapshot()
        )

    soon(counted, "the relay looked at it")


def publishes(place: Place, repo: Repo, *, endpoint: str | None = None) -> None:
    """Honest traffic at the publish endpoint: a commit whose live copy is answered."""
    copies = [one.frames() for one in repo.commit()]
    curve = repo.key if endpoint else None
    assert len(publish_live(place, copies, endpoint=endpoint, curve=curve)) == len(copies)


def foreign(place: Place, name: str, key: SecretKey) -> list[list[bytes]]:
    """Live copies of a repository of the attacker's own, which no relay here serves."""
    elsewhere = place.folder / "elsewhere"
    return [copy.frames() for copy in Repo(elsewhere, name, key).commit()]


# A relay's broadcast


def handshake_answer(place: Place, endpoint: str, key: SecretKey) -> int | None:
    """What a broadcast endpoint answers to this key; None if it says nothing."""
    with place.context.socket(zmq.SUB) as own:
        sockets.curve_client(own, key, place.relay_key)
        monitor = own.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        own.connect(endpoint)
        said = monitor.poll(SHORT * 1000)
        answer = parse_monitor_message(monitor.recv_multipart())["value"] if said else None
        own.disable_monitor()
        monitor.close(linger=0)
    return answer


def listen(place: Place, endpoint: str, key: SecretKey | None = None) -> "zmq.Socket[bytes]":
    """A SUB socket that hears everything; the caller closes it."""
    own = place.context.socket(zmq.SUB)
    sockets.limit(own, 1 << 22)
    if key is not None:
        sockets.curve_client(own, key, place.relay_key)
    own.subscribe(b"")
    own.connect(endpoint)
    return own


def hears(place: Place, repo: Repo, reader: "zmq.Socket[bytes]") -> bytes:
    """Honest traffic of a broadcast: commit until the reader hears of it; the event."""
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        copies = repo.commit()
        publish_live(place, [one.frames() for one in copies])
        while reader.poll(300):
            event = Message.from_frames(reader.recv_multipart()).event
            if event == copies[-1].event:
                return event
    raise AssertionError("the reader heard nothing")


# A relay's subscribe endpoint


def through(endpoint: str, source: str) -> str:
    """The way to a tcp endpoint from another address of this machine."""
    return endpoint.replace("tcp://", f"tcp://{source}:0;")


def endless(peer: CurvePeer, enough: Callable[[], object], *, most: int) -> None:
    """Send frames of one message until the connection ends, `enough` is true, or `most` bytes."""
    part = os.urandom(60_000)
    with contextlib.suppress(OSError):
        for _ in range(most // len(part)):
            peer.frame(part, more=True)
            if enough():
                return


def greeting(client: Client) -> Hello:
    """What a client says first, for one to whom nobody may answer."""
    return Hello(client.key.certificate or b"", client.key.name, "store-1", "instance")


def refusals(relay: Relay) -> int:
    """All that a relay refused."""
    counts = relay.counters.snapshot()
    return sum(count for (name, _), count in counts.items() if name == "refused")


def refusal(client: Client, **changes: object) -> str:
    """Say HELLO; the kind of refusal."""
    said = client.hello(**changes)
    assert isinstance(said, SessionRefused), f"it was not refused: {said}"
    return said.kind


def reads(client: Client, repo: Repo, *patterns: str) -> None:
    """Honest traffic of a session: it follows, and gets what is committed now."""
    assert isinstance(client.follow(*patterns), Welcome)
    copies = repo.commit()
    publish_live(client.place, [one.frames() for one in copies])
    while copies[-1].event not in events_of(client.hear(Events, seconds=SOON)):
        pass


def events_of(batch: Events) -> list[bytes]:
    """The bytes of the events in a batch."""
    return [record.event for record in batch.records]


def data_of(event: bytes) -> dict[str, object]:
    """What an event tells."""
    return dict(json.loads(event)["data"])


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Have a function of ours called as before, and one entry here for each call."""
    calls: list[object] = []
    module, _, function = name.rpartition(".")
    before = getattr(importlib.import_module(module), function)

    def called(*args: object, **options: object) -> object:
        calls.append(args)
        return before(*args, **options)

    monkeypatch.setattr(name, called)
    return calls


@contextlib.contextmanager
def running(run: Callable[[Stop], None]) -> Iterator[None]:
    """Something of a daemon's, in a thread."""
    stop = Stop()
    thread = threading.Thread(target=run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SOON)
        assert not thread.is_alive()


@contextlib.contextmanager
def asking_as_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A question at a control socket. Who is not root cannot be another, and says that he is."""
    if os.geteuid():
        monkeypatch.setattr(control, "_uid", lambda _: NOBODY)
    with socket.socket(socket.AF_UNIX) as connection:
        with unprivileged():
            connection.connect(str(path))
        connection.sendall(b'{"verb":"accept","target":"app"}\n')
        connection.settimeout(SOON)
        yield connection


def answer_to(connection: socket.socket) -> bytes:
    """What came before the other side closed it, without having read the question perhaps."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(100)
    return b""


def write(path: Path, data: bytes, mode: int) -> Path:
    """A file with exactly this mode."""
    path.write_bytes(data)
    path.chmod(mode)
    return path
