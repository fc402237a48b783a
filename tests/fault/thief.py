"""A TCP proxy that takes whole messages of a session out of a connection, and leaves the rest.

    with Thief(("127.0.0.1", 5701)) as thief:
        connect to ("127.0.0.1", thief.port)
        thief.withhold(UP, "FOLLOW")        the next one never arrives; nothing else is touched

It has no key and cannot read a frame. It needs none: each frame of a message is a box of its own
(RFC 26), so that the length of the second one tells the verb. Neither side's libzmq notices: a
nonce has to be larger than the one before, not by how much.
"""

import contextlib
import socket
import struct

from fault.proxy import Proxy

from hgext_zmqhooks.wire.messages import VERSION

GREETING = 64
LONG = 2
MESSAGE = b"\x07MESSAGE"
BOXED = len(MESSAGE) + 8 + 16 + 1
"""Bytes of a MESSAGE besides the content of its frame: short nonce, authenticator, flags."""
FRAMES = 4


class Thief(Proxy):
    """`count["withheld"]`: messages taken out. Of two verbs of one length it takes the first."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._wanted: dict[str, int] = {}

    def withhold(self, direction: str, verb: str) -> None:
        self._wanted[direction] = len(verb)

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError, EOFError):
            for _ in range(GREETING):  # each side waits for the other's in the midst of it
                sink.sendall(_taken(source, 1))
            while True:
                frames = [_frame(source)]
                if _length(frames[0]) == len(VERSION):  # else of the handshake, or a heartbeat
                    frames += [_frame(source) for _ in range(FRAMES - 1)]
                    if self._wanted.get(direction) == _length(frames[1]):
                        del self._wanted[direction]
                        self.count["withheld"] += 1
                        continue
                sink.sendall(b"".join(head + body for head, body in frames))
        self._end(source, sink)


def _frame(source: socket.socket) -> tuple[bytes, bytes]:
    """Flags with length, and body, as they are on the way."""
    head = _taken(source, 2)
    if head[0] & LONG:
        head += _taken(source, 7)
        return head, _taken(source, struct.unpack(">Q", head[1:])[0])
    return head, _taken(source, head[1])


def _length(frame: tuple[bytes, bytes]) -> int | None:
    """Bytes of what is in the box, None if it is no MESSAGE."""
    _, body = frame
    return len(body) - BOXED if body.startswith(MESSAGE) else None


def _taken(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
