"""Who may connect to a relay: the policy of its ZAP handler, asked at the end of each handshake.

    allow        over tcp, only addresses of these networks           else  300 "address"
    handshakes   over tcp, so many in a second from one address       else  300 "handshakes"
    broadcast    a reader's certificate that is valid now             else  300 its kind
                                                                      or    400 "revoked"

A peer that gets 300 comes again by itself; one that gets 400 does not, until it makes a new socket.
What a session or a live copy may say is checked later, against the key that was proved here.

ipc sockets belong to a group, so that nothing of this is asked there.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import zmq

from ..service.addresses import Address, parse_address, site
from ..service.life import ROOT, Throttle, fields
from ..service.metrics import Counters
from ..service.zap import BROADCAST, Answer, Zap
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from .readers import Readers, load_readers
from .settings import RelaySettings

REMEMBERED = 4096
"""Addresses of which handshakes are counted; who was silent longest is forgotten first."""


log = logging.getLogger(f"{ROOT}.relay")


class Buckets:
    """Token buckets by address: each holds `rate` tokens and gets `rate` of them a second.

    `clock`: monotonic.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left: OrderedDict[Address, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def take(self, address: Address) -> bool:
        """Whether there was a token; it is gone then."""
        now = self._clock()
        left, since = self._left.pop(address, (float(self._rate), now))
        left = min(float(self._rate), left + (now - since) * self._rate)
        granted = left >= 1
        self._left[address] = (left - granted, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return granted


class Gate:
    """The policy, as a function of (ZAP domain, CURVE key, address).

    `now`: unix seconds; `clock`: monotonic.
    """

    def __init__(
        self,
        settings: RelaySettings,
        keyring: Keyring,
        counters: Counters,
        throttle: Throttle,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._buckets = Buckets(settings.limits.handshakes, clock)
        self._keyring = keyring
        self._readers = Readers({}, keyring)
        self._reading: frozenset[str] = frozenset()
        self._counters = counters
        self._throttle = throttle
        self._now = now

    def open(self, context: "zmq.Context[zmq.Socket[bytes]]") -> Zap | None:
        """Start the handler, if there is an endpoint that needs one. Raises ConfigError."""
        given = self._settings
        self.renew_readers()
        self._reading = self._readers.valid(self._now())
        if not given.subscribe and all(one.transport == "ipc" for one in given.endpoints()):
            return None
        if given.is_open:
            said = fields(broadcast=given.broadcast, key="insecure")
            log.warning("anyone who can connect may read every event", extra=said)
        zap = Zap(context, self, plain={BROADCAST} if given.is_open else ())
        zap.start()
        return zap

    def __call__(self, domain: str, key: str, address: str) -> Answer:
        """What the handler answers."""
        try:
            peer = parse_address(address)
            if peer is not None:
                self._check_address(peer)
            if domain == BROADCAST and not self._settings.is_open:
                self._readers.check(key, self._now())
        except Refused as refused:
            self._counters.add("refused", refused.kind)
            self._throttle.warning(
                f"connection-{refused.kind}",
                "connection refused",
                endpoint=domain.removeprefix("zmqhooks-"),
                address=address,
                key=key or None,
                reason=refused.detail[:300],
            )
            return Answer.NEVER if refused.kind == "revoked" else Answer.LATER
        return Answer.ADMIT

    def renew_readers(self) -> bool:
        """Read the readers' certificates again; whether they are others. ConfigError.

        For any thread; `readers_ended` then tells of those who are gone.
        """
        fresh = load_readers(self._settings.broadcast_readers, self._keyring)
        if fresh.tokens == self._readers.tokens:
            return False
        self._readers = fresh
        return True

    def readers_ended(self) -> bool:
        """Whether somebody who might read the broadcast at the last call may no longer."""
        before, self._reading = self._reading, self._readers.valid(self._now())
        return not before <= self._reading

    def cut_off(self, address: str, received: int) -> None:
        """A connection was cut off, after so many bytes of a message whose end did not come."""
        self._counters.add("refused", "unfinished")
        self._throttle.warning(
            "connection-unfinished",
            "connection cut off",
            address=address,
            reason=f"{received} bytes of an unfinished message; more than `limits.unfinished`",
        )

    def _check_address(self, peer: Address) -> None:
        allow = self._settings.allow
        if allow and not any(network.holds(peer) for network in allow):
            raise Refused("address", f"{peer} is not in the networks of `allow`")
        if not self._buckets.take(site(peer)):
            raise Refused("handshakes", f"more from {peer} in a second than `limits.handshakes`")
