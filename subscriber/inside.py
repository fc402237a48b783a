"""The relay inside, as settings and as what it serves: the repositories of this host.

What a verb asks here it reads from the journals themselves, whether the daemon runs or not.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from hgext_zmqhooks.relay import report
from hgext_zmqhooks.relay.readers import faults, load_readers
from hgext_zmqhooks.relay.settings import RelaySection, RelaySettings
from hgext_zmqhooks.relay.state import Row
from hgext_zmqhooks.service.config import convert
from hgext_zmqhooks.service.errors import ConfigError, ServiceError
from hgext_zmqhooks.service.ipc import check_ipc
from hgext_zmqhooks.wire.keyring import Keyring
from subscriber.settings import Settings, beside
from subscriber.status import Seen
from subscriber.store.connection import sound
from subscriber.store.values import JournalRow


def relay_settings(settings: Settings) -> RelaySettings | None:
    """The section `relay`, completed from the others; None without one. Raises ConfigError."""
    if settings.relay is None:
        return None
    section = convert(settings.relay, RelaySection, settings.file, within="relay")
    return section.resolve(
        settings.file,
        within="relay",
        key=settings.key,
        trust=settings.trust,
        revocations=settings.revocations,
        state=beside(settings.state, ".relay"),
    )


def find_repository(settings: Settings, name: str) -> Path:
    """The folder of the repository that the relay inside serves by this name. ServiceError."""
    inside = relay_settings(settings)
    rows = report.check(inside.repositories) if inside is not None else ()
    found = [row.path for row in rows if row.repo == name]
    if len(found) == 1:
        return Path(found[0])
    reason = f"{len(found)} repositories have this name" if found else "not found on this host"
    hint = "name its folder with --repository PATH"
    if found:
        hint += f": one of {', '.join(found)}"
    raise ServiceError(f"{name}: {reason}", hint=hint)


def look(inside: RelaySettings | None, rows: Collection[JournalRow], *, runs: bool) -> Seen:
    """What the journals on this host say, as far as the store may not know it.

    `runs`: a daemon keeps the store up to date; else every head is looked up.
    """
    if inside is None:
        return Seen()
    behind = any(row.head > (row.scanned or 0) for row in rows)
    heads: dict[str, int] = {}
    seconds: dict[str, float | None] = {}
    if behind or not runs:
        asked = (Row("", "", 0.0, one.journal, one.repo, one.scanned or 0) for one in rows)
        for lag in report.lags(asked, inside.repositories, time.time()):
            seconds[lag.journal] = lag.seconds
            if lag.head is not None:
                heads[lag.journal] = lag.head
    counts = Counter(row.repo for row in rows)
    current: dict[str, str] = {}
    if any(count > 1 for count in counts.values()):
        found = report.check(inside.repositories)
        current = {row.journal: row.path for row in found if row.journal is not None}
    return Seen(heads, seconds, current)


def troubles(inside: RelaySettings) -> Iterator[tuple[str, str]]:
    """What is wrong with repositories, as `zmq-relay check` finds it: (path or glob, what).

    Two repositories of one name are wrong, too: only the first one of them is taken.
    """
    names: dict[str, str] = {}
    for row in report.check(inside.repositories):
        for problem in row.problems:
            yield row.path, problem
        first = names.setdefault(row.repo, row.path) if row.repo is not None else row.path
        if first != row.path:
            yield row.path, f"has the name {row.repo}, which {first} has too: give it another one"


def refused_readers(inside: RelaySettings, keyring: Keyring) -> Iterator[str]:
    """Who is named as a reader of the broadcast and may not read it now. Raises ConfigError.

    That is for who never can: the daemon does not start then.
    """
    load_readers(inside.broadcast_readers, keyring)
    for path, reason in faults(inside.broadcast_readers, keyring, time.time()):
        yield f"{path}: {reason}"


def check_state(inside: RelaySettings) -> None:
    """Whether the relay can use what it keeps, as far as it is there yet. Raises StoreError."""
    db = sound(inside.state)
    if db is not None:
        db.close()


def check_endpoints(settings: Settings, inside: RelaySettings) -> None:
    """What a daemon would say of the sockets' places, with the keys that name them. ConfigError."""
    named = {"publish": inside.publish}
    named |= {f"subscribe[{at}]": one for at, one in enumerate(inside.subscribe)}
    if inside.broadcast is not None:
        named["broadcast"] = inside.broadcast
    for key, endpoint in named.items():
        try:
            if endpoint.path:
                check_ipc(endpoint, inside.group)
        except ServiceError as error:
            reason = str(error).removeprefix(f"{endpoint}: ")
            place = f"relay.{key}"
            raise ConfigError(settings.file, place, str(endpoint), reason, error.hint) from None
