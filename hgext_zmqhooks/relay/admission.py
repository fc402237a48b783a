"""Who may open a session: the checks of a HELLO.

A valid certificate with the role subscriber, whose CURVE key is the peer's own, whose name the peer
uses, with the store that this name has always had.
"""

import logging

from ..service.life import ROOT, fields
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from ..wire.session import Hello
from .peers import Origin
from .state import State


class Admission:
    """The checks, and the memory of which store a name has."""

    def __init__(self, keyring: Keyring, state: State) -> None:
        self._keyring = keyring
        self._state = state
        self._log = logging.getLogger(f"{ROOT}.relay")

    def check(self, origin: Origin, hello: Hello, now: float) -> Certificate:
        """The certificate of who says HELLO; Refused if there is to be no session. `now`: unix."""
        certificate = self._keyring.peer(hello.certificate, "subscriber", now)
        if not origin.private and certificate.curve != origin.key:
            raise Refused("wrong-key", f"the CURVE key is not that of {certificate.sub!r}")
        if hello.name != certificate.sub:
            raise Refused(
                "wrong-name",
                f"the name {hello.name!r} is not that of its certificate, {certificate.sub!r}",
            )
        self._bind_store(origin, hello, now)
        return certificate

    def ended(self, hello: Hello, now: float) -> Refused | None:
        """Why who said this HELLO may stay no longer: expired, revoked, or its root is gone."""
        try:
            self._keyring.peer(hello.certificate, "subscriber", now)
        except Refused as refused:
            return refused
        return None

    def _bind_store(self, origin: Origin, hello: Hello, now: float) -> None:
        """One name, one store: two would each get half of what they believe to have."""
        known = self._state.store_of(hello.name)
        if known not in {None, hello.store}:
            if not origin.private:
                raise Refused(
                    "other-store",
                    f"{hello.name!r} belongs to store {known}, not to {hello.store}:"
                    " give the second subscriber a key of its own name",
                )
            # The subscriber around us, with a new store: its operator decided so.
            self._log.warning("subscriber has a new store", extra=fields(subscriber=hello.name))
        self._state.bind(hello.name, hello.store, now)
