"""Makes an action from what a rule says of it, and says what on this host is in its way.

A kind of action is imported when a rule has it: httpx and redis take longer to load than all else
here, and a command line that asks about deliveries needs neither.
"""
# ruff: noqa: PLC0415

from collections.abc import Iterator

from . import make_exec
from .base import Action
from .place import Place
from .redis_settings import RedisSettings
from .settings import Said
from .webhook_settings import WebhookSettings
from .wrong import Wrong


def make(said: Said, place: Place) -> Action:
    """The action of one rule; only where `refused` found nothing."""
    if isinstance(said, WebhookSettings):
        from . import make_webhook

        return make_webhook.make(said, place)
    if isinstance(said, RedisSettings):
        from . import make_redis

        return make_redis.make(said, place)
    return make_exec.make(said, place)


def refused(key: str, said: Said) -> Iterator[Wrong]:
    """Why a daemon on this host cannot have the action at all; keys begin with `key`."""
    if not isinstance(said, WebhookSettings | RedisSettings):
        yield from make_exec.refused(key, said)


def missing(key: str, said: Said, place: Place) -> Iterator[Wrong]:
    """What an attempt would fail for now, though it may come right before the first one."""
    if isinstance(said, WebhookSettings):
        from . import make_webhook

        return make_webhook.missing(key, said, place)
    if isinstance(said, RedisSettings):
        from . import make_redis

        return make_redis.missing(key, said, place)
    return make_exec.missing(key, said, place)


def described(said: Said, place: Place) -> str:
    """What the action would do now, in a few words."""
    if isinstance(said, WebhookSettings):
        return f"{said.method} {said.url}"
    if isinstance(said, RedisSettings):
        return f"stream {said.stream} at {said.url}"
    return make_exec.located(said, place) or ""
