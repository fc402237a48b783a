"""Makes `redis` of what a rule says."""

from collections.abc import Iterator
from pathlib import Path

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.redis_client import parse_address, read_user

from . import template
from .place import Place
from .redis import Redis
from .redis_settings import RedisSettings
from .wrong import Wrong


def make(said: RedisSettings, place: Place) -> Redis:
    """The action; what it says was looked at before."""
    return Redis(
        address=parse_address(
            said.url, credentials=_path(said.credentials, place), ca=_path(said.ca, place)
        ),
        stream=template.parse(said.stream, "key"),
        maxlen=said.maxlen,
        head=None if said.head is None else template.parse(said.head, "key"),
        ttl=said.ttl,
    )


def missing(key: str, said: RedisSettings, place: Place) -> Iterator[Wrong]:
    """Files that cannot be used now."""
    if said.credentials is not None:
        try:
            read_user(place.folder / said.credentials)
        except ServiceError as error:
            yield f"{key}.credentials", said.credentials, str(error), error.hint
    if said.ca is not None and not (place.folder / said.ca).is_file():
        yield f"{key}.ca", said.ca, "no such file", "name a file of PEM certificates"


def _path(name: str | None, place: Place) -> Path | None:
    return None if name is None else place.folder / name
