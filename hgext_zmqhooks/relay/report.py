"""What `zmq-relay status` and `zmq-relay check` find, as rows; they read and never write.

`check` looks at each repository under the globs; `status` compares what subscribers have stored
with the heads of the journals.
"""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..journal.follow import Follower
from ..journal.format import JournalError
from ..service.access import obstacle
from ..wire.errors import Refused
from ..wire.events import decode
from ..wire.session import JournalInfo
from .catalog import Found, base, ignore, scan
from .state import Row


@dataclass(frozen=True, slots=True)
class Lag:
    """One subscriber and journal. `lag`: events not yet stored, those it does not want too.

    `seconds`: age of the oldest of them. Both, and `head`, are None where the journal is not
    there or not readable. `seen`: when the subscriber last said something, RFC 3339 in UTC.
    `failed`: when a session last ended without a goodbye, None if none did, and `error`: why.
    """

    subscriber: str
    repo: str
    journal: str
    position: int
    head: int | None
    lag: int | None
    seconds: float | None
    seen: str
    failed: str | None = None
    error: str = ""

    def silence(self, now: float) -> float:
        """Seconds since the subscriber last said something; `now` is in unix seconds."""
        return max(0.0, now - datetime.fromisoformat(self.seen).timestamp())


@dataclass(frozen=True, slots=True)
class Health:
    """One repository. `problems` is empty when all is well; `sequence` is the journal's head."""

    path: str
    repo: str | None
    journal: str | None
    sequence: int | None
    problems: tuple[str, ...]


def repositories(
    patterns: tuple[str, ...], closed: Callable[[str], object] = ignore
) -> Iterator[Found]:
    """Every repository under the globs; `closed` is told the folders that cannot be looked into."""
    return (found for found in scan(patterns, closed) if found is not None)


def lags(rows: Iterator[Row], patterns: tuple[str, ...], now: float) -> Iterator[Lag]:
    """How far each subscriber is in each journal that it follows."""
    journals: dict[str, tuple[Follower, JournalInfo]] = {}
    for found in repositories(patterns):
        follower = Follower(found.store)
        for info in _journals(follower):
            journals.setdefault(info.journal, (follower, info))
    for row in rows:
        known = journals.get(row.journal)
        head = known[1].sequence if known else None
        yield Lag(
            subscriber=row.name,
            repo=row.repo,
            journal=row.journal,
            position=row.sequence,
            head=head,
            lag=None if head is None else max(0, head - row.sequence),
            seconds=_age(*known, row.sequence, now) if known else None,
            seen=_moment(row.seen),
            failed=None if row.failed is None else _moment(row.failed),
            error=row.error,
        )


def _moment(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")


def _journals(follower: Follower) -> tuple[JournalInfo, ...]:
    try:
        follower.poll()
        return tuple(follower.journals())
    except (JournalError, OSError):
        return ()


def _age(follower: Follower, info: JournalInfo, position: int, now: float) -> float | None:
    """How long the first event after `position` has been waiting."""
    if position >= info.sequence:
        return 0.0
    try:
        oldest = follower.read(info.journal, max(position, info.first - 1), 1, 1)
        moment = datetime.fromisoformat(decode(oldest[0].event).time)
    except (JournalError, OSError, Refused, IndexError):
        return None
    return max(0.0, now - moment.timestamp())


def check(patterns: tuple[str, ...]) -> Iterator[Health]:
    """The health of every repository; a glob that matches nothing is a problem of its own."""
    for pattern in patterns:
        empty, top = True, base(pattern)
        closed: list[str] = []
        for found in repositories((pattern,), closed.append):
            empty = False
            yield _health(found)
        for folder in closed:
            why = obstacle(folder, os.R_OK | os.X_OK)
            if why and (folder == top or Path(folder).exists()):
                empty = False
                yield Health(folder, None, None, None, (f"not looked into: {why}",))
        if empty:
            yield Health(pattern, None, None, None, ("no repository found",))


def _health(found: Found) -> Health:
    problems: list[str] = []
    journals: tuple[JournalInfo, ...] = ()
    follower = Follower(found.store)
    try:
        os.scandir(found.store).close()
        follower.poll()
        journals = tuple(follower.journals())
        if journals:
            _read_ends(follower, journals)
        elif _has_changesets(found.store):
            problems.append("not journalled: nothing was written since the extension is on, or off")
    except JournalError as error:
        problems.append(str(error))
    except OSError as error:
        why = obstacle(error.filename or found.store, os.R_OK) or error.strerror or error
        problems.append(f"not readable: {why}")
    if abandoned(found.store):
        problems.append("abandoned transaction: run `hg recover` there")
    last = journals[-1] if journals else None
    return Health(
        path=found.path,
        repo=last.repo if last else None,
        journal=last.journal if last else None,
        sequence=last.sequence if last else None,
        problems=tuple(problems),
    )


def _read_ends(follower: Follower, journals: tuple[JournalInfo, ...]) -> None:
    """Read the last event of each journal: what the heads say must be there."""
    for info in journals:
        if info.sequence >= info.first:
            follower.read(info.journal, info.sequence - 1, 1, 1)


def _has_changesets(store: str) -> bool:
    try:
        return Path(store, "00changelog.i").stat().st_size > 0
    except FileNotFoundError:
        return False


def abandoned(store: str) -> bool:
    """Whether a transaction was begun that nobody is going to end.

    Mercurial's lock is a symbolic link, or a file, that says `host:pid` or `host/namespace:pid`.
    """
    if not _exists(Path(store, "journal")):
        return False
    lock = Path(store, "lock")
    try:
        status = lock.lstat()
        text = str(lock.readlink()) if stat.S_ISLNK(status.st_mode) else lock.read_text("utf-8")
    except OSError:
        # The lock may have been freed between the two looks, with the transaction.
        return _exists(Path(store, "journal"))
    host, _, pid = text.strip().rpartition(":")
    if host.partition("/")[0] != socket.gethostname() or not pid.isdecimal():
        return False
    return not _alive(int(pid))


def _exists(path: Path) -> bool:
    """Whether it is seen to be there: in a folder that is closed to us nothing is."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
