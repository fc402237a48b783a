"""A connection to a relay: whom it leads to, and how one learns that it failed or ended."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.messages import MAX_MESSAGE

Context = zmq.Context[zmq.Socket[bytes]]

ENDS = {
    zmq.EVENT_DISCONNECTED: "the connection was lost",
    zmq.EVENT_CLOSED: "nobody listens there",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: is it the relay's certificate?",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: no relay listens there",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the relay refused our key",
}
"""Events of a socket's monitor that end a connection, for people."""


class Lost(Exception):  # noqa: N818 - what happened to the session
    """The session is over; `kind` for counters, str() for people."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Remote:
    """A relay to follow. `name`: under which the store knows it.

    `token`: gives its certificate at each attempt (None while there is none), and is None itself
    for a relay in this process, which needs no CURVE. `pinned`: the file that the certificate is
    in, where an operator copied it there.
    """

    name: str
    address: str
    token: Callable[[], bytes | None] | None = None
    pinned: Path | None = None


def secure(
    socket: "zmq.Socket[bytes]", remote: Remote, secret: SecretKey, keyring: Keyring
) -> bytes | None:
    """CURVE to the key in the relay's certificate, if a root of ours vouches for it; else Lost.

    Returns the certificate.
    """
    if remote.token is None:
        return None
    try:
        token = remote.token()
    except ServiceError as error:
        raise Lost("bad-certificate", f"{error} ({error.hint})") from None
    if token is None:
        raise Lost("unreachable", "nobody listens there: no certificate beside the socket")
    check_relay(token, keyring, time.time())
    sockets.curve_client(socket, secret, keyring.certificate(token).curve)
    return token


def check_relay(token: bytes | None, keyring: Keyring, now: float) -> None:
    """Lost unless the certificate is that of a relay, and valid now (unix seconds)."""
    if token is None:
        return
    try:
        keyring.peer(token, "relay", now)
    except Refused as error:
        raise Lost(error.kind, f"the relay's certificate is refused: {error.detail}") from None


def why(event: zmq.Event, remote: Remote) -> str:
    """Why a connection ended, for people."""
    if event is zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and remote.pinned is not None:
        return (
            "the handshake failed: the relay's certificate may have been renewed; copy its new"
            f" N.cert to {remote.pinned}"
        )
    return ENDS.get(event, "")


def probe(remote: Remote, secret: SecretKey, keyring: Keyring, seconds: float) -> str:
    """Try the connection and its CURVE handshake; returns why it failed, or nothing.

    No HELLO is said: that would bind our name to a store.
    """
    context: Context = zmq.Context()
    with contextlib.ExitStack() as stack:
        stack.callback(context.term)
        socket = context.socket(zmq.DEALER)
        stack.callback(socket.close)
        sockets.limit(socket, MAX_MESSAGE)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = socket.get_monitor_socket(sum(ENDS) + zmq.EVENT_HANDSHAKE_SUCCEEDED)
        stack.callback(monitor.close, linger=0)
        stack.callback(socket.disable_monitor)
        try:
            secure(socket, remote, secret, keyring)
            socket.connect(remote.address)
        except Lost as lost:
            return str(lost)
        except zmq.ZMQError as error:
            return str(error.strerror)
        if not monitor.poll(int(seconds * 1000)):
            return f"it does not answer within {seconds:g} s"
        event = zmq.Event(parse_monitor_message(monitor.recv_multipart())["event"])
        return why(event, remote)
