"""Who may connect: the ZAP handler of a context (RFC 27 of ZeroMQ).

Measured reasons are in the facts about ZeroMQ; in short:

- A ZAP handler that dies shuts everyone out, so ours is a thread that no exception ends.
- Only the User-Id that our answer set may be trusted, and only on a CURVE socket.
"""

import contextlib
import enum
import logging
import threading
from collections.abc import Callable, Collection

import zmq
from zmq.utils import z85

from .life import ROOT, Stop

SUBSCRIBE = "zmqhooks-subscribe"
PUBLISH = "zmqhooks-publish"
BROADCAST = "zmqhooks-broadcast"
"""ZAP domains: what a policy tells sockets apart by."""

ZAP_ADDRESS = "inproc://zeromq.zap.01"
"""Fixed by RFC 27 of ZeroMQ."""

Policy = Callable[[str, str, str], "Answer"]
"""(ZAP domain, Z85 public key, peer address) -> Answer; "" is the key of who has none."""


class Answer(enum.Enum):
    """What a policy says to a key that wants to connect."""

    ADMIT = b"200"
    LATER = b"300"
    """Not now; libzmq tries again by itself: unknown or expired, which may change."""
    NEVER = b"400"
    """libzmq gives up until the peer makes a new socket: revoked."""


def admit_any(domain: str, key: str, address: str) -> Answer:
    """The policy where everything is checked against the key afterwards."""
    del domain, key, address
    return Answer.ADMIT


class Zap(threading.Thread):
    """The ZAP 1.0 handler of one context: User-Id = Z85 public key of the peer.

    Only CURVE is let in, but in the domains `plain`, where a peer needs no key.
    Start it before the first CURVE server binds; at most one per context. Whatever the policy
    does, a request is answered (500 when the policy raised) and the thread lives.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        policy: Policy = admit_any,
        *,
        plain: Collection[str] = (),
    ) -> None:
        super().__init__(name="zap", daemon=True)
        self._plain = plain
        self._policy = policy
        self._stop_asked = Stop()
        self._log = logging.getLogger(f"{ROOT}.zap")
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ZAP_ADDRESS)

    def run(self) -> None:
        """Answer until `close`."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop_asked.fileno(), zmq.POLLIN)
        while not self._stop_asked.is_set():
            poller.poll()
            while self._socket.poll(0):
                self._answer(self._socket.recv_multipart())
        self._shut()

    def _shut(self) -> None:
        # Unbound at once; closing alone frees the address some time later.
        self._socket.unbind(ZAP_ADDRESS)
        self._socket.close()

    def _answer(self, request: list[bytes]) -> None:
        # [route, "", version, request id, domain, address, identity, mechanism, credentials…]
        route, body = request[:2], request[2:]
        try:
            code, user = self._judge(body)
        except Exception:  # noqa: BLE001 - a handler that dies shuts everyone out
            self._log.exception("the policy failed; the peer is not admitted")
            code, user = b"500", b""
        reply = [*route, b"1.0", body[1] if len(body) > 1 else b"", code, b"", user, b""]
        with contextlib.suppress(zmq.ZMQError):  # who asked is gone
            self._socket.send_multipart(reply, zmq.DONTWAIT)

    def _judge(self, body: list[bytes]) -> tuple[bytes, bytes]:
        if len(body) < 6 or body[0] != b"1.0":
            return b"400", b""
        domain, address = body[2].decode("utf-8", "replace"), body[3].decode("utf-8", "replace")
        key = b""
        if body[5] == b"CURVE" and len(body) == 7 and len(body[6]) == 32:
            key = z85.encode(body[6])
        elif body[5] != b"NULL" or domain not in self._plain:
            return b"400", b""
        answer = self._policy(domain, key.decode(), address)
        return answer.value, key if answer is Answer.ADMIT else b""

    def close(self) -> None:
        """End the thread; the context may be closed afterwards."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(5)
        elif not self._socket.closed:
            self._shut()
