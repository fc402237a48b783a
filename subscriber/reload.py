"""What a running daemon takes up when it is written anew: whom it trusts, its key, a relay's.

And the configuration itself: see there. See service/watch for when, and intake/current for how a
key changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hgext_zmqhooks.keys import files
from hgext_zmqhooks.relay.reload import trust_part, warn_of
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.service.watch import Part
from hgext_zmqhooks.wire.keyring import Keyring
from subscriber.configuration import Configuration, warn_of_deaf
from subscriber.credentials import load_credentials, trust
from subscriber.intake.current import Current
from subscriber.settings import Settings


class Reload:
    """The subscriber's side of it; `keyring` is the one in `current`'s tools."""

    def __init__(self, configuration: Configuration, keyring: Keyring, current: Current) -> None:
        self._configuration = configuration
        self._keyring = keyring
        self._current = current

    @property
    def _settings(self) -> Settings:
        return self._configuration.in_force

    def parts(self) -> Iterator[Part]:
        """Whom we trust before our key, which may need a new root."""
        yield trust_part("trust", trust(self._settings), self._keyring, self._trusted)
        yield Part("key", (self._settings.key,), self._key)
        for at, peer in enumerate(self._settings.relays):
            if peer.certificate is not None:
                load = _changes(peer.certificate, self._current.ring)
                yield Part(f"relays[{at}].certificate", (peer.certificate,), load)
        yield self._configuration.part()

    def _trusted(self) -> None:
        warn_of("key", self._current.identity.secret, "subscriber", self._keyring)
        self._current.ring()

    def _key(self) -> bool:
        """Our key, and with it what we may read."""
        settings, current = self._settings, self._current
        fresh = load_credentials(settings, self._keyring)
        if fresh.secret == current.identity.secret:
            return False
        if fresh.name != current.identity.name:
            reason = f"it is that of {fresh.name!r}, and this daemon is {current.identity.name!r}"
            hint = "start the daemon again to have it be another subscriber"
            raise ConfigError(settings.file, "key", str(settings.key), reason, hint)
        tools = replace(current.tools, allowed=fresh.allowed)
        identity = replace(current.identity, secret=fresh.secret)
        current.change(identity, tools, lambda: tools.store.follow(tools.scope))
        warn_of_deaf(settings, fresh.allowed)
        return True


def _changes(path: Path, then: Callable[[], None]) -> Callable[[], bool]:
    """Of a certificate that a relay is known by; it is read anew at each attempt anyway."""
    known: list[bytes] = []

    def load() -> bool:
        token = files.load_certificate(path).token
        before, known[:] = list(known), [token]
        if before in ([], [token]):
            return False
        then()
        return True

    return load
