"""What an operator says to a subscriber: `subscriber.yml`, read once into a frozen value.

    name: ci                              # default: the name in its certificate
    key: /etc/zmqhooks/ci.key
    trust: [/etc/zmqhooks/root.pub]
    revocations: [/etc/zmqhooks/root.crl] # may be left out
    relay: {…}                            # the relay inside, as in relay.yml
    relays:                               # and, or instead, relays elsewhere
      - {address: tcp://hg1.example.com:5701, certificate: /etc/zmqhooks/hg1.cert}
    start: latest                         # latest, earliest, or an age such as 24h
    store: sqlite:/var/lib/zmqhooks/ci.db # or a server that hosts share: store_settings
    workers: 8                            # actions at once
    keep: 30d                             # receipts and events of what is done
    state: /var/lib/zmqhooks/ci.db        # what belongs to this host; default: the store's path
    lease: 60s                            # for how long a daemon that is gone keeps its deliveries
    rules:
      - {name: build, exec: ["./build.sh"]}    # all keys of a rule: rule_settings

Paths are relative to the file. Whatever is wrong is a ConfigError with file, key, value, reason
and hint. The section `relay` is kept as written: the relay knows its own keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hgext_zmqhooks.service.config import Duration, Frozen, duration, load, span
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.actions.wrong import Wrong
from subscriber.rule_settings import Rule, many, wrong_rules
from subscriber.store_settings import Server, StoreAddress, store_address

Start = Literal["latest", "earliest"] | float
"""Where a name seen for the first time begins; a number is an age in seconds."""

MAX_WORKERS = 256
MIN_KEEP = 3600
"""The parts of one event, which come one by one, must not be forgotten before the last one."""
MAX_KEEP = 3650 * 86400
LEASE = 60.0
MIN_LEASE, MAX_LEASE = 2.0, 3600.0


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
    store: str | Server
    rules: tuple[Rule, ...]
    name: str | None = None
    revocations: tuple[Path, ...] = ()
    relay: dict[str, Any] | None = None
    relays: tuple[Peer, ...] = ()
    start: str | int | float = "latest"
    workers: int = 8
    keep: Duration = Duration(30 * 86400)
    state: Path | None = None
    lease: Duration = Duration(LEASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `folder` is where actions run; `relay` is the section as written.

    `state`: the path beside which the files of this host's daemon stand (see host).
    """

    file: Path
    name: str | None
    key: Path
    trust: tuple[Path, ...]
    relay: dict[str, Any] | None
    relays: tuple[Peer, ...]
    start: Start
    store: StoreAddress
    rules: tuple[Rule, ...]
    revocations: tuple[Path, ...]
    workers: int
    keep: float
    """Seconds for which receipts and events of what is done stay in the store."""
    state: Path
    lease: float

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
    for key, value, reason, hint in _wrong(written):
        raise ConfigError(path, key, value, reason, hint)
    store = store_address(path, written.store)
    return Settings(
        file=path,
        name=written.name,
        key=written.key,
        trust=written.trust,
        relay=written.relay,
        relays=written.relays,
        start=_start(path, written.start),
        store=store,
        rules=written.rules,
        state=written.state or (store if isinstance(store, Path) else path.with_suffix("")),
        lease=float(written.lease),
        revocations=written.revocations,
        workers=written.workers,
        keep=float(written.keep),
    )


def beside(state: Path, suffix: str) -> Path:
    """A file that belongs to a daemon on its host.

    >>> beside(Path("/var/lib/ci.db"), ".runners").name
    'ci.db.runners'
    """
    return state.with_name(state.name + suffix)


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


def _wrong(written: _File) -> Iterator[Wrong]:
    yield from _wrong_relays(written.relays)
    yield from _wrong_bounds(written)
    yield from wrong_rules(written.rules)


def _wrong_bounds(written: _File) -> Iterator[Wrong]:
    if not 0 < written.workers <= MAX_WORKERS:
        hint = "so many actions run at once; write for example 8"
        yield "workers", written.workers, f"not between 1 and {MAX_WORKERS}", hint
    if not MIN_KEEP <= written.keep <= MAX_KEEP:
        yield "keep", span(written.keep), "not between 1h and 3650d", "write for example 30d"
    if not MIN_LEASE <= written.lease <= MAX_LEASE:
        yield "lease", span(written.lease), "not between 2s and 1h", "write for example 60s"


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
