"""Reading the events file by position, in bounded memory.

Nothing here looks at the file's size: who calls knows how far the file is committed.
"""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from .format import FRAME_LENGTH, Frame, Record, Torn, read_frame, whole

CHUNK = 256 << 10
"""Bytes of one read where whole records are wanted."""
STEP = 16 << 10
"""Bytes of one read where only frames are: some dozens of small events, or one large one."""
PAGE = 4 << 10
"""Bytes of the first read where one record is wanted."""


class Source:
    """An open file; `base`: what its first byte counts as."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.base = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Source":
        """Raises OSError as `os.open` does."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def stat(self) -> os.stat_result:
        """Of the open file, whatever its path is now."""
        return os.fstat(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer where the file ends, none before its beginning."""
        if offset < self.base:
            return b""
        return os.pread(self._descriptor, length, offset - self.base)


def records(source: Source, start: int, end: int) -> Iterator[Record]:
    """The records in [start, end), each checked; Torn if that is not a row of whole records."""
    while start < end:
        found = start
        for record in whole(source.read(start, min(CHUNK, end - start)), start):
            yield record
            start = record.end
        if start == found:
            record = record_at(source, start, end)
            yield record
            start = record.end


def record_at(source: Source, offset: int, end: int) -> Record:
    """The one record that begins at `offset` and ends at or before `end`; Torn if there is none."""
    data = source.read(offset, max(0, min(PAGE, end - offset)))
    found = read_frame(data, offset)
    if found.end > end:
        raise Torn(offset, f"its end, byte {found.end}, is beyond byte {end}")
    if found.end - offset > len(data):
        data = source.read(offset, found.end - offset)
    for record in whole(data, offset):
        return record
    raise Torn(offset, f"the file ends at byte {offset + len(data)}")


def frames(source: Source, start: int, end: int) -> Iterator[Frame]:
    """The frames of the records in [start, end), read without most of the payloads."""
    data, base = b"", start
    while start < end:
        if start + FRAME_LENGTH > base + len(data):
            data, base = source.read(start, min(STEP, end - start)), start
        found = read_frame(data, start, start - base)
        if found.end > end:
            raise Torn(start, f"its end, byte {found.end}, is beyond byte {end}")
        yield found
        start = found.end
