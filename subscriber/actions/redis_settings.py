"""What a rule may say of writing to Redis or Valkey.

    redis:
      url: redis://127.0.0.1:6379/0     # or rediss://…, unix:///path?db=0
      credentials: redis.user           # a file with user:password
      ca: ca.pem                        # with rediss
      stream: "hg:{repo}"
      maxlen: 100000                    # about so many entries stay in the stream
      head: "head:{repo}:{branch}"
      ttl: 30d                          # of the head, from its last change on

What stands in braces: template.py. Redis is an extra of the package, and is loaded for rules that
need it alone.
"""

from collections.abc import Iterator
from pathlib import Path

from hgext_zmqhooks.service.config import Duration, Frozen, span
from hgext_zmqhooks.service.errors import ServiceError

from . import template
from .wrong import Wrong

MAX_TTL = 3650 * 86400
INSTALL = "pip install 'hg-zmqhooks[redis]'"


class RedisSettings(Frozen, frozen=True):
    """A stream to add to, and a key that holds the branch's head; how: redis.py."""

    url: str
    stream: str
    credentials: str | None = None
    ca: str | None = None
    maxlen: int = 100_000
    head: str | None = None
    ttl: Duration = Duration(30 * 86400)


def wrong_redis(said: RedisSettings) -> Iterator[Wrong]:
    """What is wrong with it; keys are inside the mapping."""
    yield from _wrong_address(said)
    for key in ("credentials", "ca"):
        path = getattr(said, key)
        if path is not None and (not path or "\0" in path):
            yield key, path, "not a path", "name a file"
    for key, text in (("stream", said.stream), ("head", said.head)):
        if text is not None:
            yield from _wrong_key(key, text)
    if said.maxlen < 1:
        yield "maxlen", said.maxlen, "not at least 1", "write for example 100000"
    if not 1 <= said.ttl <= MAX_TTL:
        yield "ttl", span(said.ttl), "not between 1s and 3650d", "write for example 30d"


def _wrong_address(said: RedisSettings) -> Iterator[Wrong]:
    try:
        from hgext_zmqhooks.service.redis_client import parse_address  # noqa: PLC0415 - an extra
    except ImportError:
        yield "url", None, "the client of Redis is not installed", INSTALL
        return
    try:
        parse_address(said.url, ca=Path(said.ca) if said.ca else None)
    except ServiceError as error:
        hint = error.hint or "write for example redis://127.0.0.1:6379/0"
        yield "url", None, str(error), hint


def _wrong_key(key: str, text: str) -> Iterator[Wrong]:
    if not text or "\0" in text:
        yield key, text, "not the name of a key", 'write for example "hg:{repo}"'
        return
    try:
        template.parse(text, "key")
    except ValueError as error:
        yield key, text, str(error), f"values are {', '.join(template.NAMES)}"
