"""What strangers and broken peers send: refused, counted, logged a little, noticed by nobody."""

import contextlib
import hashlib
import logging
import os
import random
import socket
import threading
import time
from itertools import count, pairwise
from pathlib import Path

import pytest
import relaykit
import zmq
from relaykit import publish_live
from support.curve import COMMAND, MORE, CurvePeer, framed, plain_peer
from support.waiting import wait_for

from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.service import ipc, sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.session import Beat, Events

MEGABYTES = 100
BLOCK = os.urandom(1 << 20)


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def honest_traffic_goes_on(place, client, repo, sequence):
    """A push is acknowledged and its event reaches the subscriber."""
    copies = repo.commit()
    answers = publish_live(place, [one.frames() for one in copies])
    assert answers == [b"A" + hashlib.sha256(copies[0].event).digest()[:16]]
    client.say(Beat())
    events = client.hear(Events)
    assert [record.sequence for record in events.records] == [sequence]


def most_lines_of_one_kind_in_a_second(caplog):
    """How often the busiest kind of refusal was logged within any one second."""
    times = {}
    for record in caplog.records:
        kind = getattr(record, "fields", {}).get("kind")
        if kind and record.levelno == logging.WARNING:
            times.setdefault(kind, []).append(record.created)
    # Lines of a kind are at least a second apart; the clocks differ by less than 0.05 s.
    gaps = [b - a for stamps in times.values() for a, b in pairwise(stamps)]
    return min(gaps, default=9.0)


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def meanwhile(client, attack, action=None):
    """Run the attack beside a living session: on a slow machine it takes longer than a silence."""
    thread = threading.Thread(target=attack)
    thread.start()
    try:
        while thread.is_alive():
            client.say(Beat())
            if action is not None:
                action()
            thread.join(0.2)
    finally:
        thread.join()  # its sockets are of the context that is destroyed next


def flood(make, endpoint_path):
    """Write 100 MB of raw bytes in connections that the relay may close at any time."""
    sent = 0
    while sent < MEGABYTES << 20:
        with contextlib.suppress(OSError), make() as connection:
            connection.settimeout(5)
            connection.connect(endpoint_path)
            for _ in range(8):
                connection.sendall(BLOCK)
                sent += len(BLOCK)
        sent += len(BLOCK) // 16  # a connection that took nothing is counted a little


@pytest.mark.parametrize("name", ["publish", "subscribe", "broadcast"])
def test_raw_bytes_on_a_unix_socket(place, name):
    repo = place.repo()
    with place.relay(broadcast=place.endpoint("broadcast")):
        client = place.client()
        client.follow()
        path = place.endpoint(name).path
        meanwhile(client, lambda: flood(lambda: socket.socket(socket.AF_UNIX), path))
        honest_traffic_goes_on(place, client, repo, 1)


def test_raw_bytes_on_a_tcp_socket(place):
    repo = place.repo()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tcp = Endpoint.parse(f"tcp://127.0.0.1:{port}")
    with place.relay(subscribe=(tcp, place.endpoint("subscribe"))):
        client = place.client()
        client.follow()
        meanwhile(client, lambda: flood(socket.socket, ("127.0.0.1", port)))
        honest_traffic_goes_on(place, client, repo, 1)


def send_messages(place, kind, connect, frames, most):
    """Send whole ZeroMQ messages until 100 MB are through; a peer that is cut off goes on."""
    attacker = place.context.socket(kind)
    attacker.setsockopt(zmq.SNDTIMEO, 2000)
    try:
        connect(attacker)
        size = sum(map(len, frames))
        for _ in range(min(most, (MEGABYTES << 20) // size)):
            with contextlib.suppress(zmq.Again):
                attacker.send_multipart(frames)
    finally:
        attacker.close(linger=10_000)


def test_messages_that_are_no_events_on_the_publish_socket(place, caplog):
    repo = place.repo()
    with place.relay() as relay:
        client = place.client()
        client.follow()
        before = memory()

        def connect(attacker):
            attacker.connect(place.endpoint("publish"))
            assert attacker.poll(10_000)
            assert attacker.recv() == b"\x01"

        def attack():
            send_messages(place, zmq.XPUB, connect, [BLOCK[:60_000]] * 4, 1000)
            send_messages(place, zmq.XPUB, connect, [BLOCK[:60_000], *[b"x"] * 7], 1000)
            send_messages(place, zmq.XPUB, connect, [b"t", BLOCK[:9_000], bytes(64), b"c"], 500)

        meanwhile(client, attack)
        wait_for(lambda: relay.counters.get("refused", "bad-frames") > 50, "refusals")
        honest_traffic_goes_on(place, client, repo, 1)
        assert relay.counters.get("refused", "bad-certificate") > 0
        assert memory() - before < 200 << 20
    assert most_lines_of_one_kind_in_a_second(caplog) > 0.95


def test_one_message_of_100_megabytes_cuts_off_only_who_sent_it(place):
    repo = place.repo()
    with place.relay() as relay:
        client = place.client()
        client.follow()
        before = memory()

        def connect(attacker):
            attacker.connect(place.endpoint("publish"))
            assert attacker.poll(10_000)

        meanwhile(
            client, lambda: send_messages(place, zmq.XPUB, connect, [bytes(MEGABYTES << 20)], 1)
        )
        honest_traffic_goes_on(place, client, repo, 1)
        assert relay.counters.get("refused", "bad-frames") == 0, "it was never received"
        assert memory() - before < 150 << 20


def test_messages_that_are_no_dialogue_on_a_session_socket(place, caplog):
    """After the CURVE handshake, with a key of its own that no certificate names."""
    repo = place.repo()
    stranger = place.keys.make("stranger")
    with place.relay() as relay:
        client = place.client()
        client.follow()

        def connect(attacker):
            server = ipc.read_certificate(place.endpoint("subscribe"))
            curve = place.keys.keyring.certificate(server).curve
            sockets.curve_client(attacker, stranger, curve)
            attacker.connect(place.endpoint("subscribe"))

        sequences = count(1)

        def attack():
            send_messages(place, zmq.DEALER, connect, [BLOCK[: 1 << 18]] * 4, 1000)
            send_messages(
                place, zmq.DEALER, connect, [b"zmqhooks/1", b"HELLO", b"[" * 9000, b""], 900
            )

        def honest():
            honest_traffic_goes_on(place, client, repo, next(sequences))

        meanwhile(client, attack, honest)
        wait_for(lambda: relay.counters.get("refused", "bad-message") > 0, "refused headers")
        wait_for(lambda: relay.counters.get("refused", "too-much") > 95, "refused messages")
        honest()
    assert most_lines_of_one_kind_in_a_second(caplog) > 0.95


def boxes_of_nothing(peer, chance):
    """Well-formed frames: a message of many frames, subscriptions, empty ones."""
    parts = [peer.boxed(chance.randbytes(chance.randrange(90)), MORE) for _ in range(20)]
    subscriptions = [peer.boxed(bytes([n % 2]) + chance.randbytes(5)) for n in range(20)]
    return b"".join([*parts, peer.boxed(b""), *subscriptions, peer.boxed(b"")])


COMMANDS = (b"\x04PING", b"\x04PONG", b"\x09SUBSCRIBE", b"\x05HELLO", b"\xff", b"")
SHAKES = (b"\x05HELLO", b"\x08INITIATE", b"\x07WELCOME", b"\x05READY", b"\x05ERROR")
GARBAGE = {
    "the same box twice, whose number is used up": lambda peer, _: peer.boxed(b"\x01x") * 2,
    "a box that nobody closed": lambda _, chance: framed(b"\x07MESSAGE" + chance.randbytes(48)),
    "a frame in no box": lambda _, chance: framed(chance.randbytes(chance.randrange(400)), MORE),
    "noise": lambda _, chance: chance.randbytes(chance.randrange(1, 3000)),
    "a frame that says it has 4 EB": lambda *_: b"\x02" + (1 << 62).to_bytes(8, "big") + bytes(999),
    "a frame of 3 MB, which is too large": lambda peer, _: peer.boxed(bytes(3 << 20)),
    "a command that is none, or is cut": lambda peer, chance: peer.boxed(
        chance.choice(COMMANDS) + chance.randbytes(chance.randrange(300)), COMMAND
    ),
    "any flags": lambda peer, chance: peer.boxed(chance.randbytes(9), chance.randrange(256)),
    "a handshake again": lambda _, chance: framed(
        chance.choice(SHAKES) + chance.randbytes(200), COMMAND
    ),
    "half a box": lambda peer, chance: peer.boxed(chance.randbytes(500))[: chance.randrange(500)],
    "boxes of nothing": boxes_of_nothing,
}


class TestAfterTheHandshake:
    """A peer whose key is good, and whose next bytes are not; on every socket that speaks CURVE."""

    ROUNDS = 12

    def attack(self, place, endpoint, key, socket_type):
        chance = random.Random(7)
        for _ in range(self.ROUNDS):
            for make in GARBAGE.values():
                # The relay may hang up before all is said.
                with (
                    CurvePeer(endpoint, key, place.relay_key, socket_type) as peer,
                    contextlib.suppress(OSError),
                ):
                    for _ in range(3):
                        peer.raw(make(peer, chance))

    @pytest.mark.parametrize(
        ("name", "over", "socket_type"),
        [
            ("subscribe", "tcp", "DEALER"),
            ("subscribe", "ipc", "DEALER"),
            ("publish", "tcp", "XPUB"),
            ("broadcast", "tcp", "SUB"),
        ],
    )
    def test_garbage_in_and_around_boxes(self, place, name, over, socket_type):
        repo = place.repo()
        certificate = place.folder / "reader.cert"
        certificate.write_bytes(place.keys.subscriber.certificate)
        tcp = place.tcp()
        where = {"limits": Limits(handshakes=10_000), "broadcast_readers": ()}
        if name == "subscribe":
            where["subscribe"] = (place.endpoint("subscribe"), tcp)
        else:
            where[name] = tcp
        if name == "broadcast":
            where["broadcast_readers"] = (certificate,)
        target = tcp if over == "tcp" else place.endpoint(name)
        with place.relay(**where) as relay:
            client = place.client()
            client.follow()
            meanwhile(
                client, lambda: self.attack(place, target, place.keys.subscriber, socket_type)
            )
            if name == "publish":
                wait_for(lambda: relay.counters.get("refused", "bad-frames"), "refusals")
                copies = [one.frames() for one in repo.commit()]
                assert publish_live(place, copies, endpoint=tcp, curve=repo.key)
            else:
                honest_traffic_goes_on(place, client, repo, 1)


@pytest.mark.parametrize("name", ["broadcast", "publish"])
def test_who_says_very_much_and_hangs_up_ends_nothing_but_his_connection(place, name):
    """libzmq ends the process when a peer hangs up whose messages found no room any more."""
    repo = place.repo()
    with place.relay(broadcast=place.endpoint("broadcast")):
        client = place.client()
        client.follow()
        kind = {"broadcast": b"SUB", "publish": b"XPUB"}[name]
        blob = b"".join(framed(b"\x01x%d" % number) for number in range(1000))

        def attack():
            for _ in range(3):
                with plain_peer(place.endpoint(name), kind) as peer, contextlib.suppress(OSError):
                    for _ in range(60):
                        peer.sendall(blob)

        meanwhile(client, attack)
        honest_traffic_goes_on(place, client, repo, 1)


class TestBadCopies:
    """Each is refused under its own kind, gets no answer, and nothing is served because of it."""

    def send(self, place, relay, frames, kind):
        attacker = place.context.socket(zmq.XPUB)
        try:
            attacker.connect(place.endpoint("publish"))
            assert attacker.poll(10_000)
            assert attacker.recv() == b"\x01"
            attacker.send_multipart(frames)
            wait_for(lambda: relay.counters.get("refused", kind) == 1, kind)
            assert not attacker.poll(0), "no answer"
        finally:
            attacker.close(linger=0)

    @pytest.fixture
    def copy(self, place):
        return place.repo().commit()[0]

    def test_a_flipped_bit(self, place, copy):
        event = bytearray(copy.event)
        event[100] ^= 1
        with place.relay() as relay:
            frames = [copy.topic, bytes(event), copy.signature, copy.certificate]
            self.send(place, relay, frames, "bad-signature")

    def test_a_wrong_topic(self, place, copy):
        with place.relay() as relay:
            frames = [b"hg:other:default:", copy.event, copy.signature, copy.certificate]
            self.send(place, relay, frames, "wrong-topic")

    def test_an_unknown_key(self, place):
        key = relaykit.Keys().publisher
        forged = relaykit.Repo(place.folder / "elsewhere", "team/app", key).commit()[0]
        with place.relay() as relay:
            self.send(place, relay, forged.frames(), "unknown-root")

    def test_a_key_that_may_not_publish_this(self, place):
        key = place.keys.make("narrow", publish=("hg:other/*:*:",))
        forged = relaykit.Repo(place.folder / "elsewhere", "team/app", key).commit()[0]
        with place.relay() as relay:
            self.send(place, relay, forged.frames(), "not-allowed")

    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_missing_or_extra_frames(self, place, copy, count):
        frames = [*copy.frames(), b"more"][:count]
        with place.relay() as relay:
            self.send(place, relay, frames, "bad-frames")

    def test_an_expired_certificate_is_late_and_no_forgery(self, place):
        """Its holder may have been away; what was journalled in time stays true."""
        key = place.keys.make("old", publish=(relaykit.EVERYTHING,), nbf=-600, lasts=-1)
        repo = relaykit.Repo(place.hg, "old", key)
        copies = repo.commit()
        with place.relay() as relay:
            assert publish_live(place, [one.frames() for one in copies])
            assert relay.counters.get("live") == 1


def test_an_idle_relay_uses_next_to_no_processor_time(place):
    for number in range(50):
        place.repo(f"r{number}").commit()
    with place.relay():
        before, start = time.process_time(), time.monotonic()
        threading.Event().wait(3)
        used = (time.process_time() - before) / (time.monotonic() - start)
    assert used < 0.02


def test_messages_are_only_hints(place):
    """A signed copy of an event that is in no journal is acknowledged, and never served."""
    repo = place.repo()
    elsewhere = relaykit.Repo(place.folder / "elsewhere", "team/app", place.keys.publisher)
    copy: Message = elsewhere.commit()[0]
    with place.relay() as relay:
        client = place.client()
        client.follow()
        publish_live(place, [copy.frames()])
        assert relay.counters.get("live") == 1
        repo.commit()
        events = client.hear(Events)
        assert events.journal == repo.head().journal
