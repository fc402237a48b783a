"""What a key file, a certificate, a root's public key or a list holds, for people and programs.

Never a secret: what is printed is made of public values only.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..wire import certificates, keyfiles
from ..wire.certificates import Certificate
from ..wire.keyfiles import SecretKey
from ..wire.keyring import standing_at
from ..wire.revocations import RevocationList, Revoked
from .files import Contents, load_any


@dataclass(frozen=True, slots=True)
class Description:
    """What `zmq-keys show --json` prints. Times are RFC 3339 in UTC; None where a kind has none.

    `kind`: "root-key", "key", "certificate" or "root". `thumbprint` (RFC 7638) of the Ed25519 key:
    certificates name their root by it (`kid`, here
    `root`). `standing` is "valid", "expired" or "not-yet" and says nothing about trust.
    """

    file: str
    kind: str
    mode: str
    group: str
    name: str | None
    ed25519: str
    thumbprint: str
    curve: str | None = None
    root: str | None = None
    issuer: str | None = None
    serial: str | None = None
    not_before: str | None = None
    expires: str | None = None
    standing: str | None = None
    roles: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The JSON object; what does not apply is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


@dataclass(frozen=True, slots=True)
class Listing:
    """The same of a revocation list. `revoked`: its entries, with times in RFC 3339."""

    file: str
    kind: str
    mode: str
    group: str
    root: str
    issuer: str
    number: int
    issued: str
    revoked: tuple[dict[str, str], ...]

    def as_dict(self) -> dict[str, object]:
        """The JSON object."""
        return asdict(self)


_KINDS = {
    "root-key": "secret key of a root",
    "key": "secret key with its certificate",
    "certificate": "certificate",
    "root": "public key of a root",
    "revocations": "revocation list of a root",
}


def describe(path: Path, now: float) -> list[Description | Listing]:
    """What the file holds; a file of roots may hold several. Raises KeyFileError."""
    contents = load_any(path)
    match contents.value:
        case Certificate() as certificate:
            return [_certificate(path, "certificate", contents, certificate, now)]
        case RevocationList() as found:
            return [_listing(path, contents, found)]
        case SecretKey() as key:
            return [_key(path, contents, key, now)]
        case roots:
            return [_plain(path, "root", contents, None, public) for public in roots]


def _key(path: Path, contents: Contents, key: SecretKey, now: float) -> Description:
    if key.certificate is None:
        return _plain(path, "root-key", contents, key.name, key.public)
    return _certificate(path, "key", contents, certificates.decode(key.certificate), now)


def _plain(
    path: Path, kind: str, contents: Contents, name: str | None, public: bytes
) -> Description:
    return Description(
        file=str(path),
        kind=kind,
        mode=contents.mode,
        group=contents.group,
        name=name,
        ed25519=keyfiles.b64url_encode(public),
        thumbprint=keyfiles.thumbprint(public),
    )


def _certificate(
    path: Path, kind: str, contents: Contents, certificate: Certificate, now: float
) -> Description:
    return Description(
        file=str(path),
        kind=kind,
        mode=contents.mode,
        group=contents.group,
        name=certificate.sub,
        ed25519=keyfiles.b64url_encode(certificate.public),
        thumbprint=keyfiles.thumbprint(certificate.public),
        curve=certificate.curve,
        root=certificate.kid,
        issuer=certificate.iss,
        serial=certificate.jti,
        not_before=_utc(certificate.nbf),
        expires=_utc(certificate.exp),
        standing=standing_at(certificate, now).value,
        roles=tuple(sorted(certificate.roles)),
        publish=tuple(pattern.text for pattern in certificate.publish),
        read=tuple(pattern.text for pattern in certificate.read),
    )


def _listing(path: Path, contents: Contents, found: RevocationList) -> Listing:
    return Listing(
        file=str(path),
        kind="revocations",
        mode=contents.mode,
        group=contents.group,
        root=found.kid,
        issuer=found.iss,
        number=found.number,
        issued=_utc(found.iat),
        revoked=tuple(_entry(one) for one in found.revoked),
    )


def _entry(one: Revoked) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else _utc(value)
        for key, value in one.as_dict().items()
    }


def as_text(description: Description | Listing) -> str:
    """The lines that `zmq-keys show` prints."""
    rows = [("file", f"{description.file} ({description.mode}, group {description.group})")]
    for key, value in description.as_dict().items():
        if key not in ("file", "mode", "group"):
            rows += [(key.replace("_", " "), text) for text in _texts(key, value)]
    return "\n".join(f"{key + ':':12} {text}" for key, text in rows)


def _texts(key: str, value: object) -> list[str]:
    """A value as it is printed: one line, or one for each entry of a list."""
    if key == "kind":
        return [_KINDS[str(value)]]
    if key == "revoked" and isinstance(value, tuple):
        return [_told(entry) for entry in value]
    return [" ".join(value) if isinstance(value, tuple) else str(value)]


def _told(entry: dict[str, str]) -> str:
    """An entry for a person.

    >>> _told({"jti": "1f", "sub": "ci", "at": "2026-11-21T09:00:00Z"})
    '1f (ci), entered 2026-11-21T09:00:00Z'
    >>> _told({"sub": "ci", "before": "2026-11-21T08:55:00Z", "at": "2026-11-21T09:00:00Z"})
    'all of ci that begin until 2026-11-21T08:55:00Z, entered 2026-11-21T09:00:00Z'
    """
    if "before" in entry:
        what = f"all of {entry['sub']} that begin until {entry['before']}"
    else:
        what = f"{entry['jti']} ({entry['sub']})" if "sub" in entry else entry["jti"]
    return f"{what}, entered {entry['at']}"


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
