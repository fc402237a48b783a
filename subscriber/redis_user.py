"""The user of a Redis or Valkey server that a store needs, and its functions, for `init`.

    zmq-subscriber init --redis ci --credentials ci.redis | redis-cli
    zmq-subscriber init --library | redis-cli -x FUNCTION LOAD REPLACE

The file holds one line, `user:password`, as `credentials` in the settings names it. Where there is
none it is made, with a new password: that is read by nobody, and the line holds its digest only.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from hgext_zmqhooks.service.errors import ConfigError, ServiceError
from hgext_zmqhooks.service.secretfile import read_secret


def acl(name: str, path: Path) -> str:
    """The line that makes the user of this file, with the rights of the subscriber `name`'s store.

    ServiceError for a file that cannot be used, or where the package `redis` is missing.
    """
    with _installed("--redis"):
        from subscriber.store.redis_server import acl_line  # noqa: PLC0415
    if not path.exists():
        user = re.sub("[^A-Za-z0-9_.-]", "-", name)
        _make(path, f"zmqhooks-{user}:{secrets.token_urlsafe(32)}\n")
    user, _, password = read_secret(path).partition(":")
    if not user or not password or any(map(str.isspace, user)):
        raise ConfigError(path, "", None, "holds no user and password", "write user:password")
    return acl_line(name, user=user, sha256=hashlib.sha256(password.encode()).hexdigest())


def functions() -> str:
    """What the administrator of a server loads, where the subscriber's own user may not."""
    with _installed("--library"):
        from subscriber.store.redis_session import library  # noqa: PLC0415
    return library()


@contextlib.contextmanager
def _installed(what: str) -> Iterator[None]:
    """Who keeps everything in SQLite need not have installed what a server needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        reason = f"it needs the Python package {error.name}, which is not installed"
        raise ServiceError(f"{what}: {reason}", hint="pip install 'hg-zmqhooks[redis]'") from None


def _make(path: Path, line: str) -> None:
    """A file that only its owner reads. ServiceError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        hint = "name a file in a folder of yours"
        raise ServiceError(f"{path}: {error.strerror}", hint=hint) from None
    with os.fdopen(handle, "w") as file:
        file.write(line)
