"""Connections of a bound socket, with real peers; a small limit, and looks at given times."""

import contextlib
import itertools
import os
import socket as sockets
import struct

import pytest
import zmq
from support.waiting import wait_for

from hgext_zmqhooks.service.connections import LOOK_SECONDS, Connections

LIMIT = 10_000


class Bench:
    """A ROUTER without CURVE, bound by tcp, and what was cut off."""

    def __init__(self, context, new):
        self.cut = []
        self.ticks = itertools.count(step=LOOK_SECONDS)
        self.connections = Connections(context, LIMIT, lambda *said: self.cut.append(said))
        self.socket = new(zmq.ROUTER)
        self.connections.watch(self.socket)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.new = new

    def look(self):
        self.connections.look(next(self.ticks))

    def peer(self):
        """A ZeroMQ peer whose first message was taken."""
        peer = self.new(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(f"tcp://127.0.0.1:{self.port}")
        peer.send(b"hello")
        self.take()
        return peer

    def take(self):
        assert self.socket.poll(10_000)
        _, *frames = self.socket.recv_multipart(copy=False)
        self.look()
        self.connections.heard(frames)


@pytest.fixture
def bench(context, new):
    bench = Bench(context, new)
    yield bench
    bench.connections.close()


@pytest.fixture
def unfinished(bench):
    """A peer of libzmq's making whose second message, of one large frame, has not all come."""
    # A greeting and a READY without CURVE, then the head of a frame of 1 MB and a part of it.
    about = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    ready = bytes([4, len(about)]) + about
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    peer = sockets.create_connection(("127.0.0.1", bench.port))
    peer.settimeout(10)
    peer.sendall(greeting + ready)
    came = b""
    while b"ROUTER" not in came:
        came += peer.recv(4096)
    peer.sendall(b"\x00\x05hello")
    bench.take()
    bench.look()
    peer.sendall(b"\x02" + (1 << 20).to_bytes(8, "big") + bytes(LIMIT * 2))
    yield peer
    peer.close()


def test_who_sends_too_much_without_an_end_is_cut_off_at_the_second_look(bench, unfinished):
    wait_for(lambda: (bench.look(), bench.cut)[1], "the cut")

    ((address, received),) = bench.cut
    assert address == "127.0.0.1"
    assert LIMIT < received <= LIMIT * 2 + 9
    with contextlib.suppress(ConnectionError):  # its end, or a reset
        while unfinished.recv(4096):
            pass
    assert len(bench.connections) == 0


def test_a_message_that_came_whole_clears_the_account(bench):
    peer = bench.peer()
    for _ in range(20):
        peer.send(bytes(LIMIT // 2))
        bench.take()
    peer.send_multipart([bytes(LIMIT)] * 3)
    bench.take()
    bench.look()
    bench.look()
    assert bench.cut == []


def test_looks_that_come_too_early_change_nothing(bench, unfinished):
    for _ in range(10):
        bench.connections.look(0.0)
    assert bench.cut == []


def test_connections_come_and_go(bench):
    peers = [bench.peer() for _ in range(3)]
    assert len(bench.connections) == 3
    for peer in peers:
        peer.close()
    wait_for(lambda: (bench.look(), not len(bench.connections))[1], "that all are gone")


def test_cut_ends_the_connections_of_one_socket_and_they_come_again(bench, new):
    other = new(zmq.ROUTER)
    bench.connections.watch(other)
    port = other.bind_to_random_port("tcp://127.0.0.1")
    peer, another = bench.peer(), new(zmq.DEALER)
    another.connect(f"tcp://127.0.0.1:{port}")
    monitors = [one.get_monitor_socket(zmq.EVENT_DISCONNECTED) for one in (peer, another)]
    wait_for(lambda: (bench.look(), len(bench.connections) == 2)[1], "both")

    bench.connections.cut(bench.socket)

    assert monitors[0].poll(10_000)
    assert not monitors[1].poll(0)
    peer.send(b"again")
    bench.take()
    for one, monitor in zip((peer, another), monitors, strict=True):
        one.disable_monitor()
        monitor.close()


def test_a_descriptor_that_belongs_to_somebody_else_now_is_let_alone(bench):
    bench.peer()
    (known,) = bench.connections._connections.values()
    with sockets.create_server(("127.0.0.1", 0)) as server:
        innocent = sockets.create_connection(server.getsockname())
        accepted, _ = server.accept()
    known.fd = os.dup(accepted.fileno())
    bench.connections.cut(bench.socket)
    innocent.sendall(b"alive")
    assert accepted.recv(5) == b"alive"

    # One that is no socket any more is forgotten.
    os.close(known.fd)
    bench.connections.cut(bench.socket)
    bench.connections._connections = {(known.watched, known.fd): known}
    bench.look()
    assert len(bench.connections) == 0
    accepted.close()
    innocent.close()


def test_a_descriptor_that_another_socket_had_before_stays_known(bench, new):
    # Given a connection whose descriptor another socket had, and its monitor tells so afterwards
    bench.connections.watch(new(zmq.ROUTER))
    bench.peer()
    (known,) = bench.connections._connections.values()
    bench.connections._note(1, struct.pack("=hi", zmq.EVENT_DISCONNECTED, known.fd), b"")

    assert list(bench.connections._connections.values()) == [known]


def test_messages_of_other_sockets_are_passed_over(bench, new, context):
    bench.peer()
    inside, outside = new(zmq.PAIR), new(zmq.PAIR)
    inside.bind("inproc://x")
    outside.connect("inproc://x")
    outside.send(b"")
    bench.connections.heard(inside.recv_multipart(copy=False))
    bench.connections.heard([])


def test_ipc_is_let_alone(bench, new, tmp_path):
    other = new(zmq.ROUTER)
    bench.connections.watch(other)
    other.bind(f"ipc://{tmp_path}/x")
    peer = new(zmq.DEALER)
    peer.connect(f"ipc://{tmp_path}/x")
    peer.send(b"hello")
    assert other.poll(10_000)
    bench.look()
    assert len(bench.connections) == 0
