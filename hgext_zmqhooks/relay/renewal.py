"""A new key of the relay's own, taken up while it serves.

    any thread   offer(key)          wakes the loop
    the loop     take() → BYE to the sessions → leave(): unbind → come_back(): certificate, bind

libzmq copies a socket's keys when it binds, and an unbind cuts off all who came in that way
(measured with libzmq 4.3.5). So the sessions are told BYE, in order, and come again at once, from
where they stand. A tcp address is free only some milliseconds after the unbind, and somebody else
may take it first: binding is tried until it works.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from ..service.endpoints import Endpoint
from ..service.errors import ServiceError
from ..service.ipc import publish_certificate
from ..service.life import Bell, Throttle
from ..wire.keyfiles import SecretKey

GOODBYE_MS = 500
"""How long what was said last may take to go out."""
RETRY_SECONDS = 0.02
PATIENCE = 1.0
"""Seconds for an address to become free before anybody is told."""

Bind = Callable[["zmq.Socket[bytes]", Endpoint], None]


@dataclass(slots=True)
class _Served:
    """A bound socket. `name`: how libzmq calls the address, None while it is not bound."""

    socket: "zmq.Socket[bytes]"
    endpoint: Endpoint
    announce: bool
    name: str | None = None


class Renewal:
    """The sockets that are bound with the relay's key, which is `secret` at first.

    `bind` binds one of them. All but `offer` is for the thread that has the sockets; `bell` wakes
    it.
    """

    def __init__(
        self,
        secret: SecretKey,
        bind: Bind,
        throttle: Throttle,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.bell = Bell()
        self._bind = bind
        self._throttle = throttle
        self._newest = self._current = secret
        self._served: list[_Served] = []
        self._left = 0.0

    def serve(
        self, socket: "zmq.Socket[bytes]", endpoint: Endpoint, *, announce: bool = False
    ) -> None:
        """Bind a socket; `announce`: with the relay's certificate beside it, where it is ipc.

        One without CURVE is left alone by a new key. Raises ServiceError.
        """
        served = _Served(socket, endpoint, announce)
        self._try(served)
        if socket.getsockopt(zmq.CURVE_SERVER):
            self._served.append(served)

    def offer(self, secret: SecretKey) -> bool:
        """Serve with this key from now on; False if it is the one in use. For any thread."""
        if secret == self._newest:
            return False
        self._newest = secret
        self.bell.ring()
        return True

    def take(self) -> SecretKey | None:
        """The key that was offered since, if one was."""
        self.bell.hush()
        newest = self._newest
        if newest == self._current:
            return None
        self._current = newest
        return newest

    @property
    def waits(self) -> bool:
        """Whether an address is still to be bound again."""
        return any(one.name is None for one in self._served)

    def leave(self) -> None:
        """Cut off all who are connected; what was said to them still goes out."""
        self._left = self._clock()
        for one in self._served:
            one.socket.setsockopt(zmq.CURVE_SECRETKEY, self._current.curve_secret.encode())
            if one.name is not None:
                one.socket.setsockopt(zmq.LINGER, GOODBYE_MS)
                one.socket.unbind(one.name)
                one.socket.setsockopt(zmq.LINGER, 0)
                one.name = None

    def come_back(self) -> None:
        """Bind what is not bound; to be called again while something `waits`."""
        for one in self._served:
            try:
                if one.name is None:
                    self._try(one)
            except ServiceError as error:
                if self._clock() - self._left > PATIENCE:
                    text = "not served any more; trying again"
                    self._throttle.warning("not-bound", text, reason=error)

    def _try(self, one: _Served) -> None:
        if one.announce and one.endpoint.transport == "ipc":
            publish_certificate(one.endpoint, self._current.certificate or b"")
        self._bind(one.socket, one.endpoint)
        one.name = one.socket.getsockopt_string(zmq.LAST_ENDPOINT)
