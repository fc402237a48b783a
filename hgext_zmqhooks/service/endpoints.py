"""Addresses of sockets, as an operator writes them: `ipc:///path` and `tcp://host:port`."""

import os

from .errors import ServiceError

IPC_PATH_MAX = 107
"""Bytes of a unix socket's path (sun_path less its end mark)."""


class Endpoint(str):
    """An address, checked, with its parts: `ipc` with `path`, or `tcp` with `host` and `port`.

    A text itself, so that it can be bound and shown; a type for settings, too.

    >>> Endpoint.parse("tcp://[::1]:5701").host
    '[::1]'
    >>> Endpoint.parse("ipc://run/x")
    Traceback (most recent call last):
    ...
    ValueError: an ipc path is absolute, such as ipc:///run/zmqhooks/publish
    """

    __slots__ = ("host", "path", "port", "transport")

    transport: str
    path: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> "Endpoint":
        """The endpoint; ValueError says what is wrong with it."""
        transport, separator, rest = str(text).partition("://")
        if not isinstance(text, str) or not separator or transport not in {"ipc", "tcp"}:
            raise ValueError("neither ipc:///path nor tcp://host:port")
        endpoint = cls(text)
        endpoint.transport = transport
        endpoint.path, endpoint.host, endpoint.port = "", "", 0
        if transport == "ipc":
            endpoint.path = _ipc_path(rest)
        else:
            endpoint.host, endpoint.port = _tcp_address(rest)
        return endpoint


def check_endpoint(text: str) -> Endpoint:
    """The parts of `ipc:///path` or `tcp://host:port`; ServiceError says what is wrong."""
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise ServiceError(f"{text}: {error}") from None


def _ipc_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise ValueError("an ipc path is absolute, such as ipc:///run/zmqhooks/publish")
    length = len(os.fsencode(path))
    if length > IPC_PATH_MAX:
        raise ValueError(
            f"the path has {length} bytes, and a unix socket takes {IPC_PATH_MAX}: use a shorter"
            " one, such as ipc:///run/zmqhooks/publish"
        )
    return path


def _tcp_address(rest: str) -> tuple[str, int]:
    host, _, port = rest.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ValueError("a tcp endpoint is tcp://host:port")
    return host, int(port)
