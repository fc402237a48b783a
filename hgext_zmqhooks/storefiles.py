"""`journal.files.Files` over Mercurial's `repo.svfs`: its file modes, its care for hard links."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO


class StoreFiles:
    """The top of a store. `svfs` is Mercurial's; the names are ASCII, so it encodes nothing."""

    def __init__(self, svfs: Any) -> None:
        self._svfs = svfs

    def path(self, name: str) -> str:
        """Where the file is."""
        return os.fsdecode(self._svfs.join(name.encode()))

    def read(self, name: str) -> bytes | None:
        """The whole file, or None if there is none."""
        try:
            data: bytes = self._svfs.read(name.encode())
        except FileNotFoundError:
            return None
        return data

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replace the file in one step."""
        with self._svfs(name.encode(), b"wb", atomictemp=True) as file:
            file.write(data)

    @contextlib.contextmanager
    def append(self, name: str) -> Iterator[BinaryIO]:
        """The file opened to append; a hard link of a copied repository is broken first."""
        with self._named(name), self._svfs(name.encode(), b"ab") as file:
            yield file

    @contextlib.contextmanager
    def patch(self, name: str) -> Iterator[BinaryIO]:
        """The existing file opened to read and overwrite."""
        with self._named(name), self._svfs(name.encode(), b"r+b") as file:
            yield file

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """A full disk shows when a file is written, where Python does not know its name."""
        try:
            yield
        except OSError as problem:
            if problem.filename is None:
                problem.filename = self.path(name)
            raise

    def remove(self, name: str) -> None:
        """Remove the file if there is one."""
        self._svfs.tryunlink(name.encode())

    def replace(self, name: str, new: str) -> None:
        """Let the file `new` take the place of the file `name`."""
        self._svfs.rename(new.encode(), name.encode())

    def stat(self, name: str) -> os.stat_result | None:
        """None if there is no such file."""
        try:
            found: os.stat_result = self._svfs.stat(name.encode())
        except FileNotFoundError:
            return None
        return found
