"""What records tell together: what is sound of a damaged file, and what goes when it is cut."""

import contextlib
from collections.abc import Iterable, Iterator

from ..wire import events
from ..wire.errors import Refused
from ..wire.fold import Fold
from ..wire.values import Event
from .format import BRANCH, EVENT, MARK, ORIGIN, Record, Torn, read_signed
from .heads import extend
from .origin import EventsFile, read_branch
from .reading import records


class Sound:
    """The sound part of an events file, from its beginning.

    `end`: where the last whole transaction ends before anything that is not sound, or the
    beginning; `undone`: what sound records behind it told.
    """

    def __init__(self, source: EventsFile) -> None:
        self.end = source.base
        self.undone: dict[str, list[str]] = {}
        with contextlib.suppress(Torn):
            extend(source.origin.head, self._passing(source), source.size)

    def _passing(self, source: EventsFile) -> Iterator[Record]:
        for record in records(source, source.base, source.size):
            if record.kind == ORIGIN and not source.origin.cut:
                raise Torn(record.offset, "a beginning that cannot be read")
            yield record
            # Only here has the reader taken it: what it refused never arrives.
            if record.kind == MARK:
                self.end = record.end
                self.undone = {}
            else:
                collect([record], self.undone)


def fold(passing: Iterable[Record]) -> Fold:
    """What records tell together, with those that stand for dropped events; Torn."""
    found = Fold()
    for record in passing:
        if record.kind == EVENT:
            found.add(event_of(record))
        elif record.kind == BRANCH:
            told = read_branch(record)
            found.begin(told.branch, told.live, told.heads)
    return found


def event_of(record: Record) -> Event:
    """The event of an event record; Torn if it is none."""
    try:
        return events.decode(read_signed(record).event)
    except Refused as refused:
        raise Torn(record.offset, str(refused)) from None


def collect(undone_records: Iterable[Record], undone: dict[str, list[str]]) -> None:
    """Add the changesets of which the records said that they came or went."""
    for record in undone_records:
        if record.kind == EVENT:
            event = event_of(record)
            nodes = undone.setdefault(event.branch, [])
            nodes += [changeset.node for changeset in event.changesets]
            nodes += event.removed
            nodes += [item.node for item in event.obsoleted]
            nodes += [item.node for item in event.phases if item.new == "secret"]
