"""Messages whose end does not come, over tcp: what they may cost, and that only who sends is cut.

ZeroMQ keeps all frames of a message until its last one. What libzmq's own sockets never do, a peer
made by hand does: see support/curve.py.
"""

import os
import threading

import pytest
import relaykit
import zmq
from relaykit import publish_live
from support.curve import CurvePeer
from support.waiting import wait_for

from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.service import connections as module
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.wire.session import Ack, Beat, Events

MEGABYTE = 1 << 20
PART = os.urandom(60_000)
LIMITS = Limits(unfinished=2 * MEGABYTE, message=MEGABYTE)


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def send_parts(peer, part, most):
    """Send frames of one message until we are cut off; the bytes that went out, or None."""
    sent = 0
    try:
        while sent < most:
            peer.frame(part, more=True)
            sent += len(part)
    except OSError:
        return sent
    return None


class Case:
    """A relay with tcp endpoints, an honest session, and an attacker that libzmq let in."""

    def __init__(self, place, kind):
        self.place = place
        self.tcp = {name: place.tcp() for name in ("subscribe", "publish", "broadcast")}
        # A reader has little to say, so that longer frames end its connection anyhow.
        self.part = PART[:4000] if kind == "broadcast" else PART
        self.endpoint, self.key, self.socket_type = {
            "subscribe": (self.tcp["subscribe"], place.keys.make("stranger"), "DEALER"),
            "publish": (self.tcp["publish"], place.keys.publisher, "XPUB"),
            "broadcast": (self.tcp["broadcast"], place.keys.subscriber, "SUB"),
        }[kind]

    def relay(self):
        reader = self.place.folder / "reader.cert"
        reader.write_bytes(self.place.keys.subscriber.certificate)
        return self.place.relay(
            subscribe=(self.tcp["subscribe"],),
            publish=self.tcp["publish"],
            broadcast=self.tcp["broadcast"],
            broadcast_readers=(reader,),
            limits=LIMITS,
        )

    def attacker(self):
        return CurvePeer(self.endpoint, self.key, self.place.relay_key, self.socket_type)

    def honest(self):
        client = self.place.client(endpoint=self.tcp["subscribe"])
        client.follow()
        return client

    def works(self, repo, client, sequence):
        """A push is answered, and its event comes in the session that was open all the time."""
        copies = [one.frames() for one in repo.commit()]
        answers = publish_live(
            self.place, copies, endpoint=self.tcp["publish"], curve=self.place.keys.publisher
        )
        assert len(answers) == 1
        client.say(Beat())
        events = client.hear(Events)
        assert [record.sequence for record in events.records] == [sequence]
        client.say(Ack({events.journal: events.scanned}))


@pytest.mark.parametrize("kind", ["subscribe", "publish", "broadcast"])
def test_who_sends_no_end_is_cut_off_and_an_honest_session_goes_on(place, kind, caplog):
    repo = place.repo()
    case = Case(place, kind)
    with case.relay() as relay:
        client = case.honest()
        case.works(repo, client, 1)
        with case.attacker() as attacker:
            sent = send_parts(attacker, case.part, 2000 * MEGABYTE)
            assert sent is not None, "never cut off"
        wait_for(lambda: relay.counters.get("refused", "unfinished") == 1, "the count")
        assert sent > LIMITS.unfinished
        case.works(repo, client, 2)
    (line,) = [one for one in caplog.records if one.getMessage() == "connection cut off"]
    assert line.fields["address"].endswith("127.0.0.1")


def test_a_large_number_of_whole_messages_is_no_unfinished_one(place):
    """Honest bytes without end, in messages with an end."""
    case = Case(place, "publish")
    with case.relay() as relay:
        with case.attacker() as peer:
            for _ in range(200):
                for _ in range(3):
                    peer.frame(PART, more=True)
                peer.frame(PART)
            assert not peer.hung_up()
        wait_for(lambda: relay.counters.get("refused", "bad-frames") == 200, "all of them")
        assert relay.counters.get("refused", "unfinished") == 0


def test_what_is_below_the_limit_may_wait_for_its_end(place):
    case = Case(place, "subscribe")
    with case.relay() as relay, case.attacker() as peer:
        for _ in range(LIMITS.unfinished // len(PART) - 1):
            peer.frame(PART, more=True)
        threading.Event().wait(5 * module.LOOK_SECONDS)  # nothing is to happen meanwhile
        assert not peer.hung_up()
        assert relay.counters.get("refused", "unfinished") == 0
        # One message of 34 frames, which another limit does not let pass.
        peer.frame(b"")
        wait_for(lambda: relay.counters.get("refused", "too-much") == 1, "the message")


def test_few_frames_of_the_largest_size_are_noticed_too(place):
    case = Case(place, "subscribe")
    with case.relay() as relay, case.attacker() as peer:
        assert send_parts(peer, bytes(MEGABYTE - 100), 1000 * MEGABYTE) is not None
        wait_for(lambda: relay.counters.get("refused", "unfinished") == 1, "the count")


class TestReaders:
    """Who may no longer read the broadcast is cut off within seconds."""

    @pytest.mark.parametrize("how", ["expired", "revoked"])
    def test_an_open_connection_ends_with_its_certificate(self, place, how):
        place.keys.subscriber = place.keys.make(
            "ci", read=(relaykit.EVERYTHING,), lasts=6 if how == "expired" else 3600
        )
        other = place.keys.make("other", read=(relaykit.EVERYTHING,))
        paths = []
        for key in (place.keys.subscriber, other):
            paths.append(place.folder / f"{key.name}.cert")
            paths[-1].write_bytes(key.certificate)
        repo, tcp = place.repo(), place.tcp()
        with place.relay(broadcast=tcp, broadcast_readers=tuple(paths)) as relay:
            ours, others = (self.reader(place, tcp, key) for key in (place.keys.subscriber, other))
            self.commit_until(repo, ours)
            self.commit_until(repo, others)
            if how == "revoked":
                place.keys.revoke("ci")
            wait_for(lambda: relay.counters.get("refused", how) > 0, "the refusal")
            self.drain(ours)
            self.commit_until(repo, others)
            assert not ours.poll(0)
            ours.close(linger=0)
            others.close(linger=0)

    def reader(self, place, endpoint, key):
        socket = place.context.socket(zmq.SUB)
        sockets.limit(socket, 1 << 22)
        sockets.curve_client(socket, key, place.relay_key)
        socket.subscribe(b"")
        socket.connect(endpoint)
        return socket

    def drain(self, socket):
        while socket.poll(0):
            socket.recv_multipart()

    def commit_until(self, repo, reader):
        """Commit until the reader hears of it."""
        self.drain(reader)

        def heard():
            repo.commit()
            return reader.poll(300)

        wait_for(heard, "the reader to hear")
