"""The tcp connections of sockets that we bind: how much each sent of a message without an end.

libzmq keeps the frames of a message until its last one has come, and neither its high water mark
nor MAXMSGSIZE bounds their number (measured with 4.3.5: 6,000 frames of 60 kB were kept, 360 MB).
So the bytes that the kernel received on a connection are compared with their number at the last
complete message; when they grew by more than a limit, the connection is cut.

The monitor of a socket tells when a connection comes and goes, a message tells which one it came by
(SRCFD). There is no way to close one connection of a socket, but shutdown(2) on a copy of its
descriptor ends it: libzmq sees the end of the stream. A descriptor may have been closed and given
to somebody else meanwhile, so the peer's address is compared before.

Connections over ipc are let alone: the kernel does not count their bytes, and who may use the path
is in its group.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import zmq

from .sockets import descriptor

LOOK_SECONDS = 0.1
"""How often the connections are looked at, while there are any: 4 us each."""
HEARTBEATS = 100
"""Bytes a second that may come without a message: a heartbeat has about 45, encrypted."""

_BYTES_RECEIVED = struct.Struct("@128xQ")
"""tcpi_bytes_received in struct tcp_info, since Linux 4.1."""
_INT = struct.Struct("@i")
_EVENT = struct.Struct("=hi")

_numbers = count(1)


@dataclass(slots=True)
class _Connection:
    """`base`: bytes received up to the last complete message, as far as we know.

    `heard`: a message came since the last look. `suspected`: too much without one at that look.
    """

    watched: int
    fd: int
    family: int
    peer: tuple[object, ...]
    base: float = 0
    heard: bool = False
    suspected: bool = False


class Connections:
    """The connections of all sockets that are watched, by socket and descriptor.

    A descriptor may go from one socket to another before both monitors are read.

    `limit`: bytes. `cut_off` is told the address of a peer that was cut off, and the bytes.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        limit: int,
        cut_off: Callable[[str, int], None],
    ) -> None:
        self._context = context
        self._limit = limit
        self._cut_off = cut_off
        self._watched: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]] = []
        self._connections: dict[tuple[int, int], _Connection] = {}
        self._looked = -LOOK_SECONDS

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def monitors(self) -> Iterator["zmq.Socket[bytes]"]:
        """What a poll has to wait for: `look` must be called when one of them is readable.

        A monitor that nobody empties stops the I/O thread of the whole context.
        """
        return (monitor for _, monitor in self._watched)

    def watch(self, bound: "zmq.Socket[bytes]") -> None:
        """Look after a socket that is about to be bound."""
        address = f"inproc://zmqhooks-connections-{next(_numbers)}"
        bound.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        monitor = self._context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(address)
        self._watched.append((bound, monitor))

    def heard(self, frames: Sequence[zmq.Frame]) -> None:
        """A complete message came: these frames, less those that libzmq itself put before them."""
        fd = descriptor(frames[0]) if self._connections and frames else None
        if fd is None:
            return
        for watched in range(len(self._watched)):
            if connection := self._connections.get((watched, fd)):
                connection.heard = True

    def look(self, tick: float) -> None:
        """Take note of who came and went; cut off who sent too much. `tick`: monotonic."""
        for number, (_, monitor) in enumerate(self._watched):
            while monitor.poll(0):
                self._note(number, *monitor.recv_multipart())
        passed = tick - self._looked
        if passed >= LOOK_SECONDS:
            self._looked = tick
            for connection in list(self._connections.values()):
                self._judge(connection, passed * HEARTBEATS)

    def cut(self, bound: "zmq.Socket[bytes]") -> None:
        """Cut off all who are connected to this socket; they may come again."""
        for connection in list(self._connections.values()):
            if self._watched[connection.watched][0] is bound:
                _shut(connection)

    def close(self) -> None:
        """Stop watching; before the watched sockets are closed."""
        for bound, monitor in self._watched:
            bound.disable_monitor()
            monitor.close()
        self._watched.clear()
        self._connections.clear()

    def _note(self, watched: int, event: bytes, _: bytes) -> None:
        kind, fd = _EVENT.unpack(event)
        self._connections.pop((watched, fd), None)
        if kind == zmq.EVENT_ACCEPTED:
            with contextlib.suppress(OSError), _borrowed(fd) as own:
                if own.family in {socket.AF_INET, socket.AF_INET6}:
                    peer = own.getpeername()
                    self._connections[watched, fd] = _Connection(watched, fd, own.family, peer)

    def _forget(self, connection: _Connection) -> None:
        del self._connections[connection.watched, connection.fd]

    def _judge(self, connection: _Connection, heartbeats: float) -> None:
        """Too much at two looks, and no message between them: what came before would be here."""
        try:
            received = _received(connection)
            if connection.heard:
                connection.base = received
            else:
                connection.base = min(received, connection.base + heartbeats)
            grown = received - connection.base
            if grown > self._limit:
                grown -= _unread(connection)
        except OSError:  # gone; the monitor will say so, or has said it before
            self._forget(connection)
            return
        suspected = grown > self._limit
        if suspected and connection.suspected and _shut(connection):
            self._forget(connection)
            self._cut_off(str(connection.peer[0]), int(grown))
        connection.heard, connection.suspected = False, suspected


@contextlib.contextmanager
def _borrowed(fd: int, family: int = -1) -> Iterator[socket.socket]:
    """A descriptor of libzmq's as a socket; it is given back, and not closed."""
    own = socket.socket(family, socket.SOCK_STREAM, 0, fd)
    try:
        yield own
    finally:
        own.detach()


def _received(connection: _Connection) -> int:
    """Bytes that the kernel received on it."""
    with _borrowed(connection.fd, connection.family) as own:
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    if len(info) < _BYTES_RECEIVED.size:
        raise OSError(errno.ENOTSUP, "the kernel does not count the bytes of a connection")
    return int(_BYTES_RECEIVED.unpack(info)[0])


def _unread(connection: _Connection) -> int:
    """Those of them that libzmq has not taken yet: whole messages may be among them."""
    return int(_INT.unpack(fcntl.ioctl(connection.fd, termios.FIONREAD, bytes(_INT.size)))[0])


def _shut(connection: _Connection) -> bool:
    """End a connection; False if the descriptor belongs to somebody else now."""
    try:
        with socket.socket(fileno=os.dup(connection.fd)) as own:
            if own.getpeername() != connection.peer:
                return False
            # When libzmq closes it, the peer is told by a reset: it may be waiting to send more.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            own.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True
