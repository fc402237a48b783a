"""Key files on disk: who may read them, and how they come into being.

    root.key, N.key   secret keys as JSON      0600, or 0640 with the group named as `key-group`
    root.pub          public keys as PEM       anyone may read, nobody else may write
    N.cert            certificate, compact JWS likewise
    root.crl          revocation list, the same

Who may read a signing key may forge events, so a looser mode is refused where the file is used and
not only where it is made: a `chmod` or a backup tool changes modes later. Modes are read from the
open file, so that what was checked is what is read.

The Mercurial extension reads its key with this module: it must import nothing outside the standard
library but what `wire` needs.
"""

import contextlib
import grp
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..service.access import me, obstacle
from ..service.errors import EXIT, ServiceError
from ..wire import certificates, jws, keyfiles, revocations
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.revocations import RevocationList

LIMIT = 64 * 1024
"""Bytes. A key file is under 2 KiB; something larger is a wrong path, perhaps a device."""

LIST_LIMIT = revocations.MAX_LENGTH + 2
"""Bytes of a revocation list, and the end of its line."""

_PEM = b"-----BEGIN"

T = TypeVar("T")


class KeyFileError(ServiceError):
    """A key file cannot be used: which one, why, and what to do about it."""

    status = EXIT.CONFIG

    def __init__(self, file: str | Path, reason: str, hint: str) -> None:
        super().__init__(f"{file}: {reason}", hint=hint)
        self.file = str(file)
        self.reason = reason


class MissingError(KeyFileError):
    """There is no such key file."""


class NotWrittenError(KeyFileError):
    """A key file could not be made; what was there is as it was."""

    status = EXIT.PROBLEM


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of any of the kinds holds (a root.pub: keys of 32 bytes), and its rights."""

    value: SecretKey | Certificate | RevocationList | list[bytes]
    mode: str
    group: str


def load_secret(path: str | Path, *, key_group: str | None = None) -> SecretKey:
    """The secret keys in `path`, refused when more people may read them than stated.

    Without `key_group` only the owner may have any right. With it the file's group must be that
    group, and may read. Raises KeyFileError.
    """

    def check(info: os.stat_result, data: bytes) -> None:
        _check_kind(path, data)
        _check_private(path, info, key_group)

    hint = "make it with `zmq-keys quickstart DIR` or `zmq-keys issue`, or correct the path"
    data = _read(path, check, closed=_to_open(key_group), missing=hint)
    return _parse(path, data, SecretKey.decode, "zmq-keys makes such files")


def _check_kind(path: str | Path, data: bytes) -> None:
    """Refuse what is no secret at all before its mode: nobody shall close a root.pub to others."""
    if data.lstrip().startswith(_PEM):
        reason = "is the public key of a root, and a secret key is needed"
    elif data.startswith(b"ey") and b"." in data:
        reason = "is a certificate, and the secret key it belongs to is needed"
    else:
        return
    raise KeyFileError(path, reason, "name the N.key that `zmq-keys` wrote, not N.cert or root.pub")


def load_roots(path: str | Path) -> list[bytes]:
    """The Ed25519 public keys, of 32 bytes each, in a PEM file such as root.pub; at least one."""
    hint = "name a root.pub made by `zmq-keys quickstart` or `zmq-keys root`"
    missing = "copy the root.pub that lies beside the root.key; `zmq-keys quickstart` makes both"
    return _parse(path, _read_public(path, missing), keyfiles.decode_public_pems, hint)


def load_revocations(path: str | Path) -> RevocationList:
    """The revocation list in `path`: form only; whether its root signed it is the keyring's."""
    hint = "name an N.crl made by `zmq-keys revoke`"
    missing = (
        "copy the list that `zmq-keys revoke` wrote where ROOT.key is; without --certificate, --id"
        " and --name it makes one that revokes nothing yet"
    )
    return _parse(path, _read_public(path, missing, LIST_LIMIT), _decode_revocations, hint)


def load_certificate(path: str | Path) -> Certificate:
    """The certificate in `path`: form only; whether a trusted root signed it is the keyring's."""
    hint = "name an N.cert made by `zmq-keys issue`"
    missing = "copy the N.cert that `zmq-keys` wrote beside the N.key, or correct the path"
    return _parse(path, _read_public(path, missing), _decode_certificate, hint)


def load_any(path: str | Path) -> Contents:
    """Whatever kind of key file this is; a secret one may be readable by its group, no further.

    Raises KeyFileError.
    """
    seen: list[os.stat_result] = []

    def check(info: os.stat_result, data: bytes) -> None:
        seen.append(info)
        if _is_secret(data):
            _check_others(path, info, None)

    data = _read(path, check, closed="run this as the user whose file it is", limit=LIST_LIMIT)
    value = _parse(path, data, _decode_any, "zmq-keys makes N.key, N.cert, N.crl and root.pub")
    return Contents(value, _octal(seen[0]), _group(seen[0].st_gid))


def _is_secret(data: bytes) -> bool:
    return data.lstrip().startswith(b"{")


def _decode_any(data: bytes) -> SecretKey | Certificate | RevocationList | list[bytes]:
    if _is_secret(data):
        return SecretKey.decode(data)
    if data.lstrip().startswith(_PEM):
        return keyfiles.decode_public_pems(data)
    if jws.type_of(data.strip()) == revocations.TYP:
        return _decode_revocations(data)
    return _decode_certificate(data)


def write_private(path: str | Path, data: bytes, mode: int = 0o600) -> None:
    """Create `path` with `data`; an existing file is never replaced. Raises NotWrittenError.

    The file has its mode from its first moment, whatever the umask: there is no instant in which
    others can open it. A file that could not be written whole is removed again.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o600)
    except FileExistsError:
        raise NotWrittenError(
            path, "exists already", "keys are never replaced: choose another name, or move it away"
        ) from None
    except OSError as error:
        raise NotWrittenError(path, _why(error), "check the folder and its owner") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise NotWrittenError(path, _why(error), "check the disk") from error


def _to_open(key_group: str | None) -> str:
    """What to do about a secret key that its user may not read."""
    if key_group is not None:
        return (
            f"the key must have group {key_group} and mode 0640, {key_group} must be able to enter"
            f" every folder above it, and the user must be in {key_group}; who has just been added"
            " must log in again"
        )
    return (
        "a daemon's key must belong to the daemon's user: chown USER. A publisher's key for several"
        " users: `chgrp GROUP` and `chmod 640` it, set key-group = GROUP, and add the users to it"
    )


def _read(
    path: str | Path,
    check: Callable[[os.stat_result, bytes], None],
    closed: str = "let everyone read it, it is no secret; and enter every folder above",
    missing: str = "correct the path",
    limit: int = LIMIT,
) -> bytes:
    """The bytes of a regular file, at most `limit` of them, that pass `check` with their rights.

    `closed`: the hint when this user may not read it; `missing`: when it is not there.
    """
    try:
        # Without O_NONBLOCK a named pipe at this path would hang a push.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingError(path, "does not exist", missing) from None
    except PermissionError:
        reason = f"cannot be read: {obstacle(path, os.R_OK) or f'it is closed to {me()}'}"
        raise KeyFileError(path, reason, closed) from None
    except OSError as error:
        raise KeyFileError(path, _why(error), "correct the path") from error
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise KeyFileError(path, "is not a regular file", "correct the path")
        data = os.read(handle, limit + 1)
    finally:
        os.close(handle)
    if len(data) > limit:
        raise KeyFileError(
            path, f"is larger than {limit} bytes, no such file is", "correct the path"
        )
    check(info, data)
    return data


def _decode_revocations(data: bytes) -> RevocationList:
    return revocations.decode(data.strip())


def _decode_certificate(data: bytes) -> Certificate:
    return certificates.decode(data.strip())


def _read_public(path: str | Path, missing: str, limit: int = LIMIT) -> bytes:
    def check(info: os.stat_result, data: bytes) -> None:
        del data
        if info.st_mode & stat.S_IWOTH:
            reason = f"has mode {_octal(info)}: everybody may replace it"
            raise KeyFileError(path, reason, f"chmod o-w {path}")

    return _read(path, check, missing=missing, limit=limit)


def _check_private(path: str | Path, info: os.stat_result, key_group: str | None) -> None:
    """Refuse a mode that is looser than 0600, or than 0640 with the right group."""
    _check_others(path, info, key_group)
    if not info.st_mode & stat.S_IRGRP:
        return
    if key_group is None:
        reason = f"has mode {_octal(info)}: its group {_group(info.st_gid)} may read it"
        hint = f"chmod 600 {path}; a publisher's key may have key-group = {_group(info.st_gid)}"
        raise KeyFileError(path, reason, hint)
    if info.st_gid != _gid(path, key_group):
        reason = f"belongs to group {_group(info.st_gid)}, but key-group is {key_group}"
        raise KeyFileError(path, reason, f"chgrp {key_group} {path}, or correct key-group")


def _check_others(path: str | Path, info: os.stat_result, key_group: str | None) -> None:
    """Refuse every right but the owner's, and the group's to read."""
    if stat.S_IMODE(info.st_mode) & 0o037:
        wanted = f"0640 with group {key_group}" if key_group else "0600"
        reason = f"has mode {_octal(info)}, looser than {wanted}: who may read it may forge events"
        raise KeyFileError(path, reason, f"chmod {'640' if key_group else '600'} {path}")


def _gid(path: str | Path, name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        reason = f"cannot be checked: key-group names the group {name}, which does not exist"
        raise KeyFileError(path, reason, f"groupadd {name}, or correct key-group") from None


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _parse(path: str | Path, data: bytes, decode: Callable[[bytes], T], hint: str) -> T:
    try:
        return decode(data)
    except Refused as error:
        raise KeyFileError(path, f"is not what it should be: {error.detail}", hint) from error


def _octal(info: os.stat_result) -> str:
    return f"{stat.S_IMODE(info.st_mode):04o}"


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
