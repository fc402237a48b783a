"""How we reach Redis or Valkey: the address as an operator writes it, and the client.

    redis://host:6379/0        rediss://host/2        unix:///run/valkey/valkey.sock?db=0

A password never stands in an address, which ends up in logs and in lists of processes: it is in a
file with one line, `user:password` (`:password` for the default user), which is read again at each
connect, so that it can be changed while a daemon runs. With Sentinel the address says how (redis or
rediss, and the database); `sentinels` are asked where the primary of `service` is at each connect.

The client never repeats a command by itself, as redis-py does ten times by default: a claim that is
repeated because its answer was lost leases a second delivery to nobody. It gives up after
`TIMEOUT` seconds.
"""

import re
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from .errors import EXIT, ServiceError, without_secret
from .secretfile import read_secret

TIMEOUT = 5.0
"""Seconds that a connect or an answer may take."""

MAX_CONNECTIONS = 1024
"""At once, of one client: more than the threads of a daemon."""

PORT = 6379
SENTINEL_PORT = 26379
_MOST_DATABASES = 2**31 - 1

_FORMS = "redis://host:6379/0, rediss://host:6379/0 and unix:///path?db=0"
_SECRET = re.compile(r"(?<!/)//(?:[^/].*)?@|[?&]password=", re.DOTALL)


class AddressError(ServiceError):
    """An address of a Redis server, or what goes with it, is wrong."""

    status = EXIT.CONFIG


class RedisUrl(str):
    """An address without secrets, checked, with its parts; a type for settings, too.

    `host` and `port`, or `path` of a unix socket; `tls`; the number of the database, `db`.

    >>> url = RedisUrl.parse("rediss://db.example.org/2")
    >>> url.host, url.port, url.db, url.tls
    ('db.example.org', 6379, 2, True)
    >>> RedisUrl.parse("unix:///run/valkey.sock?db=1").path
    '/run/valkey.sock'
    """

    __slots__ = ("db", "host", "path", "port", "tls")

    host: str
    port: int
    path: str
    db: int
    tls: bool

    @classmethod
    def parse(cls, text: object) -> "RedisUrl":
        """The address; ValueError says what is wrong with it, and repeats no password."""
        if not isinstance(text, str):
            raise ValueError(f"valid are {_FORMS}")  # noqa: TRY004 - as all parsers of settings
        if _SECRET.search(text):
            raise ValueError(
                "it names a user or a password: write `user:password` into a file of mode 0600,"
                " and name it as `credentials`"
            )
        parts = urlsplit(text)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError(f"valid are {_FORMS}")
        url = cls(text)
        url.tls = parts.scheme == "rediss"
        url.host, url.port, url.path = "", 0, ""
        if parts.scheme == "unix":
            url.path = _socket(unquote(parts.path), parts.netloc)
            url.db = _database(_only_db(parts.query))
        else:
            url.host, url.port = host_port(parts.netloc, PORT)
            if parts.query or parts.fragment:
                raise ValueError(f"valid are {_FORMS}, without anything behind")
            url.db = _database(parts.path.removeprefix("/"))
        return url


def _socket(path: str, host: str) -> str:
    if host or not path.startswith("/") or "\0" in path:
        raise ValueError("a unix socket is an absolute path, such as unix:///run/valkey.sock")
    return path


def _only_db(query: str) -> str:
    values = parse_qs(query, keep_blank_values=True)
    if values.keys() - {"db"}:
        raise ValueError("only db=NUMBER may follow, such as unix:///run/valkey.sock?db=0")
    return values.get("db", [""])[-1]


def _database(text: str) -> int:
    if not re.fullmatch("[0-9]{0,10}", text) or int(text or 0) > _MOST_DATABASES:
        raise ValueError(f"{text!r} is not the number of a database, such as redis://host:6379/0")
    return int(text or 0)


def host_port(text: str, port: int) -> tuple[str, int]:
    """The parts of `host` or `host:port`; ValueError says what is wrong.

    >>> host_port("[::1]:7000", 6379), host_port("db", 6379)
    (('::1', 7000), ('db', 6379))
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::([0-9]{1,5}))?", text)
    if found is None or not 0 < int(found[3] or port) < 2**16:
        raise ValueError(f"{text.rpartition('@')[2]!r} is not host or host:port")
    return found[1] or found[2], int(found[3] or port)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """One server, or the primary that `sentinels` name for `service`.

    `credentials`: the file with user and password; `ca`: certificates that a server's is checked
    against with rediss, the system's if None. `str()` of it holds no secret.
    """

    url: RedisUrl
    credentials: Path | None = None
    ca: Path | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str | None = None

    def __post_init__(self) -> None:
        if bool(self.sentinels) != (self.service is not None):
            hint = "name both, or neither: service is the name that the sentinels give the primary"
            raise AddressError(f"{self.url}: `sentinels` and `service` go together", hint=hint)
        if self.sentinels and self.url.path:
            hint = "write redis:// or rediss://; host and port then come from the sentinels"
            raise AddressError(f"{self.url}: sentinels name no unix socket", hint=hint)
        if self.ca is not None and not self.url.tls:
            hint = "write rediss:// for TLS, or leave `ca` out"
            raise AddressError(f"{self.url}: `ca` is for TLS only", hint=hint)

    def __str__(self) -> str:
        return f"{self.url} (primary of {self.service})" if self.service else str(self.url)


def parse_address(
    url: str,
    *,
    credentials: Path | None = None,
    ca: Path | None = None,
    sentinels: tuple[str, ...] = (),
    service: str | None = None,
) -> RedisAddress:
    """The address from texts, as a command or a setting has them; AddressError if it is wrong."""
    try:
        return RedisAddress(
            url=RedisUrl.parse(url),
            credentials=credentials,
            ca=ca,
            sentinels=tuple(host_port(each, SENTINEL_PORT) for each in sentinels),
            service=service,
        )
    except ValueError as error:
        raise AddressError(f"{without_secret(url)}: {error}") from None


def read_user(path: Path) -> tuple[str, str]:
    """User and password of a file; ServiceError if it cannot be used."""
    user, separator, password = read_secret(path).partition(":")
    if not separator:
        hint = "write one line, user:password"
        raise AddressError(f"{path}: holds no user and password", hint=hint)
    return user or "default", password


class FileCredentials(CredentialProvider):
    """User and password from a file, read at each connect."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str, str]:
        """User and password. A file that cannot be used is a failed login to redis-py."""
        try:
            return read_user(self._path)
        except ServiceError as error:
            raise redis.AuthenticationError(str(error)) from error


def connect(address: RedisAddress, *, name: str, timeout: float = TIMEOUT) -> redis.Redis:
    """A client, which connects when it is used first, and again whenever its connection is lost.

    `name`: what the server's list of clients shows. Answers are bytes. Any number of threads may
    use it. Every error is a redis.RedisError; `explain` says what one means.
    """
    url = address.url
    options = _options(address, name, timeout)
    if address.service is not None:
        asked = {key: value for key, value in options.items() if key not in _OF_PRIMARY}
        untyped: Any = Sentinel
        sentinel = untyped(address.sentinels, sentinel_kwargs=asked, **options)
        found: redis.Redis = sentinel.master_for(address.service)
        return found
    place: dict[str, Any] = {"host": url.host, "port": url.port}
    if url.path:
        place = {"unix_socket_path": url.path}
    return redis.Redis(**place, **options)


# CLIENT SETINFO would need a right that servers before 7.2 cannot even name.
_QUIET: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in signature(redis.Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)

# Sentinels have users and databases of their own: none.
_OF_PRIMARY = {"db", "credential_provider"}


def _options(address: RedisAddress, name: str, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "db": address.url.db,
        "client_name": re.sub(r"[^!-~]", "_", name),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": MAX_CONNECTIONS,
        "protocol": 2,
        "decode_responses": False,
        **_QUIET,
    }
    if address.credentials is not None:
        options["credential_provider"] = FileCredentials(address.credentials)
    if address.url.tls:
        options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if address.ca is not None:
            options["ssl_ca_certs"] = str(address.ca)
    return options


_MEANINGS = (
    (
        redis.AuthenticationError,
        "it refuses our user or password",
        "correct `credentials`, or make the user: a restart keeps only those of an `aclfile`",
    ),
    (
        redis.exceptions.NoPermissionError,
        "our user may not do this",
        "give it the rights that `zmq-subscriber init --redis` prints",
    ),
    (redis.BusyLoadingError, "it is still reading its data", "wait; work goes on by itself"),
    (
        redis.ReadOnlyError,
        "it is a replica, which cannot be written",
        "name the primary, or let Sentinel find it: `sentinels` and `service`",
    ),
    (
        redis.exceptions.OutOfMemoryError,
        "its memory is full",
        "raise its maxmemory, or keep receipts for a shorter time: `keep`",
    ),
    (
        MasterNotFoundError,
        "the sentinels name no primary",
        "correct `sentinels` and `service`, or wait for the fail-over",
    ),
    (
        redis.TimeoutError,
        "it does not answer",
        "is it overloaded or stopped, or is something dropped on the way?",
    ),
    (
        redis.ConnectionError,
        "it cannot be reached",
        "is it running, and is the address right? Work goes on by itself once it is back",
    ),
)

_WORDS = {
    "NOREPLICAS": ("too few replicas follow it", "start them, or lower min-replicas-to-write"),
    "MISCONF": ("it cannot write to its disk", "look at its log"),
    "NOAUTH": ("it wants a user and a password", "name a file with them as `credentials`"),
}


def explain(error: redis.RedisError) -> tuple[str, str]:
    """What went wrong, and a hint."""
    cause = error.__cause__
    if isinstance(cause, ServiceError):
        return str(cause), cause.hint
    word = str(error).partition(" ")[0]
    if word in _WORDS:
        reason, hint = _WORDS[word]
    else:
        known = (found for found in _MEANINGS if isinstance(error, found[0]))
        _, reason, hint = next(known, (None, "it failed", ""))
    return f"{reason} ({error})", hint
