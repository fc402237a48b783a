"""What a relay takes up while it runs: whom it trusts, and its own key. See service/watch."""

import logging
import time
from collections.abc import Callable, Iterator

from ..keys.named import Named, Trust
from ..service.life import ROOT, fields
from ..service.watch import Part
from ..wire import certificates
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring
from .server import Relay
from .settings import RelaySettings

log = logging.getLogger(f"{ROOT}.watch")


def trust_part(name: str, files: Trust, keyring: Keyring, then: Callable[[], None]) -> Part:
    """Roots and revocation lists, for everyone who has the keyring; `then`: when they changed."""

    def load() -> bool:
        before = keyring.in_force
        files.renew(keyring)
        if keyring.in_force == before:
            return False
        then()
        return True

    return Part(name, files.paths, load)


def readers_part(name: str, settings: RelaySettings, relay: Relay) -> Part:
    """The certificates of those who may read a broadcast over tcp."""
    return Part(name, settings.broadcast_readers, relay.gate.renew_readers)


class OwnKey:
    """A relay's own key, as it was last read from its file; ConfigError when it cannot be used.

    `certified`: clients ask for its certificate, so that it has to count for the keyring.
    """

    def __init__(self, named: Named, keyring: Keyring, *, certified: bool) -> None:
        self._named = named
        self._keyring = keyring
        self._certified = certified
        self.secret = self._read()

    def _read(self) -> SecretKey:
        secret = self._named.load()
        if self._certified:
            self._named.certificate(secret, self._keyring, time.time())
        return secret

    def part(self, name: str, use: Callable[[SecretKey], bool]) -> Part:
        """What reads it again; `use` takes a key up and says whether it is another one."""

        def load() -> bool:
            self.secret = self._read()
            return use(self.secret)

        return Part(name, (self._named.path,), load)

    def certificates(self) -> Iterator[Certificate]:
        """Its certificate, where clients ask for it."""
        if self._certified:
            yield certificates.decode(self.secret.certificate or b"")

    def warn(self) -> None:
        """Say if whom we trust now does not stand for it any more."""
        if self._certified:
            warn_of(self._named.key, self.secret, "relay", self._keyring)


def warn_of(key: str, secret: SecretKey, role: str, keyring: Keyring) -> None:
    """Say if those whom we trust now do not stand for our own certificate any more."""
    try:
        keyring.peer(secret.certificate or b"", role, time.time())
    except Refused as refused:
        said = fields(key=key, reason=refused.detail)
        log.warning("our own certificate does not count any more", extra=said)
