"""Extending a revocation list, or beginning one.

By name is meant every certificate that was made up to now. Since a certificate begins CLOCK_SKEW
before it is made, that is where the entry ends, too: a key that is issued again under the name
counts from the next second on.
"""

from collections.abc import Iterable
from pathlib import Path

from ..wire import revocations
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey, thumbprint
from ..wire.keyring import Keyring
from ..wire.revocations import RevocationList, Revoked
from .files import KeyFileError, NotWrittenError, load_any, load_revocations, write_private
from .make import CLOCK_SKEW, PUBLIC
from .replace import replace
from .rotate import certificate_in


def by_certificate(path: Path, root: SecretKey, now: int) -> Revoked:
    """The entry of the certificate in N.cert or N.key, of this root. Raises KeyFileError."""
    found = load_any(path).value
    certificate = found if isinstance(found, Certificate) else certificate_in(path, found)
    if certificate.kid != thumbprint(root.public):
        reason = f"was not made under {root.name!r}, but under root {certificate.kid}"
        raise KeyFileError(path, reason, "name the ROOT.key of that root, and its own list")
    return Revoked(now, jti=certificate.jti, sub=certificate.sub)


def by_id(jti: str, now: int) -> Revoked:
    """The entry of the certificate of this id, whosever it is."""
    return Revoked(now, jti=jti)


def by_name(name: str, now: int) -> Revoked:
    """The entry of what was made for this name up to now."""
    return Revoked(now, sub=name, before=now - CLOCK_SKEW)


def extend(
    path: Path, root: SecretKey, entries: Iterable[Revoked], now: int
) -> tuple[RevocationList, bool]:
    """The list in `path` with these entries too, and whether it was written.

    A list that is not there is begun; one that says all of it already is left as it is. Raises
    KeyFileError, among others for the list of another root.
    """
    old = _load(path, root) if path.exists() or path.is_symlink() else None
    before = old.revoked if old is not None else ()
    after = merged(before, entries)
    if old is not None and after == before:
        return old, False
    number = old.number + 1 if old is not None else 1
    try:
        token = revocations.issue(root, number, after, now)
    except Refused as error:
        hint = "revoke by name, which takes one entry however many certificates there were"
        raise NotWrittenError(path, f"would be too long: {error.detail}", hint) from None
    if old is None:
        write_private(path, token + b"\n", PUBLIC)
    else:
        replace([(path, token + b"\n")])
    return revocations.decode(token), True


def merged(old: Iterable[Revoked], new: Iterable[Revoked]) -> tuple[Revoked, ...]:
    """Each certificate once, as it was entered first; each name once, as far as it goes."""
    by_id: dict[str | None, Revoked] = {}
    by_name: dict[str | None, Revoked] = {}
    for one in (*old, *new):
        if one.before is None:
            by_id.setdefault(one.jti, one)
            continue
        last = by_name.get(one.sub)
        if last is None or (last.before or 0) < one.before:
            by_name[one.sub] = one
    return (*by_id.values(), *by_name.values())


def _load(path: Path, root: SecretKey) -> RevocationList:
    """The list that is there, if this root signed it."""
    found = load_revocations(path)
    try:
        Keyring([root.public], revocations=[found.token])
    except Refused as error:
        hint = "each root has a list of its own: choose another --out, or name that ROOT.key"
        raise KeyFileError(path, f"cannot be extended: {error.detail}", hint) from None
    return found
