"""What peers sent and nobody has looked at yet, each peer's share of it bounded.

The sockets are emptied at every turn, before anything is read: a socket whose buffer is full makes
libzmq stop listening to the peer, and when that peer then hangs up, libzmq 4.3.5 ends our process
(`Assertion failed: !_io_error`). So the bounds are here, and peers take turns here. The buffers of
the sockets are large, for the time of one turn.
"""

from collections import deque
from dataclasses import dataclass, field

import zmq

from .peers import Address

PEER_BYTES = 4 << 20
"""Of one session; two of the largest messages, or ACKs for many times its credit."""
STRANGER_BYTES = 65_536
"""Of a connection that has not introduced itself: one HELLO."""
STRANGERS_BYTES = 8 << 20
"""Of all those together."""
SOCKET_HWM = 100_000
"""Messages that may wait in a socket."""
OVERHEAD = 256
"""Bytes that a message takes besides its content."""


@dataclass(slots=True)
class _Pile:
    known: bool
    size: int = 0
    messages: deque[list[zmq.Frame]] = field(default_factory=deque)


class Intray:
    """Messages by connection, in order; connections take turns.

    `each`: bytes of a connection that is not known; `together`: of all those.
    """

    def __init__(self, each: int = STRANGER_BYTES, together: int = STRANGERS_BYTES) -> None:
        self._each = each
        self._together = together
        self._piles: dict[Address, _Pile] = {}
        self._strangers = 0

    def __bool__(self) -> bool:
        return bool(self._piles)

    def put(self, address: Address, frames: list[zmq.Frame], *, known: bool) -> bool:
        """Keep a message; False: it is too much, and was dropped.

        `known`: the connection has a session.
        """
        size = OVERHEAD + sum(map(len, frames))
        pile = self._piles.get(address) or _Pile(known)
        if pile.size + size > (PEER_BYTES if pile.known else self._each):
            return False
        if not pile.known:
            if self._strangers + size > self._together:
                return False
            self._strangers += size
        pile.size += size
        pile.messages.append(frames)
        self._piles[address] = pile
        return True

    def take(self) -> tuple[Address, list[zmq.Frame]] | None:
        """The oldest message of the connection whose turn it is; None when there is none."""
        if not self._piles:
            return None
        address = next(iter(self._piles))
        pile = self._piles.pop(address)
        frames = pile.messages.popleft()
        size = OVERHEAD + sum(map(len, frames))
        pile.size -= size
        if not pile.known:
            self._strangers -= size
        if pile.messages:
            self._piles[address] = pile
        return address, frames

    def drop(self, address: Address) -> None:
        """Forget what a connection sent."""
        pile = self._piles.pop(address, None)
        if pile is not None and not pile.known:
            self._strangers -= pile.size

    def drop_all(self, listener: int) -> None:
        """Forget what all connections of one of our sockets sent."""
        for address in [one for one in self._piles if one.listener == listener]:
            self.drop(address)
