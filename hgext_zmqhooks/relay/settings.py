"""What an operator says to a relay: `relay.yml`, or the `relay:` mapping of a subscriber.yml.

key: /etc/zmqhooks/relay.key             # in a subscriber.yml: default the subscriber's
trust: [/etc/zmqhooks/root.pub]          # likewise
revocations: [/etc/zmqhooks/root.crl]    # likewise; may be left out
publish: ipc:///run/zmqhooks/publish
subscribe: [tcp://0.0.0.0:5701, ipc:///run/zmqhooks/subscribe]
broadcast: ipc:///run/zmqhooks/broadcast
repositories: ["/srv/hg/**"]
state: /var/lib/zmqhooks/relay.db        # in a subscriber.yml: default its store + ".relay"
group: hg
allow: [192.0.2.0/24, "2001:db8::/32"]   # who may connect over tcp; default: every address
excess: narrow                           # or refuse: a session that asks for more than it may read
limits: {sessions: 8}                    # see limits.py

A broadcast over tcp needs `broadcast-readers: [N.cert, …]`, or `insecure: yes`.
"""

import grp
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from ..service.addresses import Network
from ..service.config import convert, read
from ..service.endpoints import Endpoint
from ..service.errors import ConfigError
from .limits import Limits

Excess = Literal["narrow", "refuse"]

SQLITE = "sqlite:"

_EXAMPLES = {
    "key": "write for example key: /etc/zmqhooks/relay.key",
    "trust": "write for example trust: [/etc/zmqhooks/root.pub]",
    "state": "write for example state: /var/lib/zmqhooks/relay.db",
}
_FOLDER = 'write for example "/srv/hg/**"'


class RelaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping as it is written; `resolve` fills in what a subscriber.yml may leave out."""

    publish: Endpoint
    repositories: tuple[str, ...]
    subscribe: tuple[Endpoint, ...] = ()
    broadcast: Endpoint | None = None
    key: Path | None = None
    trust: tuple[Path, ...] = ()
    revocations: tuple[Path, ...] | None = None
    state: Path | None = None
    group: str | None = None
    allow: tuple[Network, ...] = ()
    broadcast_readers: tuple[Path, ...] = msgspec.field(default=(), name="broadcast-readers")
    insecure: bool = False
    excess: Excess = "narrow"
    limits: Limits = Limits()

    def resolve(
        self,
        file: Path,
        *,
        within: str = "",
        key: Path | None = None,
        trust: tuple[Path, ...] = (),
        revocations: tuple[Path, ...] = (),
        state: Path | None = None,
    ) -> "RelaySettings":
        """The settings of a relay; what this section leaves out is taken from the arguments.

        `file` and `within` (the section's key in it) are named in errors: ConfigError.
        """
        prefix = f"{within}." if within else ""
        needed = {
            "key": self.key or key,
            "trust": self.trust or trust,
            "state": self.state or state,
        }
        for name, value in needed.items():
            if not value:
                raise ConfigError(
                    file, prefix + name, None, "required, but missing", _EXAMPLES[name]
                )
        if not self.repositories:
            hint = 'write for example repositories: ["/srv/hg/**"]'
            raise ConfigError(file, f"{prefix}repositories", None, "names no repository", hint)
        for index, pattern in enumerate(self.repositories):
            if not pattern.strip("/"):
                raise ConfigError(
                    file, f"{prefix}repositories[{index}]", pattern, "not a folder", _FOLDER
                )
        self._check_endpoints(file, prefix)
        self._check_broadcast(file, prefix)
        self._check_limits(file, prefix)
        self._check_group(file, prefix)
        return RelaySettings(
            key=self.key or key or Path(),
            trust=self.trust or trust,
            revocations=revocations if self.revocations is None else self.revocations,
            publish=self.publish,
            subscribe=self.subscribe,
            broadcast=self.broadcast,
            repositories=tuple(str(file.parent.absolute() / one) for one in self.repositories),
            state=self.state or state or Path(),
            group=self.group,
            allow=self.allow,
            broadcast_readers=self.broadcast_readers,
            insecure=self.insecure,
            excess=self.excess,
            limits=self.limits,
        )

    def _check_group(self, file: Path, prefix: str) -> None:
        """Find out here, where the key can be named, and not when a socket is bound."""
        if self.group is None:
            return
        try:
            grp.getgrnam(self.group)
        except KeyError:
            reason = "there is no such group on this machine"
            hint = f"groupadd {self.group}, or name the group of those who push"
            raise ConfigError(file, f"{prefix}group", self.group, reason, hint) from None

    def _check_broadcast(self, file: Path, prefix: str) -> None:
        """Over tcp it goes to certified readers, or knowingly to anyone; never by oversight."""
        tcp = self.broadcast is not None and self.broadcast.transport == "tcp"
        if tcp and not self.broadcast_readers and not self.insecure:
            raise ConfigError(
                file,
                f"{prefix}broadcast",
                str(self.broadcast),
                "whoever connects over tcp would read every event",
                "name the certificates that may: broadcast-readers: [dashboard.cert]; or use an"
                " ipc endpoint, or write `insecure: yes` if anyone may read",
            )
        if self.broadcast_readers and not tcp:
            reason = "is for a tcp broadcast, and there is none"
            hint = "on ipc the members of `group` read; take the line out"
            raise ConfigError(file, f"{prefix}broadcast-readers", None, reason, hint)
        if self.insecure and self.broadcast_readers:
            reason = "contradicts `broadcast-readers`"
            raise ConfigError(file, f"{prefix}insecure", "yes", reason, "take one of the two out")

    def _check_limits(self, file: Path, prefix: str) -> None:
        if fault := self.limits.fault():
            key, value, reason = fault
            hint = "write for example 2MiB, and at least as much for `unfinished`"
            raise ConfigError(file, f"{prefix}limits.{key}", value, reason, hint)

    def _check_endpoints(self, file: Path, prefix: str) -> None:
        named = {f"{prefix}publish": self.publish}
        named |= {f"{prefix}subscribe[{n}]": one for n, one in enumerate(self.subscribe)}
        if self.broadcast is not None:
            named[f"{prefix}broadcast"] = self.broadcast
        seen: dict[str, str] = {}
        for key, endpoint in named.items():
            if endpoint in seen:
                reason = f"is the address of {seen[endpoint]} too"
                raise ConfigError(file, key, str(endpoint), reason, "give each its own address")
            seen[endpoint] = key


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """A relay's settings, complete. `repositories`: absolute glob patterns."""

    key: Path
    trust: tuple[Path, ...]
    publish: Endpoint
    repositories: tuple[str, ...]
    state: Path
    subscribe: tuple[Endpoint, ...] = ()
    broadcast: Endpoint | None = None
    group: str | None = None
    revocations: tuple[Path, ...] = ()
    allow: tuple[Network, ...] = ()
    broadcast_readers: tuple[Path, ...] = ()
    insecure: bool = False
    excess: Excess = "narrow"
    limits: Limits = field(default_factory=Limits)

    def endpoints(self) -> Iterator[Endpoint]:
        """All that is to be bound."""
        yield self.publish
        yield from self.subscribe
        if self.broadcast is not None:
            yield self.broadcast

    @property
    def needs_certificate(self) -> bool:
        """Whether clients ask for the relay's certificate."""
        return bool(self.subscribe or self.broadcast_readers)

    @property
    def is_open(self) -> bool:
        """Whether anyone who can connect over tcp may read the broadcast."""
        tcp = self.broadcast is not None and self.broadcast.transport == "tcp"
        return tcp and self.insecure and not self.broadcast_readers


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings of a file, and whether they stood inside a subscriber.yml."""

    settings: RelaySettings
    inside: bool


def load(path: Path) -> Loaded:
    """The relay's settings in a relay.yml or a subscriber.yml. Raises ConfigError."""
    document = read(path)
    if not isinstance(document.get("relay"), dict):
        if "rules" in document or "relays" in document:
            raise ConfigError(
                path,
                "relay",
                None,
                "missing: this subscriber has no relay of its own",
                "ask on the host of its relay, with the configuration of that one",
            )
        return Loaded(convert(document, RelaySection, path).resolve(path), inside=False)
    section = convert(document["relay"], RelaySection, path, within="relay")
    outer = convert(
        {key: document[key] for key in _Outer.__struct_fields__ if key in document}, _Outer, path
    )
    settings = section.resolve(
        path,
        within="relay",
        key=outer.key,
        trust=outer.trust,
        revocations=outer.revocations,
        state=beside_store(path, outer.store),
    )
    return Loaded(settings, inside=True)


class _Outer(msgspec.Struct, frozen=True):
    """What a relay takes over from the subscriber.yml it stands in."""

    key: Path | None = None
    trust: tuple[Path, ...] = ()
    revocations: tuple[Path, ...] = ()
    store: str = ""


def beside_store(file: Path, store: str) -> Path | None:
    """Where the relay inside a subscriber keeps its state unless told otherwise.

    >>> beside_store(Path("/etc/subscriber.yml"), "sqlite:/var/lib/zmqhooks/ci.db")
    PosixPath('/var/lib/zmqhooks/ci.db.relay')
    >>> beside_store(Path("/etc/subscriber.yml"), "redis://host/0")
    """
    if not store.startswith(SQLITE):
        return None
    return file.parent.absolute() / (store.removeprefix(SQLITE) + ".relay")
