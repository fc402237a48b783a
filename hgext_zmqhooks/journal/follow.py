"""Readers of a journal: without Mercurial, without a lock, without ever writing.

    follower = Follower("/srv/hg/team/app/.hg/store")
    if follower.poll():
        for info in follower.journals():
            follower.read(info.journal, after=41)       # event 42 and what follows

What is served is what the head says is committed. Past the head a reader goes only if a crash left
the head behind: store/journal is absent (no transaction is open, none waits for `hg recover`),
and inode, size and ctime of the events file are the same before and after reading, and older
than two seconds. A rollback lowers the head before the file is cut, so whoever finds the head
unchanged after reading has read committed bytes; else the reading is judged by the new head.

The files are opened by path for every reading: a store may be exchanged as a whole, and a
thousand followers must not hold a thousand descriptors.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..wire import events
from ..wire.errors import Refused
from ..wire.verbs import JournalInfo
from .format import EVENTS, HEAD, JournalError, Torn
from .heads import BadHead, Closed, Head, decode, emptied, extend
from .origin import Origin, open_events
from .reading import records
from .region import Region, Stored

__all__ = ["Follower", "Stored", "UnknownJournal"]

SETTLED = 2.0
"""Seconds for which the events file must be untouched before a reader goes past the head."""
ATTEMPTS = 8
"""Readings of one call while the head changes under it."""

_Stamp = tuple[int, int, int, int, int] | None


class UnknownJournal(JournalError):  # noqa: N818 - what the caller named
    """The store has no such journal, or it belongs to the repository that this one is a copy of."""


class Follower:
    """Reads the journals of the store folder `store` (`.hg/store`); not thread-safe.

    `clock` gives unix seconds, as the file system's times are.
    """

    def __init__(
        self, store: str | os.PathLike[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._head_path = Path(store, HEAD)
        self._events_path = Path(store, EVENTS)
        self._open_transaction = Path(store, "journal")
        self._clock = clock
        self._stamps: tuple[_Stamp, _Stamp] | None = None
        self._pending = False
        self._suspect = False
        self._written: bytes | None = None
        self._view = Head()
        self._told = Head()
        self._damage: Torn | None = None
        self._cut = 0
        self._regions: dict[str, Region] = {}

    @property
    def head(self) -> Head | None:
        """The committed state at the last poll; None while the store has no journal."""
        return self._view if self._view.journal else None

    @property
    def moved(self) -> bool:
        """Whether the head was written for another file: a copy or a restored backup.

        Until something is written to it, such a store tells the same journals, under the same
        repository name, as the one that it came from.
        """
        stamp = self._stamps[1] if self._stamps else None
        return stamp is not None and stamp[:2] != (self._view.dev, self._view.ino)

    def poll(self) -> bool:
        """Look at the files; whether `head` changed. Two `stat` calls when nothing did.

        Raises OSError where a file is there and cannot be read, NewerHead.
        """
        now = self._clock()
        stamps = _stamp(self._head_path), _stamp(self._events_path)
        if stamps != self._stamps or self._pending:
            self._look(now, stamps[0])
        before, self._told = self._told, self._view
        return self._view != before

    def journals(self) -> list[JournalInfo]:
        """The journals of this repository in the order in which they were written.

        A copied repository's file begins with the journals of the original; they are left out.
        """
        return [
            JournalInfo(
                region.info.journal,
                region.info.repo,
                region.info.first,
                region.info.sequence,
                closed=region.info.journal != self._view.journal,
            )
            for region in self._regions.values()
        ]

    def read(
        self, journal: str, after: int, max_records: int = 200, max_bytes: int = 1 << 20
    ) -> list[Stored]:
        """The events behind sequence `after`, from the first one kept on.

        At most `max_records`, and at most `max_bytes` of events and signatures, but one event
        whenever there is one. Empty at the end of the journal, and in the rare case that the head
        changes under every reading. Raises Torn at a damaged record, having served all before it,
        and UnknownJournal.
        """
        for _attempt in range(ATTEMPTS):
            region = self._region(journal)
            start = max(after, region.info.first - 1)
            if start >= region.info.sequence:
                if self._damage and journal == self._view.journal:
                    raise self._damage
                return []
            found = self._attempt(region, start, max_records, max_bytes)
            if found:
                return found
        return []

    def since(self, journal: str, moment: float) -> int:
        """The position (last sequence to skip) from which on events are not older than `moment`.

        `moment` is in unix seconds. Events stand in the order of their times, unless the host's
        clock was set back: then one of the places where the order is right is found. Raises as
        `read` does, and Torn at an event that is none.
        """
        info = self._region(journal).info
        sequences = range(info.first, info.sequence + 1)
        older = bisect_left(sequences, moment, key=lambda number: self._time(journal, number))
        return info.first - 1 + older

    def _time(self, journal: str, sequence: int) -> float:
        found = self.read(journal, sequence - 1, max_records=1)
        if not found:
            return float("inf")
        try:
            return datetime.fromisoformat(events.decode(found[0].event).time).timestamp()
        except Refused as refused:
            raise Torn(0, f"sequence {sequence}: {refused}") from None

    def _region(self, journal: str) -> Region:
        try:
            return self._regions[journal]
        except KeyError:
            raise UnknownJournal(journal) from None

    def _attempt(
        self, region: Region, after: int, max_records: int, max_bytes: int
    ) -> list[Stored]:
        """What is there, unless the head that said so was replaced meanwhile: then nothing."""
        try:
            with open_events(self._events_path) as source:
                if source.origin.cut != self._cut:
                    self._look(self._clock(), None)
                    return []
                found, end = region.read(source, after, max_records, max_bytes)
        except (FileNotFoundError, Torn) as error:
            if self._unchanged():
                self._suspect = True
                raise _as_torn(error) from None
            self._look(self._clock(), None)
            return []
        if self._unchanged():
            return found
        self._look(self._clock(), None)
        kept = self._regions.get(region.info.journal) is region and end <= region.info.size
        return found if kept else []

    def _unchanged(self) -> bool:
        return _read(self._head_path) == self._written

    def _look(self, now: float, head_stamp: _Stamp) -> None:
        """Read the head, then look at the events file, which is never behind it."""
        written = _read(self._head_path)
        head = _parse(written)
        self._damage = None
        try:
            stamp, origin = self._opened()
        except Torn as torn:
            stamp, self._damage, self._view = _stamp(self._events_path), torn, head
        else:
            self._cut = origin.cut
            if stamp is not None:
                head = origin.applied(head, stamp[:2])
            self._view = self._judged(head, stamp, now, origin.base)
        former = self._stamps[1] if self._stamps else None
        if self._suspect or (former and former[:2] != (stamp and stamp[:2])):
            self._regions.clear()
            self._suspect = False
        self._stamps, self._written = (head_stamp, stamp), written
        self._sort()

    def _opened(self) -> tuple[_Stamp, Origin]:
        """The events file that is there now, and how it begins."""
        try:
            with open_events(self._events_path) as source:
                return _stamp_of(source.stat()), source.origin
        except FileNotFoundError:
            return None, Origin()

    def _judged(self, head: Head, events_stamp: _Stamp, now: float, base: int) -> Head:
        """The head, or what it would be if the crash had not been that left it behind."""
        self._pending = False
        if events_stamp is None or events_stamp[2] == 0:
            return emptied(head)
        if events_stamp[2] + base <= head.size or self._open_transaction.exists():
            self._pending = events_stamp[2] + base > head.size
            return head
        if now - events_stamp[4] / 1e9 <= SETTLED:
            self._pending = True
            return head
        return self._past(head, events_stamp)

    def _past(self, head: Head, before: tuple[int, int, int, int, int]) -> Head:
        damage = None
        view = head
        try:
            with open_events(self._events_path) as source:
                end = before[2] + source.base
                view = extend(head, records(source, head.size, end), end)
        except FileNotFoundError:
            pass
        except Torn as torn:
            damage = torn
        if self._open_transaction.exists() or _stamp(self._events_path) != before:
            self._pending = True
            return head
        self._damage = damage
        # An ended journal does not go on: a rollback is just about to cut what stands there.
        return head if head.ended and view.journal == head.journal else view

    def _sort(self) -> None:
        """Keep what is known of each region that is still there."""
        former, self._regions = self._regions, {}
        for info in _regions(self._view):
            known = former.get(info.journal)
            kept = known is not None and known.grown(info)
            self._regions[info.journal] = known if known and kept else Region(info)


def _regions(head: Head) -> list[Closed]:
    regions = [region for region in head.closed if region.repo == head.repo]
    return [*regions, head.current] if head.journal else regions


def _as_torn(error: Exception) -> Torn:
    """A file that vanished although the head did not change is damage too."""
    return error if isinstance(error, Torn) else Torn(0, "the events file is not there any more")


def _parse(written: bytes | None) -> Head:
    try:
        return decode(written) if written is not None else Head()
    except BadHead:
        return Head()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _stamp(path: Path) -> _Stamp:
    """What changes when the file does: device, inode, size, and times in nanoseconds."""
    try:
        return _stamp_of(path.stat())
    except FileNotFoundError:
        return None


def _stamp_of(found: os.stat_result) -> tuple[int, int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
