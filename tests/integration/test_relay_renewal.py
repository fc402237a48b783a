"""A running relay that takes up a new key of its own, over real sockets."""

import socket

import pytest
import relaykit
import zmq
from relaykit import DEADLINE, publish_live
from support.waiting import wait_for

from hgext_zmqhooks.service import ipc, sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Bye, Events, Follow

READ = {"read": (relaykit.EVERYTHING,)}


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def free_address() -> Endpoint:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Endpoint.parse(f"tcp://127.0.0.1:{probe.getsockname()[1]}")


def handshake(place, endpoint, server: SecretKey, kind=zmq.DEALER) -> bool:
    """Whether a client that expects this key of the server gets through."""
    client = place.context.socket(kind)
    client.setsockopt(zmq.RECONNECT_IVL, 10)
    refused = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    ends = zmq.EVENT_HANDSHAKE_SUCCEEDED | refused
    monitor = client.get_monitor_socket(ends)
    try:
        sockets.curve_client(client, place.keys.subscriber, server.curve_public)
        client.connect(endpoint)
        assert monitor.poll(DEADLINE * 1000), "neither"
        event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
        return event == zmq.EVENT_HANDSHAKE_SUCCEEDED
    finally:
        client.disable_monitor()
        monitor.close(0)
        client.close(0)


def renew(place, relay) -> None:
    """A new key for the relay, which later clients of this place expect."""
    place.keys.relay = place.keys.make("relay", roles=("relay",))
    assert relay.renew(place.keys.relay)


def go_on(place, endpoint, key, journal: str, after: int) -> list[int]:
    """The sequences that a new session brings, from a position on."""
    client = place.client(endpoint=endpoint, key=key)
    client.hello()
    client.say(Follow((relaykit.EVERYTHING,), {journal: after}))
    return [record.sequence for record in client.hear(Events).records]


def test_sessions_are_told_goodbye_and_go_on_with_the_new_key(place):
    # Given sessions over ipc and tcp that are up to date
    repo = place.repo()
    repo.commit()
    ends = (place.endpoint("subscribe"), free_address())
    old = place.keys.relay
    keys = {end: place.keys.make(f"n{at}", **READ) for at, end in enumerate(ends)}
    with place.relay(subscribe=ends) as relay:
        clients = [place.client(endpoint=end, key=keys[end]) for end in ends]
        for client in clients:
            client.follow()
            assert client.hear(Events).scanned == 1
        # When the relay gets a new key, and something is committed meanwhile
        renew(place, relay)
        repo.commit()
        # Then they are told, and the next sessions bring what comes after their positions
        for end, client in zip(ends, clients, strict=True):
            assert client.hear(Bye) == Bye("it has a new key")
            wait_for(lambda end=end: handshake(place, end, place.keys.relay), "the new key")
            assert go_on(place, end, keys[end], repo.head().journal, 1) == [2]
            # and with the old key nobody gets in
            assert not handshake(place, end, old)
        assert ipc.read_certificate(ends[0]) == place.keys.relay.certificate
        assert not [key for key in relay.counters.snapshot() if key[0] == "refused"]


def test_the_session_in_this_process_is_left_alone(place):
    repo = place.repo()
    repo.commit()
    with place.relay() as relay:
        client = place.client(relay=relay)
        client.follow()
        client.hear(Events)
        renew(place, relay)
        wait_for(lambda: handshake(place, place.endpoint("subscribe"), place.keys.relay))
        repo.commit()
        assert client.hear(Events, Bye).scanned == 2


def test_live_copies_over_tcp_need_the_new_key(place):
    repo = place.repo()
    publish, old = free_address(), place.keys.relay
    with place.relay(publish=publish, subscribe=()) as relay:
        assert handshake(place, publish, old, zmq.XPUB)
        renew(place, relay)
        wait_for(lambda: handshake(place, publish, place.keys.relay, zmq.XPUB), "the new key")
        assert not handshake(place, publish, old, zmq.XPUB)
        # and live copies come, once hg has the new certificate
        messages = [message.frames() for message in repo.commit()]
        curve = place.keys.publisher
        assert len(publish_live(place, messages, endpoint=publish, curve=curve)) == 1


def test_the_key_may_change_again_and_again_under_load(place):
    # Given many sessions, and commits that go on
    repo = place.repo()
    repo.commit()
    end = place.endpoint("subscribe")
    keys = [place.keys.make(f"n{at}", **READ) for at in range(30)]
    with place.relay() as relay:
        for _ in range(3):
            clients = [place.client(key=key) for key in keys]
            for client in clients:
                client.follow(positions={repo.head().journal: 0})
            renew(place, relay)
            repo.commit()
            for client in clients:
                assert client.hear(Bye)
            wait_for(lambda: handshake(place, end, place.keys.relay), "the new key")
        assert go_on(place, end, keys[0], repo.head().journal, 0) == [1, 2, 3, 4]


def test_a_reader_of_the_broadcast_with_a_new_certificate(place):
    # Given a reader over tcp
    broadcast, relay_key, old = free_address(), place.keys.relay, place.keys.subscriber
    file = place.folder / "reader.cert"
    file.write_bytes(old.certificate)
    with place.relay(broadcast=broadcast, broadcast_readers=(file,)) as relay:
        assert handshake(place, broadcast, relay_key, zmq.SUB)
        assert not relay.gate.renew_readers()
        # When its file holds another certificate
        place.keys.subscriber = place.keys.make("ci", **READ)
        assert not handshake(place, broadcast, relay_key, zmq.SUB)
        file.write_bytes(place.keys.subscriber.certificate)
        assert relay.gate.renew_readers()
        # Then the new key may read, and the old one may not
        assert handshake(place, broadcast, relay_key, zmq.SUB)
        place.keys.subscriber = old
        assert not handshake(place, broadcast, relay_key, zmq.SUB)
