"""Secrets that an operator keeps in a file of their own: passwords and keys of other services.

Such a file holds one line, is read anew whenever it is needed, so that it can be replaced while a
daemon runs, and is refused where others than its owner may read it, as key files are.
"""

import os
import stat
from pathlib import Path

from .access import me, obstacle
from .errors import EXIT, ServiceError

LIMIT = 16 * 1024
"""Bytes. More is a wrong path."""


class SecretFileError(ServiceError):
    """A file with a secret cannot be used: which one, why, and what to do about it."""

    status = EXIT.CONFIG

    def __init__(self, file: str | Path, reason: str, hint: str) -> None:
        super().__init__(f"{file}: {reason}", hint=hint)
        self.file = str(file)
        self.reason = reason


def read_secret(path: str | Path) -> str:
    """The one line that the file holds, without its end; SecretFileError if it cannot be used."""
    try:
        text = _read(path).decode()
    except UnicodeDecodeError:
        raise SecretFileError(path, "is not text in UTF-8", "write one line of text") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if not line or "\n" in line or "\0" in line:
        raise SecretFileError(path, "does not hold exactly one line", "write one line of text")
    return line


def _read(path: str | Path) -> bytes:
    try:
        # Without O_NONBLOCK a named pipe at this path would stop the daemon.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        closed = obstacle(path, os.R_OK) or (error.strerror or str(error)).lower()
        reason = closed.removeprefix(f"{os.path.realpath(path)} ")
        hint = f"correct the path, or make it readable for {me()} and nobody else"
        raise SecretFileError(path, reason, hint) from None
    try:
        _check(path, os.fstat(handle))
        data = os.read(handle, LIMIT + 1)
    finally:
        os.close(handle)
    if len(data) > LIMIT:
        raise SecretFileError(path, f"is larger than {LIMIT} bytes", "correct the path")
    return data


def _check(path: str | Path, info: os.stat_result) -> None:
    """Modes are read from the open file, so that what was checked is what is read."""
    if not stat.S_ISREG(info.st_mode):
        raise SecretFileError(path, "is not a regular file", "correct the path")
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o077:
        reason = f"has mode {mode:04o}: others than its owner may read or write it"
        raise SecretFileError(path, reason, f"chmod 600 {path}")
