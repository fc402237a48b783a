"""Who may read a broadcast over tcp: certificates that are named in `broadcast-readers`.

A PUB socket sends everything to whoever is connected, so a reader's certificate has to allow it to
read everything. It is asked of the keyring again and again: time ends it, and a root may revoke it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..keys.files import KeyFileError, load_certificate
from ..service.errors import ConfigError
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from ..wire.topics import Pattern

EVERYTHING = Pattern("hg:**:**:")


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers' certificates by their CURVE key (Z85)."""

    tokens: Mapping[str, bytes]
    keyring: Keyring

    def check(self, key: str, now: float) -> None:
        """Refused unless this key is that of a reader whose certificate is valid now."""
        token = self.tokens.get(key)
        if token is None:
            raise Refused("not-a-reader", "its key is in none of `broadcast-readers`")
        self.keyring.peer(token, "subscriber", now)

    def valid(self, now: float) -> frozenset[str]:
        """The keys that may read now."""
        return frozenset(key for key in self.tokens if self._may(key, now))

    def _may(self, key: str, now: float) -> bool:
        try:
            self.check(key, now)
        except Refused:
            return False
        return True


def load_readers(paths: Sequence[Path], keyring: Keyring) -> Readers:
    """The readers in these N.cert files. Raises ConfigError for one that can never read.

    One that is expired or revoked can: its time may come, or its place is kept for a new one.
    """
    found = [_load(path, keyring) for path in paths]
    return Readers({one.curve: one.token for one in found}, keyring)


def faults(paths: Sequence[Path], keyring: Keyring, now: float) -> Iterator[tuple[Path, str]]:
    """What is wrong with the readers in these files, those included whose time is over."""
    for path in paths:
        try:
            keyring.peer(_load(path, keyring).token, "subscriber", now)
        except ConfigError as error:
            yield path, error.reason
        except Refused as refused:
            yield path, refused.detail


def _load(path: Path, keyring: Keyring) -> Certificate:
    try:
        certificate = load_certificate(path)
        _check_signed(certificate, keyring)
    except KeyFileError as error:
        raise _unfit(path, error.reason, error.hint) from None
    except Refused as refused:
        hint = "it must be an N.cert under a root named in `trust`"
        raise _unfit(path, f"is no reader's certificate: {refused.detail}", hint) from None
    if "subscriber" not in certificate.roles or EVERYTHING not in certificate.read:
        raise _unfit(
            path,
            f"{certificate.sub!r} may not read everything, and a broadcast is everything",
            f'zmq-keys issue --root ROOT.key --name {certificate.sub} --read "{EVERYTHING.text}"',
        )
    return certificate


def _check_signed(certificate: Certificate, keyring: Keyring) -> None:
    try:
        keyring.certificate(certificate.token)
    except Refused as refused:
        if refused.kind != "revoked":
            raise


def _unfit(path: Path, reason: str, hint: str) -> ConfigError:
    return ConfigError(path, "", None, reason, hint)
