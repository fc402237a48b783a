"""Sockets with limits, CURVE, and tcp endpoints that only CURVE servers may bind.

- CURVE without ZAP_ENFORCE_DOMAIN lets anyone in when the handler is absent.
- Only the User-Id that our ZAP answer set may be trusted, and only on a CURVE socket.
"""

import ipaddress

import zmq

from ..wire.keyfiles import SecretKey
from .endpoints import check_endpoint
from .errors import ServiceError
from .ipc import cannot_serve

HANDSHAKE_IVL = 3000
HEARTBEAT_IVL = 5000
HEARTBEAT_TIMEOUT = 15000


def limit(socket: "zmq.Socket[bytes]", max_message: int) -> None:
    """Bounds for every socket of a daemon; call it before bind or connect.

    `max_message`: bytes of one frame; a peer that sends more is disconnected. A peer that is
    silent for 15 s, or whose handshake takes 3 s, is too.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_message)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_IVL)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
    socket.setsockopt(zmq.BACKLOG, 1000)
    socket.setsockopt(zmq.IPV6, 1)


def curve_server(socket: "zmq.Socket[bytes]", secret: SecretKey, domain: str) -> None:
    """Make a socket that binds speak CURVE; needs a running `Zap` on its context.

    `domain`: what the policy of the `Zap` is told, so that it may tell sockets apart.
    """
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.curve_secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def plain_server(socket: "zmq.Socket[bytes]", domain: str) -> None:
    """Let a socket that binds tcp do without CURVE; a running `Zap` decides about addresses."""
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def curve_client(socket: "zmq.Socket[bytes]", secret: SecretKey, server_key: str) -> None:
    """Make a socket that connects speak CURVE to the holder of `server_key` (Z85) only."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.curve_secret.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, secret.curve_public.encode())


def user_id(frame: zmq.Frame) -> str | None:
    """The Z85 key of the CURVE peer that sent this frame, as our ZAP answer named it."""
    try:
        value = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return str(value) or None


def descriptor(frame: zmq.Frame) -> int | None:
    """The file descriptor of the connection that this frame came by; it may be closed by now."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None


def bind_tcp(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Bind a tcp endpoint; only what `curve_server` or `plain_server` prepared may."""
    checked = check_endpoint(endpoint)
    if not socket.getsockopt(zmq.ZAP_DOMAIN):
        raise ServiceError(
            f"{endpoint}: a tcp endpoint without CURVE would let anyone in",
            hint="give the relay a `key`, or use an ipc endpoint",
        )
    try:
        ipaddress.ip_address(checked.host.strip("[]"))
    except ValueError:
        if checked.host != "*":
            raise ServiceError(
                f"{endpoint}: {checked.host!r} is not an address of this machine",
                hint="write the address in digits, or 0.0.0.0 or [::] for all of them",
            ) from None
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise cannot_serve(endpoint, error) from None
