"""Where one relay's journals stand in our store, and which of them are stopped. No socket.

A journal that stops keeps its position and is asked for again after a delay that doubles, from a
second to five minutes; meanwhile FOLLOW leaves it out and the others go on. Where an event has to
come first that the relay claims to have looked at, FOLLOW goes back to before that one. The
position in the store never does.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.sequence import JournalState
from hgext_zmqhooks.wire.session import JournalInfo, Position, Since
from hgext_zmqhooks.wire.values import Link
from subscriber.intake.admit import Admitted, Earlier, Known, Stop
from subscriber.store.base import Standing, Store
from subscriber.store.values import JournalRow

FIRST_RETRY = 1.0
LAST_RETRY = 300.0
MAX_JOURNALS = 30_000
"""Of one relay; each costs a row in the store and a place in FOLLOW, which has an end."""

BEYOND = "beyond-head"
"""How the reason begins why a journal is held that ends before what was read of it."""

Start = str | float
"""latest, earliest, or an age in seconds."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an operator should know of a journal. `next`: the command that says more."""

    kind: str
    text: str
    repo: str
    journal: str
    next: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What an operator decided of a journal; see Known."""

    admitted: frozenset[int]
    vouched: int


@dataclass(slots=True)
class Journal:
    """One journal. `scanned`, `since`: as in the store. `first`: the oldest event the relay keeps.

    `number`: how many the store knew before it. `beyond`: it was read further than it goes now.
    `away`: another daemon follows it, and moves it in the store.
    `origin`: behind which sequence reading began with the present patterns, None until that is
    known; `kept`: as the store has it. `branches`: chain heads, and `decided`, what an operator
    lets pass, are read from the store when they are first needed. `lacks`: while it is stopped,
    behind which position of which journal (this one, an earlier one) it lacks events.
    """

    journal: str
    repo: str | None
    scanned: int | None
    since: float | None = None
    number: int = 0
    first: int = 1
    beyond: bool = False
    away: bool = False
    origin: int | None = None
    kept: int | None = None
    branches: dict[str, Link] | None = None
    decided: Decided | None = None
    stopped: bool = False
    retry_at: float = 0.0
    delay: float = 0.0
    lacks: tuple[tuple[str, int], ...] = ()

    def waits(self, tick: float) -> bool:
        """Whether it is stopped and not to be asked for yet."""
        return self.beyond or self.away or (self.stopped and tick < self.retry_at)

    @property
    def position(self) -> Position:
        """Where FOLLOW says that we stand; 0 is before the first event."""
        if self.scanned is not None:
            return self.scanned
        return Since(self.since) if self.since is not None else 0

    @property
    def earlier(self) -> Earlier | None:
        """How far it was read; None while it is not known where reading begins."""
        return None if self.origin is None else Earlier(self.scanned or 0, self.origin)


class Journals:
    """The journals of one relay, by id."""

    def __init__(self, store: Store, relay: str, start: Start) -> None:
        self._store = store
        self._relay = relay
        self._start = start
        self.passed_over = 0
        """Events that are not read because `start` says so, at the first contact."""
        self._told: set[str] = set()
        self._all: dict[str, Journal] = {}
        self._elsewhere: dict[str, dict[str, Journal]] = {}
        for number, row in enumerate(store.journals()):
            here = _journal(row, number)
            if row.relay == relay:
                self._all[row.journal] = here
            else:
                self._elsewhere.setdefault(row.repo, {})[row.journal] = here

    def welcome(self, infos: Iterable[JournalInfo], now: float) -> list[Alarm]:
        """Take the relay's whole list; returns what an operator should know.

        At the first contact every journal listed gets the position that `start` says, in one step.
        One that appears later is read from its first event, so that no first push is lost.
        """
        infos = list(infos)
        if self._store.first_contact(self._relay) and len(infos) <= MAX_JOURNALS:
            beginnings = list(self._beginnings(infos, now))
            self._store.learn(self._relay, beginnings, now)
            self.passed_over = sum(
                info.sequence - info.first + 1
                for info, begun in zip(infos, beginnings, strict=True)
                if begun.scanned
            )
        return self.heads(infos, now)

    def heads(self, infos: Iterable[JournalInfo], now: float) -> list[Alarm]:
        """Take what the relay says of some journals, new ones among them.

        Refused "too-many": a relay cannot make us keep journals without end.
        """
        infos = list(infos)
        if not infos:
            return []
        if len(self._all.keys() | {info.journal for info in infos}) > MAX_JOURNALS:
            raise Refused("too-many", f"more than {MAX_JOURNALS} journals")
        standings = [
            Standing(journal=info.journal, repo=info.repo, head=info.sequence, scanned=None)
            for info in infos
        ]
        self._store.note_heads(self._relay, standings, now)
        self._told |= {info.journal for info in infos}
        if any(info.journal not in self._all for info in infos):
            self._load({info.journal for info in infos})
        return [alarm for info in infos for alarm in self._look(info)]

    def known(self, journal: str) -> Known:
        """What `admit` needs to know of a journal."""
        here = self._all.get(journal) or Journal(journal, None, None, origin=0)
        if here.branches is None:
            here.branches = self._store.chain(journal)
        if here.decided is None:
            here.decided = _decided(self._store, journal)
        scanned = here.scanned or 0
        origin = 2**63 if here.origin is None else here.origin
        return Known(
            journal=journal,
            repo=here.repo,
            state=JournalState(scanned, here.branches, origin),
            others=self._before(here),
            admitted=here.decided.admitted,
            vouched=here.decided.vouched,
            digest=self._store.record_digest,
            token=self._store.certificate,
            earlier=lambda other: self._earlier(here, other),
            chain=self._store.chain,
        )

    def introduced(self, journal: str) -> bool:
        """Whether the relay told of it."""
        return journal in self._all

    def origin(self, journal: str, admitted: Admitted) -> int | None:
        """Where reading began, if the store does not know it yet."""
        here = self._all[journal]
        began = _began(here, admitted)
        return None if began == here.kept else began

    def expected(self, journal: str) -> int | None:
        """The position that the store is thought to have."""
        return self._all[journal].scanned if journal in self._all else None

    def moved(self, repo: str, journal: str, admitted: Admitted) -> None:
        """The store has taken what was admitted."""
        here = self._all.setdefault(journal, Journal(journal, repo, None, origin=0))
        here.repo = repo
        if here.branches is not None:
            here.branches.update(admitted.heads)
        here.origin = here.kept = _began(here, admitted)
        if here.scanned is None or admitted.scanned > here.scanned or admitted.records:
            here.stopped, here.delay, here.lacks = False, 0.0, ()
        here.scanned, here.since = admitted.scanned, None

    def stop(self, journal: str, repo: str, stop: Stop, now: float, tick: float) -> float:
        """A journal goes no further for now; returns the seconds until it is asked for again."""
        reason = f"{stop.kind} at sequence {stop.sequence}: {stop.detail}"[:1000]
        if journal not in self._all:
            info = JournalInfo(journal, repo, 1, 0)
            self.heads([info], now)
        here = self._all[journal]
        self._store.stop_journal(journal, reason)
        here.stopped, here.lacks = True, self._lacks(journal, stop)
        here.delay = min(max(FIRST_RETRY, here.delay * 2), LAST_RETRY)
        here.retry_at = tick + here.delay
        return here.delay

    def decided(self) -> bool:
        """An operator decided something; whether a journal that waited may go on."""
        waiting = [here for here in self._all.values() if here.stopped]
        for here in waiting:
            decided = _decided(self._store, here.journal)
            if decided != here.decided:
                here.decided, here.stopped, here.delay, here.lacks = decided, False, 0.0, ()
        return any(not here.stopped for here in waiting)

    def hurry(self, tick: float) -> bool:
        """Something outside has changed: ask again for all that is stopped; whether anything is."""
        stopped = [here for here in self._all.values() if here.stopped]
        for here in stopped:
            here.retry_at = min(here.retry_at, tick)
        return bool(stopped)

    @property
    def told(self) -> Collection[str]:
        """All that the relay told of in this session."""
        return self._told

    def share(self, ours: Collection[str]) -> bool:
        """Follow these of what the relay told of, and no others; whether that is a change."""
        told = [self._all[journal] for journal in self._told]
        changed = [here for here in told if here.away == (here.journal in ours)]
        for here in changed:
            here.away = not here.away
        self.reload(*(here.journal for here in changed if not here.away))
        return bool(changed)

    def reload(self, *journals: str) -> None:
        """Somebody else moved them: look at the store again."""
        for row in self._store.journals() if journals else ():
            if row.journal in journals:
                here = self._all[row.journal]
                here.branches = here.decided = None
                here.scanned, here.since = row.scanned, row.since
                if row.origin is not None:
                    here.origin = here.kept = row.origin

    def positions(self, tick: float) -> Mapping[str, Position]:
        """What FOLLOW says; None for a journal that is to wait."""
        found = {
            journal: None if here.waits(tick) else here.position
            for journal, here in self._all.items()
        }
        asking = [here for here in self._all.values() if not here.waits(tick)]
        for journal, after in [lack for here in asking for lack in here.lacks]:
            position = found[journal]
            if isinstance(position, int):
                found[journal] = min(position, after)
        return found

    def next_retry(self, tick: float) -> float | None:
        """When the next stopped journal may be asked for again, None if none waits."""
        waiting = (j for j in self._all.values() if j.waits(tick) and not j.beyond and not j.away)
        return min((j.retry_at for j in waiting), default=None)

    def _beginnings(self, infos: Iterable[JournalInfo], now: float) -> Iterator[Standing]:
        """Where `start` says; a name that somebody else has, too, from the beginning.

        For only a journal's beginning says whether it continues what is known: that of another
        relay, or of the first one here that goes on under this name.
        """
        taken = set(self._elsewhere)
        for info in infos:
            doubtful = info.repo in taken
            if not info.closed:
                taken.add(info.repo)
            latest = self._start == "latest" and not doubtful
            yield Standing(
                journal=info.journal,
                repo=info.repo,
                head=info.sequence,
                scanned=info.sequence if latest else None,
                since=None if isinstance(self._start, str) or doubtful else now - self._start,
            )

    def _load(self, wanted: set[str]) -> None:
        for number, row in enumerate(self._store.journals()):
            if row.journal in wanted and row.journal not in self._all:
                self._all[row.journal] = _journal(row, number)
            elif row.journal not in self._all:
                here = _journal(row, number)
                self._elsewhere.setdefault(row.repo, {})[row.journal] = here

    def _look(self, info: JournalInfo) -> Iterable[Alarm]:
        """Compare what the relay says with where we stand."""
        here = self._all[info.journal]
        if here.away and info.first - 1 > (here.scanned or 0):
            self.reload(info.journal)
        known, here.first = here.first, max(here.first, info.first)
        if here.origin is not None and info.first - 1 > (here.scanned or 0):
            # Nobody can ask for what was pruned: reading begins anew behind it.
            here.origin = max(here.origin, info.first - 1)
        if here.scanned is not None and info.first > max(known, here.scanned + 1):
            gone = f"events {here.scanned + 1} to {info.first - 1}"
            text = f"{gone} were pruned before they were read; the rest goes on"
            yield Alarm("pruned", text, info.repo, info.journal, f"audit {info.repo}")
        beyond = here.scanned is not None and info.sequence < here.scanned
        if beyond and not info.closed and not here.beyond:
            reason = (
                f"it ends at sequence {info.sequence}, but was read up to {here.scanned}:"
                " history was undone, or the repository restored or copied"
            )
            self._store.stop_journal(info.journal, f"{BEYOND}: {reason}")
            text = f"journal held: {reason}. Its next transaction begins one that continues it"
            yield Alarm(BEYOND, text, info.repo, info.journal, f"audit {info.repo}")
        elif here.beyond and (info.closed or not beyond):
            self._store.stop_journal(info.journal, None)
        here.beyond = beyond and not info.closed

    def _before(self, here: Journal) -> frozenset[str]:
        """The journals of the same repository that were known before this one, at any relay."""
        if here.repo is None:
            return frozenset()
        found = {
            journal
            for journal, other in self._all.items()
            if other.repo == here.repo and other.number < here.number
        }
        there = self._elsewhere.get(here.repo, {})
        return frozenset(
            found | {journal for journal, other in there.items() if other.number < here.number}
        )

    def _earlier(self, here: Journal, journal: str) -> Earlier | None:
        """See Known. The order in which the relay told of the two journals says nothing."""
        if journal == here.journal or here.repo is None:
            return None
        if (mine := self._all.get(journal)) is not None and mine.away:
            self.reload(journal)
        other = self._all.get(journal) or self._elsewhere.get(here.repo, {}).get(journal)
        if other is None or other.repo != here.repo or other.earlier is None:
            return None
        # Events are forgotten meanwhile, so that only the store knows how far.
        pruned = [row.pruned for row in self._store.journals() if row.journal == journal]
        return replace(other.earlier, pruned=max(pruned, default=0))

    def _lacks(self, journal: str, stop: Stop) -> tuple[tuple[str, int], ...]:
        """What is missing stands behind the last event of its branch, or where reading began.

        The event that stopped the journal may have come late, and is to come once more.
        """
        other = self._all.get(stop.missing[0]) if stop.missing else None
        if other is None or stop.branch is None:
            return ()
        last = self._store.chain(other.journal).get(stop.branch)
        after = max(other.origin or 0, last.sequence if last else 0)
        return (other.journal, after), (journal, stop.sequence - 1)


def _journal(row: JournalRow, number: int) -> Journal:
    """The journal as the store knows it."""
    origin = row.origin
    if origin is None and (row.scanned is not None or row.since is None):
        origin = row.scanned or 0
    return Journal(
        row.journal,
        row.repo,
        row.scanned,
        row.since,
        number=number,
        beyond=(row.stopped or "").startswith(BEYOND),
        origin=origin,
        kept=row.origin,
    )


def _began(here: Journal, admitted: Admitted) -> int:
    """Behind which sequence reading began, never past what was read: a relay may only claim it."""
    if here.origin is not None:
        return min(here.origin, admitted.scanned)
    return admitted.records[0].sequence - 1 if admitted.records else admitted.scanned


def _decided(store: Store, journal: str) -> Decided:
    decisions = store.decisions(journal)
    vouched = (one.sequence for one in decisions if one.verb == "vouch")
    return Decided(
        frozenset(one.sequence for one in decisions if one.verb == "admit"),
        max(vouched, default=0),
    )
