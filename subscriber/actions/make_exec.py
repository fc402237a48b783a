"""Makes `exec` of what a rule says: users, limits and files as they are on this host."""

import os
import pwd
import shutil
from collections.abc import Iterator

from hgext_zmqhooks.service.access import me

from .exec import Exec
from .place import Place
from .settings import ExecSettings, Limits, Written, whole
from .wrong import Wrong


def make(said: Written, place: Place) -> Exec:
    """The action; only where `refused` found nothing."""
    given = whole(said)
    user = _user(given)
    return Exec(
        given.command,
        str(place.folder / given.directory),
        str(place.runners),
        setup=(*_limits(given.limits, place.descriptors), *_identity(user)),
        passed=given.environment.passed,
        given=(*_home(user), *given.environment.set.items()),
    )


def refused(key: str, said: Written) -> Iterator[Wrong]:
    """Why a daemon on this host can never run it; keys begin with `key`."""
    user = whole(said).user
    if user is None:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        yield f"{key}.user", user, "no such user", "name one that `getent passwd` shows"
        return
    if os.geteuid() not in {0, entry.pw_uid}:
        reason = f"{me()}, who runs this, cannot become another"
        yield f"{key}.user", user, reason, "leave it out, or run the daemon as root"


def missing(key: str, said: Written, place: Place) -> Iterator[Wrong]:
    """What an attempt would fail for now, though it may come right before the first one."""
    given = whole(said)
    if not isinstance(said, tuple):
        key = f"{key}.command"
    folder, name = place.folder / given.directory, given.command[0]
    if not folder.is_dir():
        hint = f"mkdir -p {folder}"
        yield key.replace(".command", ".directory"), given.directory, "no such folder", hint
    elif "/" in name:
        path = folder / name
        if not path.is_file():
            hint = f"write it, or correct the path, which begins in {folder}"
            yield f"{key}[0]", name, f"{path} does not exist", hint
        elif not os.access(path, os.X_OK):
            yield f"{key}[0]", name, "it is not executable", f"chmod +x {path}"
    elif located(said, place) is None:
        reason = f"there is no such command in PATH ({_path(given)})"
        yield f"{key}[0]", name, reason, "write its whole path"


def located(said: Written, place: Place) -> str | None:
    """Where the command is that would run now, None if nowhere."""
    given = whole(said)
    name = given.command[0]
    if "/" in name:
        return str(place.folder / given.directory / name)
    return shutil.which(name, path=_path(given))


def _path(given: ExecSettings) -> str:
    return given.environment.set.get("PATH", os.environ.get("PATH", ""))


def _limits(limits: Limits, descriptors: int | None) -> Iterator[str]:
    """What the runner sets, in its words."""
    numbers = {"memory": limits.memory, "files": limits.files, "processes": limits.processes}
    yield from (f"{name}={number}" for name, number in numbers.items() if number is not None)
    if limits.cpu is not None:
        yield f"cpu={round(limits.cpu)}"
    if limits.files is None and descriptors is not None:
        yield f"soft-files={descriptors}"


def _user(given: ExecSettings) -> pwd.struct_passwd | None:
    """Whom the command is to run as; None: as we do."""
    entry = None if given.user is None else pwd.getpwnam(given.user)
    return None if entry is None or entry.pw_uid == os.geteuid() else entry


def _identity(user: pwd.struct_passwd | None) -> Iterator[str]:
    if user is not None:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        yield "user=" + ":".join(map(str, (user.pw_uid, user.pw_gid, *groups)))


def _home(user: pwd.struct_passwd | None) -> Iterator[tuple[str, str]]:
    if user is not None:
        yield from (("HOME", user.pw_dir), ("USER", user.pw_name), ("LOGNAME", user.pw_name))
