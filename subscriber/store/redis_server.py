"""Whether a server keeps what it is given, and the rights of the user that the store needs.

    for warning in check_server(connect(address, name="zmqhooks")): …
    acl_line("ci", user="zmqhooks-ci", sha256=digest)

What a server may do wrong is told by INFO, which our user may ask; `appendfsync` only to who may
read its configuration.
"""

import re
from collections.abc import Iterator
from typing import Any

import redis

from hgext_zmqhooks.service.redis_client import explain

from .errors import StoreError
from .redis_session import key_prefix

OLDEST = (7, 0)
"""The first version with functions."""

COMMANDS = (
    *("exists", "hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hset"),
    *("hsetnx", "hvals", "lrange", "rpush", "sadd", "sismember", "smembers", "srem", "time"),
    *("zadd", "zcard", "zcount", "zpopmin", "zrange", "zrangebylex", "zrangebyscore", "zrem"),
    *("zrevrange", "zrevrangebyscore", "zscore"),
)
"""What the library calls: a function has the rights of who calls it."""

CLIENT = ("client|setname", "fcall", "fcall_ro", "info", "ping", "select")
"""What the program itself sends, besides TIME."""


EVICTS = (
    "maxmemory-policy is {}: when memory is full, work is thrown away:"
    " set maxmemory-policy noeviction"
)
NO_LOG = (
    "appendonly is no: a crash loses all that was accepted since the last snapshot, or for ever:"
    " set appendonly yes"
)
NO_FSYNC = (
    "appendfsync is no: a power cut loses what the system had not written yet, half a minute or"
    " more: set appendfsync always, or everysec"
)
EACH_SECOND = (
    "appendfsync is everysec: a power cut loses a second or two: set appendfsync always, or"
    " have a replica and min-replicas-to-write 1"
)
ALONE = (
    "it has replicas, and min-replicas-to-write is 0: a fail-over loses what they had not got"
    " yet: set min-replicas-to-write 1 and min-replicas-max-lag 2"
)


def acl_line(name: str, *, user: str, sha256: str) -> str:
    """The command that gives a user exactly the rights for the store of the subscriber `name`.

    `sha256`: of the password, in hex. Users are no part of what replicas and sentinels copy: the
    line is for every server of a fleet.

    >>> acl_line("ci", user="u", sha256="ab" * 32).split()[-5:]
    ['+zrangebyscore', '+zrem', '+zrevrange', '+zrevrangebyscore', '+zscore']
    """
    rights = [f"+{command}" for command in sorted({*COMMANDS, *CLIENT})]
    keys = f"~{_pattern(key_prefix(name))}*"
    return " ".join(["ACL", "SETUSER", user, "reset", "on", f"#{sha256}", keys, "-@all", *rights])


def _pattern(text: str) -> str:
    r"""What fits a text, and is one word wherever the line is pasted.

    >>> _pattern("{zmqhooks:é b*}")
    '{zmqhooks:???b\\*}'
    """
    escaped = re.sub(r"[*?\[\]\\]", r"\\\g<0>", text)
    return re.sub("[^!-~]|[\"'#]", lambda found: "?" * len(found[0].encode()), escaped)


def check_server(client: redis.Redis, file: str) -> list[str]:
    """What may lose work on this server, one sentence each with what to do about it.

    StoreError where it cannot be used at all: too old, or a replica. `file` names it.
    """
    try:
        info: dict[str, Any] = client.info()
        fsync = _setting(client, "appendfsync")
    except redis.RedisError as error:
        raise StoreError(file, *explain(error)) from error
    _check_version(info, file)
    if info["role"] != "master":
        hint = "name the primary, or let Sentinel find it: `sentinels` and `service`"
        raise StoreError(file, "it is a replica, which cannot be written", hint)
    return [*_memory(info), *_persistence(info, fsync), *_replicas(info)]


def _setting(client: redis.Redis, name: str) -> str | None:
    """None where our user may not know."""
    try:
        found: dict[Any, Any] = client.config_get(name)
    except redis.exceptions.NoPermissionError:
        return None
    return next((_text(value) for value in found.values()), None)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _check_version(info: dict[str, Any], file: str) -> None:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        hint = "use Redis 7.0 or newer, or any Valkey"
        raise StoreError(file, f"it is Redis {version}, which knows no functions", hint)


def _memory(info: dict[str, Any]) -> Iterator[str]:
    if info["maxmemory_policy"] != "noeviction":
        yield EVICTS.format(info["maxmemory_policy"])


def _persistence(info: dict[str, Any], fsync: str | None) -> Iterator[str]:
    if not info["aof_enabled"]:
        yield NO_LOG
    elif fsync == "no":
        yield NO_FSYNC
    elif fsync == "everysec" and not info["connected_slaves"]:
        yield EACH_SECOND


def _replicas(info: dict[str, Any]) -> Iterator[str]:
    # The server names this number only where min-replicas-to-write is set.
    if info["connected_slaves"] and "min_slaves_good_slaves" not in info:
        yield ALONE
