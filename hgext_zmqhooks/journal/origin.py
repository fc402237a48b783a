"""How an events file begins once retention has shortened it, and what its offsets count.

Offsets count the bytes of the file as if nothing had ever been dropped: those in the head, in the
index and in what a reader remembers stay right when leading transactions go. The new file begins
with records that stand for them, and end where the first kept one begins:

    kind 4  origin       {"version":1,"behind":N,"file":[dev,ino],"former":[dev,ino],"head":{…}}
    kind 5  branch       {"branch":…,"journal":…,"sequence":…,"sha256":…,"live":[…],"heads":[…]}
    kind 1  certificate  the one that the next event names without bringing it
    kind 3  mark         the last one that was dropped

`head` is the head as it was at the cut, without events; its size is the offset of the cut.
`behind`: bytes of the records of the beginning behind the first. `file` is this file and `former`
the one it replaced: so a head written for the former one, before a crash, is known to fit.
A branch record (or several, for very many nodes) says which was the last dropped event of its
branch, for the links of those to come, and what the dropped events together tell: `heads` of the
branch, and `live`, changesets that exist, with all their ancestors.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeVar

from .format import BRANCH, FRAME_LENGTH, LONGEST, ORIGIN, Record, Torn, frame
from .heads import FARTHEST, MOST, BadHead, Closed, Head, NewerHead, empty, extend, typed
from .reading import Source, record_at, records

VERSION = 1
NODES = 20_000
"""Nodes of one branch record at most."""

T = TypeVar("T", Head, Closed)
Place = tuple[int, int]


class Origin(NamedTuple):
    """`Origin()` is that of a file of which nothing was dropped."""

    head: Head = Head()
    base: int = 0
    file: Place = (0, 0)
    former: Place = (0, 0)

    @property
    def cut(self) -> int:
        """Where the first record stands that was not dropped."""
        return self.head.size

    def applied(self, head: Head, place: Place) -> Head:
        """The stored head, as it must be for the file at `place` (device, inode) with this origin.

        A crash may have left a head that still counts what was dropped. One that does not reach
        to the cut belongs to another file.
        """
        if head.size < self.cut:
            return self.head
        if not self.cut:
            return head
        closed = tuple([self._begun(region) for region in head.closed])
        head = replace(self._begun(head), closed=closed)
        if (head.dev, head.ino) == self.former and place == self.file:
            return replace(head, dev=place[0], ino=place[1])
        return head

    def _begun(self, region: T) -> T:
        """Without what was dropped of it. What begins at the cut lost nothing, events or none."""
        if region.journal == self.head.journal:
            return replace(region, first=self.head.first, start=self.head.start)
        return region if region.start >= self.cut else empty(region)


class Branch(NamedTuple):
    """What the dropped events told of one branch; see above."""

    branch: str
    journal: str
    sequence: int
    sha256: str
    live: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    def frames(self) -> Iterator[bytes]:
        """The records that say it."""
        for at in range(0, max(len(self.live), len(self.heads), 1), NODES):
            part = self._replace(live=self.live[at : at + NODES], heads=self.heads[at : at + NODES])
            yield frame(BRANCH, json.dumps(part._asdict(), separators=(",", ":")).encode())


class EventsFile(Source):
    """An open events file; `read` takes offsets as explained above."""

    def __init__(self, descriptor: int, *, damaged: bool = False) -> None:
        super().__init__(descriptor)
        self.origin = _origin(self, damaged=damaged)
        self.base = self.origin.base

    @property
    def size(self) -> int:
        """Where the file ends."""
        return self.stat().st_size + self.base

    @property
    def place(self) -> Place:
        """Device and inode."""
        found = self.stat()
        return found.st_dev, found.st_ino


def open_events(path: str | os.PathLike[str], *, damaged: bool = False) -> EventsFile:
    """Raises OSError as `os.open` does, NewerHead, and Torn where the origin cannot be read.

    `damaged`: then it counts as none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return EventsFile(descriptor, damaged=damaged)
    except BaseException:
        os.close(descriptor)
        raise


def encode(head: Head, behind: int, file: Place, former: Place) -> bytes:
    """The origin record; `behind`: bytes of the records of the beginning that follow it."""
    document = {
        "version": VERSION,
        "behind": behind,
        "file": file,
        "former": former,
        "head": asdict(head),
    }
    return frame(ORIGIN, json.dumps(document, separators=(",", ":")).encode())


def rebuilt(source: EventsFile, end: int) -> Head:
    """The head that the records say, from the beginning of the file to byte `end`."""
    origin = source.origin
    return extend(origin.head, records(source, origin.cut, end), end)


def _origin(source: Source, *, damaged: bool) -> Origin:
    data = source.read(0, FRAME_LENGTH)
    if len(data) < FRAME_LENGTH or data[-1] != ORIGIN:
        return Origin()
    try:
        return _decode(record_at(source, 0, FRAME_LENGTH + LONGEST))
    except Torn:
        if damaged:
            return Origin()
        raise


def _decode(record: Record) -> Origin:
    try:
        document = json.loads(record.payload)
        version = _number(document["version"])
        if version > VERSION:
            raise NewerHead(f"the events file begins as version {version}, known is {VERSION}")
        head = typed(document["head"])
        behind = _number(document["behind"], FARTHEST)
        file, former = _place(document["file"]), _place(document["former"])
    except (BadHead, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Torn(0, f"not the beginning of a shortened file: {error}") from None
    return Origin(head, head.size - record.end - behind, file, former)


def _number(value: Any, most: int = MOST) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a number")
    return value


def _place(value: Any) -> Place:
    device, inode = value
    return _number(device), _number(inode)


def read_branch(record: Record) -> Branch:
    """What a branch record says; Torn if it is malformed."""
    try:
        document = json.loads(record.payload)
        found = Branch(**document)
        texts = [found.branch, found.journal, found.sha256, *found.live, *found.heads]
        _number(found.sequence)
    except (ValueError, TypeError, RecursionError) as error:
        raise Torn(record.offset, f"not what was told of a branch: {error}") from None
    if not all(type(text) is str for text in texts):
        raise Torn(record.offset, "not what was told of a branch: a name that is no text")
    return found._replace(live=tuple(found.live), heads=tuple(found.heads))
