"""A new key pair and certificate under the same name, in place of the old ones.

    N.key    is replaced first: it holds its certificate, so who reads it alone is served at once
    N.cert   then, where there is one beside it: for those who connect to a relay

A crash between the two leaves an N.cert of before; `verify N.key` says so, and to rotate once more
mends it. The old certificate stays good until it ends or is revoked, so that whoever still uses
it is heard meanwhile.
"""

from pathlib import Path

from ..wire import certificates
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring
from . import make
from .files import KeyFileError, load_any, load_certificate, load_roots
from .replace import replace


def certificate_in(path: Path, key: object) -> Certificate:
    """The certificate of a secret key that was read from `path`. KeyFileError without one."""
    if not isinstance(key, SecretKey) or key.certificate is None:
        reason = "is the key of a root, which has no certificate"
        raise KeyFileError(path, reason, "name an N.key or N.cert made by `zmq-keys issue`")
    try:
        return certificates.decode(key.certificate)
    except Refused as error:
        raise KeyFileError(path, f"has no certificate: {error.detail}", "issue it anew") from None


def old_certificate(path: Path, root: SecretKey, old_root: Path | None) -> Certificate:
    """The certificate in N.key, if this root signed it, or the one in `old_root`. KeyFileError.

    Its rights are taken over, so it is not enough that somebody wrote them into the file.
    """
    found = certificate_in(path, load_any(path).value)
    roots = [root.public] if old_root is None else load_roots(old_root)
    try:
        return Keyring(roots).certificate(found.token)
    except Refused as error:
        if error.kind != "unknown-root":
            raise KeyFileError(
                path, f"cannot be rotated: {error.detail}", "issue it anew"
            ) from None
        reason = f"was made under another root, {found.iss!r} ({found.kid})"
        hint = (
            "name that ROOT.key; or, to change the root, the public key of the old one:"
            " --old-root OLD.pub"
        )
        raise KeyFileError(path, reason, hint) from None


def successor(old: Certificate, root: SecretKey, days: int | None, now: float) -> SecretKey:
    """New keys with a certificate of the same name and rights; `days`: None for as long a life."""
    wish = make.Wish(
        old.sub,
        tuple(pattern.text for pattern in old.publish),
        tuple(pattern.text for pattern in old.read),
        old.roles,
        days or max(1, (old.exp - old.nbf) // make.DAY),
    )
    return make.certified(root, wish, now)


def take_place(key: SecretKey, path: Path) -> list[Path]:
    """Replace N.key, and N.cert where there is one; what was replaced. Raises NotWrittenError."""
    made = make.key_files(key, path)
    files = [(one, data) for one, (data, _) in made.items() if one == path or one.exists()]
    replace(files)
    return [one for one, _ in files]


def left_behind(path: Path, certificate: Certificate) -> Path | None:
    """The N.cert beside N.key, where it is another certificate than that of the key."""
    beside = path.with_suffix(".cert")
    if not beside.is_file() or load_certificate(beside) == certificate:
        return None
    return beside
