"""Key files that are replaced while daemons and hg read them: old or new, and never a part of one.

A new file is written whole beside the old one, with its owner, group and mode, and then renamed
over it. Of several files all are written before the first is renamed, so that a full disk or a
folder without rights changes none.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..service.access import me
from .files import KeyFileError, NotWrittenError, write_private


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep every other zmq-keys that would change something under this ROOT.key away meanwhile.

    Two lists made of the same one at once would lose what one of them revokes.
    """
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(handle, root)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise KeyFileError(root, "is in use by another zmq-keys", "try it again") from None


def replace(files: Sequence[tuple[Path, bytes]]) -> None:
    """Put these bytes in the place of files that exist, in this order. Raises NotWrittenError.

    Where a path is a link, the file that it names is replaced.
    """
    fresh: list[tuple[Path, Path]] = []
    try:
        for path, data in files:
            whole = Path(os.path.realpath(path))
            other = whole.with_name(f".{whole.name}.{secrets.token_hex(8)}")
            write_private(other, data)
            fresh.append((other, whole))
            _take_rights(other, whole.stat())
        for other, whole in fresh:
            other.rename(whole)
            _settle(whole.parent)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = f"run this as the owner of that file, not as {me()}, and look at its disk"
        raise NotWrittenError(path, f"could not be replaced: {reason}", hint) from error
    finally:
        for other, _ in fresh:
            other.unlink(missing_ok=True)


def _take_rights(path: Path, old: os.stat_result) -> None:
    """Owner first: whoever gives a file away may not change its mode any more, and root may."""
    new = path.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.chown(path, old.st_uid, old.st_gid)
    path.chmod(stat.S_IMODE(old.st_mode))


def _settle(folder: Path) -> None:
    """Have the renaming itself on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
