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
      - name: build
        when: {topic: "hg:team/*:default:", changes: changesets, files: ["src/**"]}
        each: event                       # event, head, changeset
        exec: ["./build.sh"]
        timeout: 15m
        overlap: queue
        retry: {attempts: 4}
        lock: null

Paths are relative to the file. Whatever is wrong is a ConfigError with file, key, value, reason
and hint. The section `relay` is kept as written: the relay knows its own keys.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from hgext_zmqhooks.service.config import Duration, duration, load, span
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.topics import Pattern

EVERY_TOPIC = "hg:**:**:"
MAX_TIMEOUT = 7 * 86400
MAX_ATTEMPTS = 1000
MAX_RULES = 1000

Each = Literal["event", "head", "changeset"]
Change = Literal["changesets", "bookmarks", "tags", "phases", "obsoleted", "removed"]
Phase = Literal["public", "draft"]
Origin = Literal["live", "catchup", "revealed", "ping", "baseline"]
Start = Literal["latest", "earliest"] | float
"""Where a name seen for the first time begins; a number is an age in seconds."""

_NAME = re.compile("[a-z0-9_-]+")
_STORES = "sqlite:/var/lib/zmqhooks/NAME.db"
_REDIS = ("redis:", "rediss:", "unix:", "redis+unix:")


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the file: every key is known, nothing changes later."""


class When(_Frozen, frozen=True):
    """Conditions, all of which must hold; one left out always does. A list means any of it.

    `topic` defaults to every topic, `origin` to all but ping and baseline. What each of them means
    is told in engine/rules.
    """

    topic: str | tuple[str, ...] = EVERY_TOPIC
    changes: Change | tuple[Change, ...] = ()
    files: str | tuple[str, ...] = ()
    user: str | tuple[str, ...] = ()
    phase: Phase | tuple[Phase, ...] = ()
    pusher: str | tuple[str, ...] = ()
    origin: Origin | tuple[Origin, ...] = ()


class Retry(_Frozen, frozen=True):
    """How often a failing action is tried in all."""

    attempts: int = 4


class Rule(_Frozen, frozen=True):
    """One rule: what it waits for, and what it then does."""

    name: str
    exec: tuple[str, ...]
    when: When = When()
    each: Each = "event"
    timeout: Duration = Duration(900)
    overlap: Literal["queue"] = "queue"
    retry: Retry = Retry()
    lock: str | None = None


class Peer(_Frozen, frozen=True):
    """A relay elsewhere.

    Its certificate may be left out on ipc, where the relay leaves it beside the socket.
    """

    address: Endpoint
    certificate: Path | None = None


class _File(_Frozen, frozen=True):
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


def many(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """A key that takes one text or a list of them.

    >>> many("a"), many(("a", "b"))
    (('a',), ('a', 'b'))
    """
    return (value,) if isinstance(value, str) else tuple(value)


def load_settings(path: Path) -> Settings:
    """The settings in a file; ConfigError if it is not good in every part."""
    path = path.absolute()
    written = load(path, _File)
    if not written.trust:
        raise ConfigError(path, "trust", None, "names no root", "list the root.pub of your keys")
    if written.relay is None and not written.relays:
        hint = "add `relay:` for a relay inside, or `relays:` with the address of another one"
        raise ConfigError(path, "relay", None, "missing, and `relays` names none either", hint)
    for key, value, reason, hint in (*_wrong_relays(written.relays), *_wrong_rules(written.rules)):
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


_Wrong = tuple[str, object, str, str]
"""Key, value, reason, hint."""


def _wrong_relays(relays: tuple[Peer, ...]) -> Iterator[_Wrong]:
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


def _wrong_rules(rules: tuple[Rule, ...]) -> Iterator[_Wrong]:
    if not 0 < len(rules) <= MAX_RULES:
        hint = "`zmq-subscriber init` prints a sample with a rule"
        yield "rules", None, f"{len(rules)} rules, from 1 to {MAX_RULES} are possible", hint
    seen: dict[str, int] = {}
    for at, rule in enumerate(rules):
        if rule.name in seen:
            yield (
                f"rules[{at}].name",
                rule.name,
                f"is the name of rules[{seen[rule.name]}] too",
                "give each rule a name of its own: receipts and order keys go by it",
            )
        seen[rule.name] = at
        for key, value, reason, hint in _wrong_rule(rule):
            yield f"rules[{at}].{key}", value, reason, hint


def _wrong_rule(rule: Rule) -> Iterator[_Wrong]:
    if not _NAME.fullmatch(rule.name) or len(rule.name) > 64:
        better = re.sub("[^a-z0-9_-]+", "-", rule.name.lower()).strip("-")[:64] or "build"
        yield "name", rule.name, "not 1 to 64 of a-z, 0-9, _ and -", f"write for example {better}"
    if not rule.exec or not rule.exec[0]:
        yield "exec", list(rule.exec), "names no command", 'write exec: ["./build.sh"]'
    if any("\0" in word for word in rule.exec):
        yield "exec", list(rule.exec), "holds a NUL character", "take it out"
    if not 0 < rule.timeout <= MAX_TIMEOUT:
        yield "timeout", span(rule.timeout), "not between 0 and 7d", "write for example 15m"
    if not 0 < rule.retry.attempts <= MAX_ATTEMPTS:
        hint = "1 tries once and never again"
        yield "retry.attempts", rule.retry.attempts, f"not between 1 and {MAX_ATTEMPTS}", hint
    if rule.lock is not None:
        yield "lock", rule.lock, "locks between rules are not available yet", "write null"
    if not many(rule.when.topic):
        yield "when.topic", [], "an empty list matches nothing", "leave the key out for all topics"
    for text in many(rule.when.topic):
        try:
            Pattern.parse(text)
        except Refused as error:
            hint = 'write for example "hg:team/*:default:"'
            yield "when.topic", text, error.detail, hint
