"""What a verb is, and what it is given."""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hgext_zmqhooks.service.config import nearest
from hgext_zmqhooks.service.errors import EXIT, ServiceError
from subscriber.control import Rows, ask, own_name
from subscriber.host import Host
from subscriber.operate import operate
from subscriber.rule_settings import Rule
from subscriber.settings import Settings, beside, load_settings
from subscriber.status import Running
from subscriber.store.base import Reader
from subscriber.store.connection import holder
from subscriber.stores import open_reader, open_store
from subscriber.views import Printer


class Usage(ServiceError):  # noqa: N818 - a finding, read as a sentence
    """Words that do not go together."""

    status = EXIT.USAGE


@dataclass(frozen=True)
class Call:
    """A verb as it was typed: its words, and where it prints."""

    words: Namespace
    out: Printer

    @property
    def config(self) -> Path:
        """The configuration file."""
        path: Path = self.words.config
        return path

    @cached_property
    def settings(self) -> Settings:
        """The configuration; ConfigError if it is not good."""
        return load_settings(self.config)

    def rule(self, name: str) -> Rule:
        """The rule of this name; ServiceError, with the nearest one that there is."""
        rules = {rule.name: rule for rule in self.settings.rules}
        if name not in rules:
            raise ServiceError(f"{name}: no such rule", hint=nearest(name, list(rules)))
        return rules[name]

    def store(self) -> Reader:
        """The store to look into; StoreError."""
        return open_reader(self.settings)

    def tell(self, request: Mapping[str, object]) -> Rows:
        """Have it done. ServiceError.

        One process writes to a SQLite store: the daemon, which has its lock as long as it runs, so
        it is asked. A server takes it from anybody, whichever daemons of a fleet run, or none.
        """
        settings = self.settings
        if not isinstance(settings.store, Path):
            with open_store(settings) as store:
                return operate(store, request, own_name(), store.now())
        rows = ask(beside(settings.state, ".control"), request)
        if rows is not None:
            return rows
        if not settings.store.exists():
            hint = f"the daemon makes it when it starts first: {self.running().command}"
            raise ServiceError(f"{settings.store}: there is no such store yet", hint=hint)
        with Host(settings.state, own_name()) as host, open_store(settings, host.lock) as store:
            return operate(store, request, own_name(), store.now())

    def running(self) -> Running:
        """Whether the daemon of this configuration runs."""
        found = holder(self.settings.state)
        return Running(found, f"zmq-subscriber --config {self.settings.file}")


def nothing(_parser: ArgumentParser) -> None:
    """For a verb that takes no words of its own."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its name, what its help says, the words it takes, and what it does.

    `run` gives the exit status. `bare`: it needs no configuration.
    """

    name: str
    text: str
    run: Callable[[Call], int]
    words: Callable[[ArgumentParser], None] = nothing
    bare: bool = False


def count(text: str) -> int:
    """A word that is a number of things, as a type for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
