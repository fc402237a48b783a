"""Key files as a configuration names them: an error says which file and key of it named them.

    /etc/zmqhooks/ci.yml: trust[0]: '/etc/zmqhooks/root.pub': does not exist
    hint: copy the root.pub that …

What is missing or unfit comes with the whole command that makes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..service.errors import ConfigError
from ..wire import certificates, events
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring, Read, RefusedList
from . import renew
from .files import KeyFileError, MissingError, load_revocations, load_roots, load_secret
from .make import EVERYTHING

T = TypeVar("T")

_OVER = {"expired", "not-yet", "revoked"}
"""A certificate with the right role that does not count now."""


@dataclass(frozen=True, slots=True)
class Named:
    """A key file, where it is named, and what it is for.

    `file`, `key`: the configuration and the place in it. `name`: whose key it shall be; `role`:
    what its certificate has to allow, and `also`: what a new one should. `trust`: the roots' files,
    the first of which is taken to lie beside its ROOT.key.
    """

    file: Path
    key: str
    path: Path
    trust: Sequence[Path]
    name: str
    role: str
    also: Sequence[str] = ()

    def load(self) -> SecretKey:
        """The secret keys in it. Raises ConfigError."""
        return _named(self.file, self.key, self.path, load_secret, self._command(self.path))

    def certificate(self, secret: SecretKey, keyring: Keyring, now: float) -> Certificate:
        """Its certificate, if that allows `role` now. Raises ConfigError."""
        if secret.certificate is None:
            raise self._unfit("has no certificate, as a root's key", None)
        found = None
        try:
            found = certificates.decode(secret.certificate)
            return keyring.peer(secret.certificate, self.role, now)
        except Refused as error:
            reason = f"cannot be used: {error.detail}"
            if error.kind in _OVER:
                hint = f"renew it where ROOT.key is: {renew.rotation(self.path, self.trust[0])}"
                raise ConfigError(self.file, self.key, str(self.path), reason, hint) from None
            raise self._unfit(reason, found) from None

    def _unfit(self, reason: str, found: Certificate | None) -> ConfigError:
        """`found`: what its certificate says, to make another one with the same rights and role."""
        if found is None or (self.role == "subscriber" and not found.read):
            command = self._command(renew.next_to(self.path))
        else:
            command = renew.again(found, self.path, self.trust[0], self.role)
        hint = f"make another one where ROOT.key is: {command}"
        return ConfigError(self.file, self.key, str(self.path), reason, hint)

    def _command(self, out: Path) -> str:
        reads = [EVERYTHING] if self.role == "subscriber" else []
        roles = [self.role, *self.also]
        return renew.command(self.name, out, self.trust[0], read=reads, roles=roles)


@dataclass(frozen=True, slots=True)
class Trust:
    """The files of roots and of their revocation lists, and where they are named.

    `file`: the configuration; `within`: what stands before the key `trust` in it, such as "relay.",
    and `within_lists` before the key `revocations`.
    """

    file: Path
    roots: Sequence[Path]
    revocations: Sequence[Path] = ()
    within: str = ""
    within_lists: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of the files."""
        return (*self.roots, *self.revocations)

    def keyring(self, read: Read = events.decode) -> Keyring:
        """A keyring that trusts what the files say; `read`: see Keyring. Raises ConfigError."""
        keyring = Keyring((), read)
        self.renew(keyring)
        return keyring

    def renew(self, keyring: Keyring) -> None:
        """Have `keyring` trust what the files say now.

        Raises ConfigError, and then it trusts what it did before.
        """
        roots = [
            root
            for at, path in enumerate(self.roots)
            for root in _named(self.file, f"{self.within}trust[{at}]", path, load_roots)
        ]
        lists = [
            _named(self.file, self._list_key(at), path, load_revocations).token
            for at, path in enumerate(self.revocations)
        ]
        try:
            keyring.replace(roots, lists)
        except RefusedList as error:
            raise self._refused(error) from None

    def _refused(self, error: RefusedList) -> ConfigError:
        key, value = f"{self.within_lists}revocations", None
        if error.at is not None:
            key, value = self._list_key(error.at), str(self.revocations[error.at])
        reason = f"cannot be used: {error.detail}"
        return ConfigError(self.file, key, value, reason, _HINTS[error.kind])

    def _list_key(self, at: int) -> str:
        return f"{self.within_lists}revocations[{at}]"


_HINTS = {
    "bad-revocations": "copy the list that `zmq-keys revoke` wrote here once more",
    "old-revocations": "copy the newest list here; it lies where ROOT.key is",
    "unknown-root": "take it out, or add the ROOT.pub of its root to `trust`",
}


def _named(
    file: Path, key: str, path: Path, load: Callable[[Path], T], command: str | None = None
) -> T:
    try:
        return load(path)
    except MissingError as error:
        hint = error.hint if command is None else f"correct the path, or make it: {command}"
        raise ConfigError(file, key, str(path), error.reason, hint) from None
    except KeyFileError as error:
        raise ConfigError(file, key, str(path), error.reason, error.hint) from None
