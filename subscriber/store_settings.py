"""Where the store is, as `store` says it: a file of this host, or a server that hosts share.

store: sqlite:/var/lib/zmqhooks/ci.db
store: redis://db.example.com:6379/0          # rediss:// with TLS, unix:///run/valkey.sock?db=0
store:
url: rediss://db.example.com:6379/0
credentials: redis.secret                   # one line, user:password; mode 0600
ca: ca.pem                                  # else the system's
sentinels: ["s1.example.com:26379", "s2.example.com:26379"]    # then url says no host
service: ci                                 # what the sentinels call the primary
"""

from pathlib import Path
from typing import TYPE_CHECKING, Union

from hgext_zmqhooks.service.config import Frozen
from hgext_zmqhooks.service.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from hgext_zmqhooks.service.redis_client import RedisAddress

StoreAddress = Union[Path, "RedisAddress"]
"""A SQLite file, or a server."""

_SQLITE = "sqlite:/var/lib/zmqhooks/NAME.db"
_SERVERS = ("redis:", "rediss:", "unix:")


class Server(Frozen, frozen=True):
    """A server with what goes with its address."""

    url: str
    credentials: Path | None = None
    ca: Path | None = None
    sentinels: tuple[str, ...] = ()
    service: str | None = None


def store_address(file: Path, written: str | Server) -> StoreAddress:
    """What `store` in this file means. ConfigError."""
    if isinstance(written, Server):
        return _server(file, written, "store.url")
    if written.startswith(_SERVERS):
        return _server(file, Server(url=written), "store")
    scheme, _, path = written.partition(":")
    if scheme != "sqlite" or not path or "\0" in path:
        hint = f"use {_SQLITE}, or redis://HOST:6379/0 for a store that hosts share"
        raise ConfigError(file, "store", written, "not the address of a store", hint)
    return file.parent / path


def _server(file: Path, written: Server, key: str) -> "RedisAddress":
    try:
        # Who keeps everything in SQLite need not have installed it.
        from hgext_zmqhooks.service.redis_client import parse_address  # noqa: PLC0415
    except ModuleNotFoundError as error:
        reason = f"it needs the Python package {error.name}, which is not installed"
        hint = "pip install 'hg-zmqhooks[redis]'"
        raise ConfigError(file, key, written.url, reason, hint) from None
    try:
        return parse_address(
            written.url,
            credentials=written.credentials,
            ca=written.ca,
            sentinels=written.sentinels,
            service=written.service,
        )
    except ServiceError as error:
        reason = str(error).partition(": ")[2]
        raise ConfigError(file, key, written.url, reason, error.hint) from None
