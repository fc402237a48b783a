"""What a key file, a certificate or a root's public key holds, for people and for programs.

Never a secret: a `Description` is made of public values only.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..wire import certificates, keyfiles
from ..wire.certificates import Certificate
from ..wire.keyfiles import SecretKey
from ..wire.keyring import standing_at
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


_KINDS = {
    "root-key": "secret key of a root",
    "key": "secret key with its certificate",
    "certificate": "certificate",
    "root": "public key of a root",
}


def describe(path: Path, now: float) -> Description:
    """What the file holds. Raises KeyFileError."""
    contents = load_any(path)
    if isinstance(contents.value, Certificate):
        return _certificate(path, "certificate", contents, contents.value, now)
    if isinstance(contents.value, SecretKey):
        return _key(path, contents, contents.value, now)
    return _plain(path, "root", contents, None, contents.value)


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


def as_text(description: Description) -> str:
    """The lines that `zmq-keys show` prints."""
    rows = [("file", f"{description.file} ({description.mode}, group {description.group})")]
    for key, value in description.as_dict().items():
        if key in ("file", "mode", "group"):
            continue
        text = _KINDS[str(value)] if key == "kind" else value
        rows.append(
            (key.replace("_", " "), " ".join(text) if isinstance(text, tuple) else str(text))
        )
    return "\n".join(f"{key + ':':12} {value}" for key, value in rows)


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
