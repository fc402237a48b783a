"""What an operator says to a subscriber: `subscriber.yml`, read once into a frozen value.

    name: ci                              # default: the name in its certificate
    key: /etc/zmqhooks/ci.key
    trust: [/etc/zmqhooks/root.pub]
    revocations: [/etc/zmqhooks/root.crl] # may be left out
    relay: {…}                            # the relay inside, as in relay.yml
    relays:                               # and, or instead, relays elsewhere
      - {address: tcp://hg1.example.com:5701, certificate: /etc/zmqhooks/hg1.cert}
    start: latest                         # latest, earliest, or an age such as 24h
    store: sqlite:/var/lib/zmqhooks/ci.db
    rules:
      - {name: build, exec: ["./build.sh"]}    # all keys of a rule: rule_settings

Paths are relative to the file. Whatever is wrong is a ConfigError with file, key, value, reason
and hint. The section `relay` is kept as written: the relay knows its own keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hgext_zmqhooks.service.config import Frozen, duration, load
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.actions.settings import Wrong
from subscriber.rule_settings import Rule, many, wrong_rules

Start = Literal["latest", "earliest"] | float
"""Where a name seen for the first time begins; a number is an age in seconds."""

_STORES = "sqlite:/var/lib/zmqhooks/NAME.db"
_REDIS = ("redis:", "rediss:", "unix:", "redis+unix:")


class Peer(Frozen, frozen=True):
    """A relay elsewhere.

    Its certificate may be left out on ipc, where the relay leaves it beside the socket.
    """

    address: Endpoint
    certificate: Path | None = None


class _File(Frozen, frozen=True):
    """The file as written."""

    key: Path
    trust: tuple[Path, ...]
    store: str
    rules: tuple[Rule, ...]
    name: str | None = None
    revocations: tuple[Path, ...] = ()
    relay: dict[str, Any] | None = None
    relays: tuple[Peer, ...] = ()
    start: str | int | float = "latest"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `folder` is where actions run; `relay` is the section as written."""

    file: Path
    name: str | None
    key: Path
    trust: tuple[Path, ...]
    relay: dict[str, Any] | None
    relays: tuple[Peer, ...]
    start: Start
    store: Path
    rules: tuple[Rule, ...]
    revocations: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of the configuration file."""
        return self.file.parent

    @property
    def patterns(self) -> tuple[str, ...]:
        """The topics that some rule wants, each once, in order."""
        return tuple(dict.fromkeys(text for rule in self.rules for text in many(rule.when.topic)))


def load_settings(path: Path) -> Settings:
    """The settings in a file; ConfigError if it is not good in every part."""
    path = path.absolute()
    written = load(path, _File)
    if not written.trust:
        raise ConfigError(path, "trust", None, "names no root", "list the root.pub of your keys")
    if written.relay is None and not written.relays:
        hint = "add `relay:` for a relay inside, or `relays:` with the address of another one"
        raise ConfigError(path, "relay", None, "missing, and `relays` names none either", hint)
    for key, value, reason, hint in (*_wrong_relays(written.relays), *wrong_rules(written.rules)):
        raise ConfigError(path, key, value, reason, hint)
    return Settings(
        file=path,
        name=written.name,
        key=written.key,
        trust=written.trust,
        relay=written.relay,
        relays=written.relays,
        start=_start(path, written.start),
        store=_store(path, written.store),
        rules=written.rules,
        revocations=written.revocations,
    )


def beside(store: Path, suffix: str) -> Path:
    """A file that belongs to a store.

    >>> beside(Path("/var/lib/ci.db"), ".runners").name
    'ci.db.runners'
    """
    return store.with_name(store.name + suffix)


def followed(settings: Settings) -> tuple[Pattern, ...]:
    """The topics that the rules want. ConfigError."""
    return tuple(Pattern.parse(text) for text in settings.patterns)


def _start(path: Path, value: str | float) -> Start:
    match value:
        case "latest":
            return "latest"
        case "earliest":
            return "earliest"
    try:
        return duration(value)
    except ValueError:
        reason = "neither latest, earliest nor an age such as 24h"
        raise ConfigError(path, "start", value, reason, "write start: latest") from None


def _store(path: Path, value: str) -> Path:
    if value.startswith(_REDIS):
        reason = "a store shared by several hosts is not available yet"
        raise ConfigError(path, "store", value, reason, f"use {_STORES}")
    scheme, _, file = value.partition(":")
    if scheme != "sqlite" or not file or "\0" in file:
        raise ConfigError(path, "store", value, "not the address of a store", f"use {_STORES}")
    return path.parent / file


def _wrong_relays(relays: tuple[Peer, ...]) -> Iterator[Wrong]:
    seen: set[str] = set()
    for at, peer in enumerate(relays):
        if peer.address in seen:
            yield (
                f"relays[{at}].address",
                str(peer.address),
                "is in the list already",
                "take one out",
            )
        seen.add(peer.address)
        if peer.address.transport == "tcp" and peer.certificate is None:
            hint = "copy the relay's N.cert here and name it"
            yield f"relays[{at}].certificate", None, "required for a tcp address, but missing", hint
