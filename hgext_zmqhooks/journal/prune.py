"""Retention: leading transactions are dropped from the events file, sequences stay.

The order of effects, all under the store lock, with no transaction open:

    cut()       which transactions go: older than a moment, or beyond a size; the newest stays
    dropped()   their records, for whoever must know what they told
    write()     the new file beside the old one, with a beginning that stands for what went
                (`origin.py`); flushed to the disk
                the index is removed
                the new file takes the old one's place       <- here it is done, in one step
                the head, and the index, are written

A kill before that one step leaves the old journal and a file that the next prune removes. A kill
after it leaves a head that still counts what went: the origin in the file corrects it for writers
and readers, and no offset has changed. A reader that has the old file open reads on in it; all
that it holds was committed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from ..wire import events
from .files import Files
from .format import (
    BRANCH,
    CERTIFICATE,
    EVENT,
    EVENTS,
    HEAD,
    INDEX,
    MARK,
    MARK_LENGTH,
    Record,
    fingerprint,
    frame,
    read_signed,
)
from .glance import glance
from .heads import Head, empty
from .index import Index
from .origin import Branch, EventsFile, encode, open_events, read_branch
from .reading import records

NEW = "zmqhooks-events-new"
"""Where the new file is written."""
COPIED = 1 << 20
"""Bytes of one read while what is kept is copied."""


class Limits(NamedTuple):
    """`before`: unix seconds, older transactions go. `size`: bytes to keep at most.

    `drop`: bytes after which one prune ends, with the transaction.
    """

    before: float | None = None
    size: int | None = None
    drop: int | None = None


class Told(NamedTuple):
    """What the dropped events together tell of a branch: see `Branch`."""

    live: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()


class Pruning:
    """One prune, of a journal that is current. `begin`: where what is kept began until now.

    Methods raise OSError and Torn; then the journal is as it was.
    """

    def __init__(self, files: Files, head: Head) -> None:
        self._files = files
        self.head = head
        self.begin = 0
        if head.size:
            with self._open() as source:
                self.begin = source.origin.cut

    @property
    def kept(self) -> int:
        """How many events the file holds."""
        regions = (*self.head.closed, self.head.current)
        return sum(region.sequence - region.first + 1 for region in regions)

    def cut(self, limits: Limits) -> int | None:
        """The offset up to which everything is to go, None if nothing is."""
        with self._open() as source:
            kept = candidate = self.begin
            told = self.begin > 0
            for record in records(source, self.begin, self.head.size):
                if record.kind == MARK and told:
                    candidate = record.end
                elif record.kind == EVENT:
                    told = True
                    kept = candidate  # only now is it sure that something later stays
                    if not self._goes(record, limits, kept):
                        break
                    if limits.drop is not None and kept - self.begin >= limits.drop:
                        break
        return kept if kept > self.begin else None

    def _goes(self, record: Record, limits: Limits, kept: int) -> bool:
        if limits.size is not None and self.head.size - kept > limits.size:
            return True
        if limits.before is None:
            return False
        time = glance(record.offset, read_signed(record).event).time
        return datetime.fromisoformat(time).timestamp() < limits.before

    def dropped(self, cut: int) -> Iterator[Record]:
        """The records before `cut`, those that stand for what was dropped earlier included."""
        with self._open() as source:
            yield from records(source, source.base, cut)

    def write(self, cut: int, told: Mapping[str, Told]) -> Head:
        """Drop what stands before `cut`; the new head. `told`: by branch of the dropped events."""
        dropped = _Dropped(self.dropped(cut))
        nothing = Told()  # of a branch of which only pings were dropped
        branches = [
            last._replace(**told.get(branch, nothing)._asdict())
            for branch, last in dropped.last.items()
        ]
        self._files.remove(NEW)
        with self._open() as source, self._files.append(NEW) as out:
            found = os.fstat(out.fileno())
            tail = frame(CERTIFICATE, dropped.certificate) if dropped.certificate else b""
            tail += source.read(cut - MARK_LENGTH, MARK_LENGTH)
            bare = self._bare(cut, cut - len(tail), dropped)
            data = [part for branch in branches for part in branch.frames()] + [tail]
            place = found.st_dev, found.st_ino
            first = encode(bare, sum(map(len, data)), place, source.place)
            out.writelines([first, *data])
            for offset in range(cut, self.head.size, COPIED):
                out.write(source.read(offset, min(COPIED, self.head.size - offset)))
            out.flush()
            os.fsync(out.fileno())
        index = Index(self._files, self.head)
        places = index.places()
        self._files.remove(INDEX)
        self._files.replace(EVENTS, NEW)
        with self._open() as source:
            head = source.origin.applied(self.head, source.place)
            self._files.write_atomic(HEAD, head.encode())
            index.shorten(source, places, head)
        return head

    def _open(self) -> EventsFile:
        return open_events(self._files.path(EVENTS))

    def _bare(self, cut: int, start: int, dropped: "_Dropped") -> Head:
        """The head at the cut, without events; `start`: where its journal begins now."""
        regions = (*self.head.closed, self.head.current)
        (here,) = [region for region in regions if region.start < cut <= region.size]
        sequence = dropped.sequences.get(here.journal, here.first - 1)
        return Head(
            journal=here.journal,
            repo=here.repo,
            first=sequence + 1,
            sequence=sequence,
            start=start,
            size=cut,
            continuing=self.head.continuing and here.journal == self.head.journal,
            certificate=fingerprint(dropped.certificate) if dropped.certificate else "",
            closed=tuple([empty(region) for region in regions[: regions.index(here)]]),
        )


class _Dropped:
    """What the records before the cut leave behind.

    `last`: the last event by branch; `sequences`: the last one by journal; `certificate`: the token
    that the next event names.
    """

    def __init__(self, passing: Iterable[Record]) -> None:
        self.last: dict[str, Branch] = {}
        self.sequences: dict[str, int] = {}
        self.certificate = b""
        for record in passing:
            if record.kind == CERTIFICATE:
                self.certificate = record.payload
            elif record.kind == BRANCH:
                branch = read_branch(record)
                self.last[branch.branch] = branch
            elif record.kind == EVENT:
                self._event(record)

    def _event(self, record: Record) -> None:
        event = read_signed(record).event
        found = glance(record.offset, event)
        self.sequences[found.journal] = found.sequence
        self.last[found.branch] = Branch(
            found.branch, found.journal, found.sequence, events.digest(event)
        )
