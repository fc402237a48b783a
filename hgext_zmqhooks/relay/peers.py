"""One connection of a relay's session sockets, and what is under way on it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ..wire.certificates import Certificate
from ..wire.session import Events, Hello, JournalInfo, Role, Session
from .reading import Cursor, may_read
from .shelf import Repository


class Address(NamedTuple):
    """A connection: which of our sockets, and the routing id there."""

    listener: int
    route: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a message: `key` is the CURVE key; `private`: a socket inside this process."""

    key: str | None
    private: bool = False


class Sent(Enum):
    """What became of frames that were given to a socket."""

    YES = "yes"
    LATER = "later"
    """The peer takes no more at present."""
    GONE = "gone"


Post = Callable[[Address, list[bytes]], Sent]


class Peer:
    """One session and what is under way in it."""

    def __init__(self, address: Address, origin: Origin, tick: float) -> None:
        self.address = address
        self.origin = origin
        self.session = Session(Role.RELAY)
        self.heard = self.beaten = tick
        self.hello = Hello(b"", "", "", "")
        self.certificate: Certificate | None = None
        self.cursor: Cursor | None = None
        self.queue: dict[Repository, None] = {}
        """Where there may be something to send, in the order of their turns."""
        self.told: dict[str, JournalInfo] = {}
        self.waiting: Events | None = None
        """A batch for which there is no credit yet."""
        self.unsent: deque[list[bytes]] = deque()
        """What the socket did not take yet."""

    @property
    def name(self) -> str:
        """The subscriber's name, as its certificate says."""
        return self.certificate.sub if self.certificate else ""

    @property
    def busy(self) -> bool:
        """Whether there is something to send and nothing to wait for."""
        return bool(self.queue) and self.waiting is None and not self.unsent

    def may_read(self, repo: str) -> bool:
        """Whether its certificate lets it read some branch of this repository."""
        return self.certificate is not None and may_read(self.certificate.read, repo)

    def enqueue(self, repository: Repository) -> None:
        """There may be something new in this repository."""
        if self.cursor is not None:
            self.queue.setdefault(repository)
