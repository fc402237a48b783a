"""Makes an action from what a rule says of it, and says what on this host is in its way."""

from collections.abc import Iterator

from . import make_exec
from .base import Action
from .place import Place
from .settings import Said, Wrong


def make(said: Said, place: Place) -> Action:
    """The action of one rule; only where `refused` found nothing."""
    return make_exec.make(said, place)


def refused(key: str, said: Said) -> Iterator[Wrong]:
    """Why a daemon on this host cannot have the action at all; keys begin with `key`."""
    return make_exec.refused(key, said)


def missing(key: str, said: Said, place: Place) -> Iterator[Wrong]:
    """What an attempt would fail for now, though it may come right before the first one."""
    return make_exec.missing(key, said, place)


def described(said: Said, place: Place) -> str:
    """What the action would do now, in a few words."""
    return make_exec.located(said, place) or ""
