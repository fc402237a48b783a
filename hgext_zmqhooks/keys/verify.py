"""Whether a key, a certificate or a revocation list counts now, for who trusts certain roots."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring, RefusedList, Standing, standing_at
from ..wire.revocations import RevocationList
from . import renew
from .files import KeyFileError, load_any, load_revocations, load_roots
from .rotate import certificate_in, left_behind


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `zmq-keys verify --json` prints. `problem`: a slug, None where the file counts.

    `problem` is "expired", "not-yet", "revoked", "unknown-root", "bad-certificate",
    "bad-revocations", "key-mismatch" (the certificate is that of other keys) or
    "certificate-left-behind" (the N.cert beside is not the one in N.key).
    """

    file: str
    name: str
    problem: str | None
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem or 'good'}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Trusted:
    """The roots that count, and the lists of what they revoked."""

    roots: Sequence[bytes]
    revocations: Sequence[bytes]

    @classmethod
    def load(cls, roots: Sequence[Path], revocations: Sequence[Path]) -> "Trusted":
        """From files. Raises KeyFileError, also for a list that none of these roots signed."""
        keys = [root for path in roots for root in load_roots(path)]
        tokens = [load_revocations(path).token for path in revocations]
        try:
            Keyring(keys, revocations=tokens)
        except RefusedList as error:
            hint = "give the newest list of each root, and the root with --trust"
            reason = f"cannot be used: {error.detail}"
            raise KeyFileError(revocations[error.at or 0], reason, hint) from None
        return cls(keys, tokens)


def verify(path: Path, trusted: Trusted, now: float) -> Verdict:
    """Judge one file. KeyFileError for one that cannot be read, or that nobody signs."""
    found = load_any(path).value
    if isinstance(found, list):
        hint = "name it with --trust, and here what it signed"
        raise KeyFileError(path, "is the public key of a root, which nobody signs", hint)
    try:
        detail = _judge(path, found, trusted, now)
    except Refused as error:
        return Verdict(str(path), _name(found), error.kind, error.detail)
    return Verdict(str(path), _name(found), None, detail)


def _name(found: SecretKey | Certificate | RevocationList) -> str:
    if isinstance(found, SecretKey):
        return found.name
    return found.sub if isinstance(found, Certificate) else found.iss


def _judge(
    path: Path, found: SecretKey | Certificate | RevocationList, trusted: Trusted, now: float
) -> str:
    """What is good about it; Refused says why it does not count."""
    if isinstance(found, SecretKey):
        return _key(path, found, trusted, now)
    if isinstance(found, Certificate):
        return _certificate(found, trusted, now)
    return _list(found, trusted)


def _list(found: RevocationList, trusted: Trusted) -> str:
    """The list alone: that it is older than another one is no fault of its own."""
    Keyring(trusted.roots, revocations=[found.token])
    return f"number {found.number} of {found.iss!r}, {len(found.revoked)} revoked"


def _certificate(found: Certificate, trusted: Trusted, now: float) -> str:
    certificate = Keyring(trusted.roots, revocations=trusted.revocations).certificate(found.token)
    standing = standing_at(certificate, now)
    if standing is not Standing.VALID:
        begins, ends = renew.day(certificate.nbf), renew.day(certificate.exp)
        raise Refused(standing.value, f"the certificate of {certificate.sub!r}: {begins} to {ends}")
    return f"the certificate of {certificate.sub!r} until {renew.day(certificate.exp)}"


def _key(path: Path, key: SecretKey, trusted: Trusted, now: float) -> str:
    if key.certificate is None:
        return _root(key, trusted)
    certificate = certificate_in(path, key)
    detail = _certificate(certificate, trusted, now)
    if (certificate.public, certificate.curve) != (key.public, key.curve_public):
        raise Refused("key-mismatch", "its certificate is that of other keys")
    beside = left_behind(path, certificate)
    if beside is not None:
        what = f"{beside} is another certificate than the one in this file; rotate it once more"
        raise Refused("certificate-left-behind", what)
    return detail


def _root(key: SecretKey, trusted: Trusted) -> str:
    if key.public not in trusted.roots:
        raise Refused("unknown-root", f"the root {key.name!r} is not among the trusted ones")
    return f"the root {key.name!r}"
