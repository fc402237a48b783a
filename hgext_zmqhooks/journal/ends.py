"""Whether a journal is torn where a push would notice it: a cheap look at its end, without a lock.

The rest of the file is `hg events --verify`'s. Nothing is written.
"""

from .files import Files
from .format import EVENTS, HEAD, MARK, MARK_LENGTH, JournalError, Torn
from .heads import BadHead, Head, decode, extend
from .origin import EventsFile, open_events
from .reading import record_at, records

__all__ = ["JournalError", "head", "torn"]

TAIL = 4 << 20
"""Bytes behind the head that are read at most; more than a transaction leaves behind in a crash."""


def head(files: Files) -> Head | None:
    """The head mark, None where there is none that can be read. Raises NewerHead, and OSError."""
    data = files.read(HEAD)
    try:
        return decode(data) if data else None
    except BadHead:
        return None


def torn(files: Files, mark: Head | None, *, tail: bool) -> Torn | None:
    """What is damaged: the last record up to the head, or, with `tail`, those behind it.

    `mark`: the head mark, None where there is none. `tail`: nobody writes at this moment. Raises
    NewerHead, and OSError.
    """
    found = files.stat(EVENTS)
    if found is None or not found.st_size:
        return None
    try:
        with open_events(files.path(EVENTS)) as source:
            _look(source, source.origin.applied(mark or Head(), source.place), tail=tail)
    except Torn as problem:
        return problem
    return None


def _look(source: EventsFile, mark: Head, *, tail: bool) -> None:
    end = min(mark.size, source.size)
    if end:
        offset = max(source.base, end - MARK_LENGTH)
        if record_at(source, offset, end).kind != MARK:
            raise Torn(offset, "no mark at the end of a transaction")
    if tail and mark.size <= source.size <= mark.size + TAIL:
        extend(mark, records(source, mark.size, source.size), source.size)
