"""The files of a store that the writer changes, behind a door that Mercurial's vfs fits through."""

import os
import secrets
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol


class Files(Protocol):
    """The top folder of a store. `name` is one of the four names of `format.py`, as text.

    All methods raise OSError as the operating system does. The extension gives one over
    `repo.svfs`, so that file modes and hard links are handled as for Mercurial's own files.
    """

    def path(self, name: str) -> str:
        """Where the file is, for `open`."""
        ...

    def read(self, name: str) -> bytes | None:
        """The whole file, or None if there is none."""
        ...

    def write_atomic(self, name: str, data: bytes) -> None:
        """Replace the file in one step: readers see the old bytes or the new ones."""
        ...

    def append(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The file opened to append ("ab"), made if there is none."""
        ...

    def patch(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The existing file opened to read and overwrite ("r+b")."""
        ...

    def remove(self, name: str) -> None:
        """Remove the file; no error if there is none."""
        ...

    def replace(self, name: str, new: str) -> None:
        """Let the file `new` take the place of the file `name`, in one step."""
        ...

    def stat(self, name: str) -> os.stat_result | None:
        """None if there is no such file."""
        ...


class Directory:
    """`Files` of a plain folder: what the tests and tools without Mercurial use."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def path(self, name: str) -> str:
        """See Files."""
        return str(self._folder / name)

    def read(self, name: str) -> bytes | None:
        """See Files."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write_atomic(self, name: str, data: bytes) -> None:
        """See Files."""
        temporary = self._folder / f".{name}-{secrets.token_hex(4)}"
        try:
            temporary.write_bytes(data)
            temporary.replace(self._folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def append(self, name: str) -> AbstractContextManager[BinaryIO]:
        """See Files."""
        return (self._folder / name).open("ab")

    def patch(self, name: str) -> AbstractContextManager[BinaryIO]:
        """See Files."""
        return (self._folder / name).open("r+b")

    def remove(self, name: str) -> None:
        """See Files."""
        (self._folder / name).unlink(missing_ok=True)

    def replace(self, name: str, new: str) -> None:
        """See Files."""
        (self._folder / new).replace(self._folder / name)

    def stat(self, name: str) -> os.stat_result | None:
        """See Files."""
        try:
            return (self._folder / name).stat()
        except FileNotFoundError:
            return None
