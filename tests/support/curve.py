"""A ZMTP peer with CURVE, made by hand: says after a true handshake what libzmq never would.

    with CurvePeer(endpoint, key, server_key, "DEALER") as peer:
        peer.frame(b"part", more=True)      # and never the end
        peer.raw(b"anything")

RFC 23 (ZMTP) and RFC 26 (CurveZMQ). It sends; what comes back after the handshake it can await.
"""

import os
import socket
import struct
from typing import Self

from nacl import bindings
from zmq.utils import z85

from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.wire.keyfiles import SecretKey

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)
MORE, LONG, COMMAND = 1, 2, 4
DEADLINE = 20.0


def framed(body: bytes, flags: int = 0) -> bytes:
    """A ZMTP frame around a body."""
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return struct.pack(">BQ", flags | LONG, len(body)) + body


def metadata(**values: bytes) -> bytes:
    """The properties of a READY or an INITIATE."""
    out = b""
    for name, value in values.items():
        key = name.replace("_", "-").encode()
        out += bytes([len(key)]) + key + struct.pack(">I", len(value)) + value
    return out


def plain_peer(endpoint: Endpoint, socket_type: bytes) -> socket.socket:
    """A connection to an ipc socket without CURVE, after its handshake."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(DEADLINE)
    peer.connect(endpoint.path)
    about = b"\x05READY" + metadata(Socket_Type=socket_type)
    peer.sendall(GREETING.replace(b"CURVE", b"NULL\0") + framed(about, COMMAND))
    came = b""
    while b"Socket-Type" not in came:
        came += peer.recv(4096)
    return peer


class CurvePeer:
    """A connection that has proved its key; closed on leaving."""

    def __init__(
        self, endpoint: Endpoint, key: SecretKey, server_key: str, socket_type: str
    ) -> None:
        self._server = z85.decode(server_key)
        self._public, self._secret = (
            z85.decode(one) for one in (key.curve_public, key.curve_secret)
        )
        self._numbers = 0
        if endpoint.transport == "ipc":
            self.socket = socket.socket(socket.AF_UNIX)
            address: object = endpoint.path
        else:
            family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
            self.socket = socket.socket(family)
            address = (endpoint.host.strip("[]"), endpoint.port)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(address)
        self.socket.sendall(GREETING)
        self._take(64)
        self._shake_hands(metadata(Socket_Type=socket_type.encode(), Identity=b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _shake_hands(self, about: bytes) -> None:
        public, secret = bindings.crypto_box_keypair()
        nonce = self._number()
        box = bindings.crypto_box(bytes(64), b"CurveZMQHELLO---" + nonce, self._server, secret)
        hello = b"\x05HELLO\x01\x00" + bytes(72) + public + nonce + box
        self.raw(framed(hello, COMMAND))
        welcome = self.hear()
        assert welcome.startswith(b"\x07WELCOME"), welcome[:20]
        opened = bindings.crypto_box_open(
            welcome[24:], b"WELCOME-" + welcome[8:24], self._server, secret
        )
        theirs, cookie = opened[:32], opened[32:]
        self._shared = bindings.crypto_box_beforenm(theirs, secret)
        voucher = os.urandom(16)
        vouch = bindings.crypto_box(
            public + self._server, b"VOUCH---" + voucher, theirs, self._secret
        )
        nonce = self._number()
        box = bindings.crypto_box_afternm(
            self._public + voucher + vouch + about, b"CurveZMQINITIATE" + nonce, self._shared
        )
        self.raw(framed(b"\x08INITIATE" + cookie + nonce + box, COMMAND))
        ready = self.hear()
        assert ready.startswith(b"\x05READY"), ready[:20]

    def _number(self) -> bytes:
        self._numbers += 1
        return self._numbers.to_bytes(8, "big")

    def boxed(self, content: bytes, flags: int = 0) -> bytes:
        """The MESSAGE that holds a frame; `flags` are those inside the box."""
        nonce = self._number()
        plain = bytes([flags]) + content
        box = bindings.crypto_box_afternm(plain, b"CurveZMQMESSAGEC" + nonce, self._shared)
        return framed(b"\x07MESSAGE" + nonce + box)

    def frame(self, content: bytes, *, more: bool = False) -> None:
        """Send one frame of a message."""
        self.raw(self.boxed(content, MORE if more else 0))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def hear(self) -> bytes:
        """The body of the next frame; EOFError when the other side hung up."""
        flags, length = self._take(2)
        if flags & LONG:
            length = int.from_bytes(bytes([length]) + self._take(7), "big")
        return self._take(length)

    def hung_up(self) -> bool:
        """Whether the other side has closed the connection; what it said is passed over."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(DEADLINE)
        return True

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError(f"the other side hung up after {len(data)} of {count} bytes")
            data += more
        return data
