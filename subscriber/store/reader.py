"""What can be asked of a store; `base` is the whole contract."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from hgext_zmqhooks.wire.values import Link

from .values import (
    Contact,
    Decision,
    Delivery,
    Held,
    JournalRow,
    Paused,
    Receipt,
    Status,
    StoredEvent,
    Wanted,
)

MAX_LIST = 1000
"""The most that one listing gives; go on with `after`."""

MIN_NODE = 4
"""The least number of hex digits by which `trace` looks for a node."""


class Reader(ABC):
    """What can be asked, also while another process writes. No method changes anything."""

    @abstractmethod
    def identity(self) -> str:
        """The store's id: 32 hex digits, made once, the same after every reopening."""

    @abstractmethod
    def journals(self) -> list[JournalRow]:
        """All journals known, in the order in which they became known."""

    @abstractmethod
    def first_contact(self, relay: str) -> bool:
        """True until `learn` was called for this relay."""

    @abstractmethod
    def contacts(self) -> list[Contact]:
        """Every relay that was ever heard or tried, by name."""

    @abstractmethod
    def held(self) -> list[Held]:
        """What is held, by branch, in the order in which the first of it came."""

    @abstractmethod
    def decisions(self, journal: str) -> list[Decision]:
        """What operators decided about a journal, in order."""

    @abstractmethod
    def chain(self, journal: str) -> dict[str, Link]:
        """The newest stored event of each branch of the journal, though it was pruned."""

    @abstractmethod
    def record_digest(self, journal: str, sequence: int) -> str | None:
        """SHA-256 of the event stored at this place, None if there is none."""

    @abstractmethod
    def parts(self, journal: str, branch: str, first: int, last: int) -> list[bytes]:
        """Exact bytes of this branch's stored events from `first` to `last`, by sequence."""

    @abstractmethod
    def certificate(self, sha256: str) -> bytes | None:
        """The token of a certificate that a stored event names."""

    @abstractmethod
    def event(self, journal: str, sequence: int) -> StoredEvent | None:
        """The event stored at this place."""

    @abstractmethod
    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Stored events with a number above `after`, by number, at most `limit` and MAX_LIST."""

    @abstractmethod
    def trace(self, node: str, limit: int) -> list[StoredEvent]:
        """Stored events that tell of a changeset, by number, at most `limit` and MAX_LIST.

        `node`: 40 lower-case hex digits, or at least MIN_NODE of its beginning, else ValueError.
        """

    @abstractmethod
    def newest_event(self) -> int:
        """Number of the event accepted last, though it was pruned: where following begins."""

    @abstractmethod
    def delivery(self, delivery_id: str) -> Delivery | None:
        """The delivery of this id."""

    @abstractmethod
    def deliveries(self, wanted: Wanted, limit: int, *, newest: bool = False) -> list[Delivery]:
        """What fits `wanted`, by number, at most `limit` and MAX_LIST.

        `newest`: the last ones instead of the first ones, still by number.
        """

    @abstractmethod
    def receipts(self, delivery_id: str) -> list[Receipt]:
        """Every attempt that ended, by fence."""

    @abstractmethod
    def paused(self) -> list[Paused]:
        """The rules that are paused, by name."""

    @abstractmethod
    def status(self) -> Status:
        """Totals. Every state has its entry, 0 too."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
