"""Who may open a session, and what it may ask for.

HELLO: a valid certificate with the role subscriber, whose CURVE key is the peer's own, whose name
the peer uses, with the store that this name has always had; and not too many of the same name.

FOLLOW: so many patterns, and with `excess: refuse` none that goes beyond what the certificate lets
its holder read. Without it a session that asks for more gets the part that it may read.

A limit that bites has the name of its setting as kind.
"""

import logging
from collections.abc import Iterable, Sequence

from ..service.life import ROOT, fields
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from ..wire.session import Follow, Hello
from ..wire.topics import Pattern
from .limits import Limits
from .peers import Origin
from .settings import Excess
from .state import State


class Admission:
    """The checks, and the memory of which store a name has. Each raises Refused."""

    def __init__(self, keyring: Keyring, state: State, limits: Limits, excess: Excess) -> None:
        self._keyring = keyring
        self._state = state
        self._limits = limits
        self._excess = excess
        self._log = logging.getLogger(f"{ROOT}.relay")

    def check(self, origin: Origin, hello: Hello, now: float) -> Certificate:
        """The certificate of who says HELLO. `now`: unix seconds."""
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

    def check_frames(self, frames: Sequence[bytes]) -> None:
        """Before anything else is looked at."""
        self._limits.check([len(frame) for frame in frames])

    def check_sessions(self, hello: Hello, others: Iterable[Hello]) -> None:
        """`others`: who has a session; one that this HELLO replaces is not counted."""
        same = [one for one in others if one.name == hello.name]
        count = sum((one.store, one.instance) != (hello.store, hello.instance) for one in same)
        most = self._limits.sessions
        if count >= most:
            detail = f"{hello.name!r} has {count} sessions; `limits.sessions` is {most}"
            raise Refused("sessions", detail)

    def check_follow(self, certificate: Certificate, follow: Follow) -> None:
        """Look at the patterns that a session asks for."""
        count, most = len(follow.patterns), self._limits.patterns
        if count > most:
            raise Refused("patterns", f"{count} patterns; `limits.patterns` is {most}")
        if self._excess == "refuse":
            for text in follow.patterns:
                wanted = Pattern.parse(text)
                if not any(wanted.within(allowed) for allowed in certificate.read):
                    raise Refused(
                        "not-allowed", f"{certificate.sub!r} may not read all of {text!r}"
                    )

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
