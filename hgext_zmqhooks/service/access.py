"""Why this process may not use a path: the folder or file on the way to it that stops it.

    /run/zmqhooks (root:root 0750) may not be entered by user alice

"Permission denied" and "nobody listens" do not say which of five folders is meant. Nothing but the
standard library is needed: hg asks, too.
"""

import grp
import os
import pwd
import stat
from pathlib import Path

from .errors import ServiceError

_WORDS = {
    os.R_OK: "read",
    os.W_OK: "written",
    os.R_OK | os.X_OK: "read",
    os.W_OK | os.X_OK: "written into",
}


def obstacle(path: str | Path, mode: int, *, make: bool = False) -> str | None:
    """What keeps this process from using `path`, None if nothing does.

    `mode`: R_OK or W_OK, for a folder together with X_OK. With `make` it need not be there yet, but
    this process must be able to make it.
    """
    whole = Path(os.path.realpath(path))
    for folder in reversed(whole.parents):
        if not folder.exists():
            return f"{folder} does not exist"
        if not folder.is_dir():
            return f"{folder} is not a folder"
        if not _may(folder, os.X_OK):
            return _denied(folder, "entered")
    if not whole.exists():
        return obstacle(whole.parent, os.W_OK | os.X_OK) if make else f"{whole} does not exist"
    return None if _may(whole, mode) else _denied(whole, _WORDS[mode])


def remedy(path: str | Path) -> str:
    """The command that lets this process write `path`, or into the folder where it is to be."""
    whole = Path(os.path.realpath(path))
    there = whole if whole.exists() else whole.parent
    if not there.exists():
        return f"mkdir -p {there}"
    if there.stat().st_uid != os.geteuid():
        return f"chown -R {me().split()[-1]} {whole.parent}"
    return f"chmod u+w {there}"


def socket_remedy(closed: str) -> str:
    """What to do about an obstacle on the way to a socket of a daemon.

    >>> socket_remedy("/run/zmqhooks does not exist")
    'mkdir -p /run/zmqhooks; a daemon makes no folder but the one of its socket'
    """
    folder, missing, _ = closed.partition(" does not exist")
    if missing:
        return f"mkdir -p {folder}; a daemon makes no folder but the one of its socket"
    return "it must belong to the user that runs this, who must be in `group`"


def me() -> str:
    """This process's user, as in `user alice`."""
    uid = os.geteuid()
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"


def rights(path: str | Path) -> str:
    """Owner, group and mode of what is there, such as `root:hg 0640`."""
    info = Path(path).stat()
    try:
        owner = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        owner = str(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return f"{owner}:{group} {stat.S_IMODE(info.st_mode):04o}"


def group_id(endpoint: str, group: str | None) -> int | None:
    """The number of the group that `endpoint` shall belong to. Raises ServiceError."""
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ServiceError(
            f"{endpoint}: there is no group {group!r}",
            hint="set `group` to the group of those who push, or leave it out",
        ) from None


def check_socket_folder(folder: str, gid: int | None) -> None:
    """Refuse a folder where anyone could replace a socket, or where group `gid` cannot reach it.

    Raises ServiceError.
    """
    info = Path(folder).stat()
    if info.st_mode & stat.S_IWOTH:
        raise ServiceError(
            f"{folder}: anyone may write there (mode {stat.S_IMODE(info.st_mode):04o})",
            hint=f"use a directory of its own, or: chmod 2750 {folder}",
        )
    enters = stat.S_IXGRP if info.st_gid == gid else stat.S_IXOTH
    if gid is not None and not info.st_mode & enters:
        group = grp.getgrgid(gid).gr_name
        raise ServiceError(
            f"{folder} ({rights(folder)}): the group {group} may not enter it",
            hint=f"chgrp {group} {folder} && chmod 2750 {folder}",
        )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _denied(path: Path, done: str) -> str:
    return f"{path} ({rights(path)}) may not be {done} by {me()}"
