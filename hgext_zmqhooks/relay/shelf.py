"""The journals of all repositories that a relay found, and who of them owns which journal id.

A copied repository lists the same journal as its original until its next transaction, and as an
ended one after it. Only one of them is served: the one whose present journal it is and whose
events file is the one that the head was written for.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..journal.follow import Follower, Stored
from ..journal.format import JournalError
from ..service.life import ROOT, Throttle, fields
from ..service.metrics import Counters
from ..wire.session import JournalInfo
from ..wire.values import Event
from .catalog import Found

RETRY_SECONDS = 30.0
"""After how long a journal that could not be read is tried again, if its head does not move."""
SAY_SECONDS = 600.0
"""After how long it is said again that a journal cannot be read, if the reason is the same."""


class Moved(JournalError):  # noqa: N818 - what happened to the head
    """The head was lowered under the reader's hands, by a rollback."""


class Repository:
    """One repository: where it is, and what its journals are now.

    `journals`: ended ones before their successors. `retry_at`: nothing is read before this time
    (monotonic) because of what was found in the file; 0 when all is well. `said`: the reason, as it
    was told last, and until when it need not be told again.
    """

    def __init__(self, found: Found) -> None:
        self.path = found.path
        self.store = found.store
        self.follower = Follower(found.store)
        self.journals: tuple[JournalInfo, ...] = ()
        self.retry_at = 0.0
        self.said = ("", 0.0)

    def refresh(self) -> bool:
        """Look at the head; whether it moved. Raises JournalError or OSError."""
        if not self.follower.poll():
            return False
        self.journals = tuple(self.follower.journals())
        self.retry_at = 0.0
        self.said = ("", 0.0)
        return True

    def read(self, journal: str, after: int, records: int, size: int) -> Sequence[Stored]:
        """Stored events after a sequence that is below the head: at least one, at most `records`.

        `size`: bytes after which no further one is taken. Raises JournalError or OSError; Moved or
        UnknownJournal when the head was lowered since the last look at it.
        """
        stored = self.follower.read(journal, after, records, size)
        if not stored:
            raise Moved(journal)
        return stored

    def rank(self, journal: str) -> int:
        """How good its claim to a journal is; the smallest wins."""
        head = self.follower.head
        if head is None or head.journal != journal:
            return 2
        return 1 if self.follower.moved else 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a look at the heads found."""

    changed: tuple[Repository, ...] = ()
    unknown: bool = False
    """Somebody spoke of a journal that no repository has: scan for new ones."""


class Shelf:
    """All repositories, by the path of their store."""

    def __init__(self, counters: Counters, throttle: Throttle) -> None:
        self._repositories: dict[str, Repository] = {}
        self._claims: dict[str, list[Repository]] = {}
        self._counters = counters
        self._throttle = throttle
        self._log = logging.getLogger(f"{ROOT}.relay")

    def __iter__(self) -> Iterator[Repository]:
        return iter(self._repositories.values())

    def __len__(self) -> int:
        return len(self._repositories)

    def update(self, found: Iterable[Found], tick: float) -> tuple[Repository, ...]:
        """Take over the result of a scan; the repositories that are new and have a journal."""
        present = {one.store: one for one in found}
        for store in self._repositories.keys() - present.keys():
            gone = self._repositories.pop(store)
            self._unclaim(gone)
            self._log.info("repository gone", extra=fields(path=gone.path))
        new = []
        for store, one in present.items():
            if store not in self._repositories:
                self._repositories[store] = Repository(one)
                new.append(self._repositories[store])
        self._repositories = {store: self._repositories[store] for store in present}
        return self._look_at(new, tick)

    def poll(self, tick: float) -> tuple[Repository, ...]:
        """Look at all heads; the repositories where one moved, or that are to be tried again."""
        return self._look_at(self._repositories.values(), tick)

    def hint(self, event: Event, tick: float) -> Change:
        """Look where this event, of which a live copy came, must be."""
        claimed = self._claims.get(event.journal)
        if claimed:
            return Change(self._look_at(claimed, tick))
        # A repository's first journal, or its next one after a rollback.
        likely = [
            repository
            for repository in self
            if not repository.journals or repository.journals[-1].repo == event.repo
        ]
        changed = self._look_at(likely, tick)
        return Change(changed, unknown=event.journal not in self._claims)

    def served(self, repository: Repository) -> list[JournalInfo]:
        """The journals of a repository that it and no copy of it serves."""
        return [info for info in repository.journals if self._claims[info.journal][0] is repository]

    def journals(self, may: Callable[[str], bool]) -> Iterator[JournalInfo]:
        """All journals whose repository's name passes, in the order of the repositories."""
        for repository in self:
            for info in self.served(repository):
                if may(info.repo):
                    yield info

    def info(self, journal: str) -> JournalInfo | None:
        """What is known of one journal."""
        for repository in self._claims.get(journal, ()):
            for info in repository.journals:
                if info.journal == journal:
                    return info
        return None

    def stop(self, repository: Repository, error: Exception, tick: float) -> None:
        """Serve nothing of a repository until its head moves or some time has passed."""
        repository.retry_at = tick + RETRY_SECONDS
        kind = "unreadable" if isinstance(error, OSError) else type(error).__name__.lower()
        self._counters.add("journal-stopped", kind)
        reason, (told, until) = str(error), repository.said
        if reason == told and tick < until:
            return
        repository.said = (reason, tick + SAY_SECONDS)
        self._throttle.warning(
            f"journal-{kind}",
            "a journal cannot be read; nothing after this place is served",
            repo=repository.journals[-1].repo if repository.journals else None,
            path=repository.path,
            reason=reason,
        )

    def _look_at(self, some: Iterable[Repository], tick: float) -> tuple[Repository, ...]:
        return tuple([one for one in list(some) if self._refresh(one, tick)])

    def _refresh(self, repository: Repository, tick: float) -> bool:
        due = 0 < repository.retry_at <= tick
        if due:
            repository.retry_at = 0.0
        try:
            if not repository.refresh():
                return due
        except (JournalError, OSError) as error:
            if due or not repository.retry_at:
                self.stop(repository, error, tick)
            return False
        self._unclaim(repository)
        for info in repository.journals:
            claims = self._claims.setdefault(info.journal, [])
            claims.append(repository)
            if len(claims) > 1:
                claims.sort(key=lambda one: (one.rank(info.journal), one.path))
        return True

    def _unclaim(self, repository: Repository) -> None:
        for journal in [key for key, claims in self._claims.items() if repository in claims]:
            self._claims[journal].remove(repository)
            if not self._claims[journal]:
                del self._claims[journal]
