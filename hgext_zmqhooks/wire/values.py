"""The typed value of an event; `events.py` knows its bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import topics

TRANSACTION = "hg.transaction.v1"
BASELINE = "hg.baseline.v1"
ORIGINS = ("live", "catchup", "revealed", "ping")


@dataclass(frozen=True, slots=True)
class Link:
    """The event before, of the same branch in the same journal."""

    sequence: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Continued:
    """The last event of the branch in the journal that this one continues."""

    journal: str
    sequence: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """Mercurial's transaction; a large one makes `parts` events per branch, `part` from 1."""

    id: str
    name: str
    source: str | None = None
    part: int = 1
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Pusher:
    """Who did it, as the server knows: `via` is http, ssh or local."""

    user: str | None
    via: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Heads:
    """The branch's open heads after the transaction; `tip` is its newest head."""

    tip: str | None
    count: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole branch at once: a baseline, or a catch-up too long to list."""

    tip: str
    heads: tuple[str, ...]
    changesets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeset:
    """One changeset. `date` is RFC 3339 with its own offset; nodes are 40 hex digits."""

    node: str
    parents: tuple[str, ...]
    user: str
    date: str
    description: str
    phase: str
    topic: str | None = None
    closes_branch: bool = False
    files: tuple[str, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A bookmark or tag that moved; None: it did not exist, or does not any more."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class PhaseMove:
    """A changeset that changed phase: public, draft or secret."""

    node: str
    old: str | None
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Obsoleted:
    """A changeset that became obsolete, and what replaced it."""

    node: str
    successors: tuple[str, ...] = ()
    operation: str | None = None
    user: str | None = None
    date: str | None = None


Item = Changeset | Move | PhaseMove | Obsoleted | str

LISTS = ("changesets", "bookmarks", "tags", "phases", "obsoleted", "removed")
"""The keys of `data` that a large transaction splits, in the order in which they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that has no place in a journal yet.

    `lists` holds, under the names in LISTS, items already encoded by `encode_item`: a transaction
    of 100,000 changesets then costs little more memory than its bytes.
    """

    branch: str
    time: str
    transaction: Transaction
    type: str = TRANSACTION
    traceparent: str | None = None
    pusher: Pusher | None = None
    origin: str = "live"
    heads: Heads | None = None
    summary: Summary | None = None
    lists: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an event stands: its repository, journal, sequence and the links backwards.

    `continuing`: this journal took over from another; then the events with `previous` None carry
    `continues`, which is None where the branch had no event in the old journal.
    """

    repo: str
    journal: str
    sequence: int
    previous: Link | None
    continuing: bool = False
    continues: Continued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A whole event. `time` is RFC 3339 in UTC with microseconds and "Z"."""

    type: str = TRANSACTION
    repo: str
    branch: str
    journal: str
    sequence: int
    time: str
    transaction: Transaction
    previous: Link | None = None
    continuing: bool = False
    continues: Continued | None = None
    traceparent: str | None = None
    pusher: Pusher | None = None
    origin: str = "live"
    heads: Heads | None = None
    summary: Summary | None = None
    changesets: tuple[Changeset, ...] = ()
    bookmarks: tuple[Move, ...] = ()
    tags: tuple[Move, ...] = ()
    phases: tuple[PhaseMove, ...] = ()
    obsoleted: tuple[Obsoleted, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """CloudEvents id: unique per source."""
        return f"{self.journal}/{self.sequence}"

    @property
    def source(self) -> str:
        """CloudEvents source: the repository, encoded."""
        return topics.source("hg", self.repo)

    @property
    def topic(self) -> str:
        """What the event travels under."""
        return topics.topic(self.source, self.branch)
