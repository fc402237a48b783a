"""What strangers and broken peers do: copies that are not what they claim, floods, bad journals."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq
from support.site import EVERY_TOPIC, Repository, Site

from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.format import EVENT, EVENTS, Record, frame, scan
from hgext_zmqhooks.service import ipc, sockets
from hgext_zmqhooks.wire import certificates, envelope, events, keyfiles, messages
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Hello

MEGABYTE = 1 << 20
FLOOD = 100 * MEGABYTE
NOISE = os.urandom(MEGABYTE)
_WAIT = 10_000


def journalled(repository: Repository) -> list[Message]:
    """The messages of the newest journal, as hg would send them live."""
    follower = Follower(repository.store)
    follower.poll()
    found = []
    for one in follower.read(follower.journals()[-1].journal, after=0):
        topic = events.decode(one.event).topic.encode()
        found.append(Message(topic, one.event, one.signature, one.certificate))
    return found


def load_key(site: Site, name: str) -> SecretKey:
    return SecretKey.decode((site.folder / "keys" / f"{name}.key").read_bytes())


def issue_for_the_past(site: Site, name: str, *, lasted: float = 3600) -> SecretKey:
    """keys/NAME.key, to publish and to read everything, whose certificate expired a minute ago."""
    key = keyfiles.generate(name)
    end = int(time.time()) - 60
    token = certificates.issue(
        load_key(site, "root"),
        name=name,
        public=key.public,
        curve=key.curve_public,
        roles={"publisher", "subscriber"},
        publish=[EVERY_TOPIC],
        read=[EVERY_TOPIC],
        nbf=int(end - lasted),
        exp=end,
        jti=name,
    )
    made = SecretKey(key.name, key.seed, key.curve_secret, token)
    path = site.folder / "keys" / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(made.encode())
    return made


def signed(event: bytes, key: SecretKey) -> Message:
    """Bytes of any kind, signed as an event of the topic that they name."""
    topic = b"hg:team/app:default:"
    with contextlib.suppress(ValueError):
        topic = events.decode(event).topic.encode()
    return Message(topic, event, envelope.sign(event, key.seed), key.certificate or b"")


def flipped(data: bytes, at: int = 100) -> bytes:
    """One bit turned."""
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


# Live copies


@contextlib.contextmanager
def publisher(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    """An XPUB socket to which the relay has subscribed, as hg has it."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as own:
        own.linger = _WAIT
        own.setsockopt(zmq.XPUB_NODROP, 1)
        own.sndtimeo = _WAIT
        own.connect(endpoint)
        assert own.poll(_WAIT), "the relay did not subscribe"
        assert own.recv() == b"\x01"
        yield own


# Sessions


@contextlib.contextmanager
def dealer(site: Site, endpoint: str, key: SecretKey) -> Iterator["zmq.Socket[bytes]"]:
    """A DEALER socket to a subscribe endpoint, with the CURVE keys of `key`."""
    token = ipc.read_certificate(endpoint)
    assert token is not None
    with zmq.Context() as context, context.socket(zmq.DEALER) as own:
        own.linger = _WAIT
        own.sndtimeo = own.rcvtimeo = _WAIT
        sockets.curve_client(own, key, certificates.decode(token).curve)
        own.connect(endpoint)
        yield own


def hello(key: SecretKey, **changes: object) -> list[bytes]:
    """The frames of a HELLO with the certificate of `key`."""
    values = {
        "certificate": key.certificate or b"x.y.z",
        "name": key.name,
        "store": "0" * 32,
        "instance": "0" * 16,
    }
    return messages.encode(Hello(**(values | changes), number=1))


# Floods


def flood_raw(path: str, megabytes: int = FLOOD // MEGABYTE) -> None:
    """Offer bytes that are no ZeroMQ at all, on a new connection whenever one ends or stalls.

    Some are taken for the oldest protocol of ZeroMQ, in which almost everything is a message.
    """
    left = megabytes
    while left:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.2)
            connection.connect(path)
            while left:
                left -= 1
                connection.sendall(NOISE)


def flood_messages(own: "zmq.Socket[bytes]", frames: list[bytes], limit: int = FLOOD) -> int:
    """Send whole messages; how many."""
    count = -(-limit // sum(map(len, frames)))
    for _ in range(count):
        own.send_multipart(frames)
    return count


# Journals


def events_file(repository: Repository) -> Path:
    return repository.store / EVENTS


def event_records(repository: Repository) -> list[Record]:
    return [one for one in scan(events_file(repository).read_bytes()) if one.kind == EVENT]


def rewrite(repository: Repository, record: Record, change: Callable[[bytes], bytes]) -> None:
    """Change a record's payload and make its checksum fit, as somebody with write access can."""
    data = events_file(repository).read_bytes()
    made = frame(record.kind, change(record.payload))
    assert len(made) == record.end - record.offset, "the records behind it would move"
    events_file(repository).write_bytes(data[: record.offset] + made + data[record.end :])


def tear(repository: Repository, record: Record) -> None:
    """Change a byte in the middle of a record, as a bad disk does."""
    data = events_file(repository).read_bytes()
    middle = (record.offset + record.end) // 2
    events_file(repository).write_bytes(flipped(data, middle))
