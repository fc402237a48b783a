"""The contract of the store: inbox, positions, deliveries, leases and receipts.

Every promise written here has a test in tests/conformance/test_store.py, which runs over each
store. The values are in `values`, and are imported from here too.

Deliveries of one rule with the same order key form a *lane*. A lane runs one delivery at a time,
in the order in which they were accepted, and is always in exactly one of these states:

    idle      nothing open in it
    ready     its first open delivery may be claimed
    leased    its first open delivery runs: an owner holds it, under a fence, until a time
    delayed   its first open delivery waits for its next attempt
    held      its first open delivery came from an event that must not act yet

A *fence* is a number that every claim draws anew: max(the last one + 1, microseconds now). It
never goes backwards, not over a restart and not when the clock does; who holds an older one than
the store knows can change nothing any more. An owner may be a worker on another host that extends
its lease by heartbeat: nothing here assumes that it shares a process with the store.

Every method may be called from any thread, is one atomic step, and raises StoreError when the
store itself fails; then nothing was done. `now` is given by the caller, who should take care that
it does not jump while leases are running.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self

from hgext_zmqhooks.wire.values import Link

from .values import (
    LOST_LIMIT,
    OPEN,
    Accepted,
    Batch,
    Claim,
    Conflict,
    Contact,
    Decision,
    Delivery,
    Finish,
    Fork,
    Held,
    Incoming,
    JournalRow,
    NewDelivery,
    Outcome,
    Receipt,
    Standing,
    State,
    Status,
    StoredEvent,
    StoreError,
    Wanted,
)

__all__ = [
    "LOST_LIMIT",
    "MAX_CLAIMS",
    "MAX_LIST",
    "OPEN",
    "Accepted",
    "Batch",
    "Claim",
    "Conflict",
    "Contact",
    "Decision",
    "Delivery",
    "Finish",
    "Fork",
    "Held",
    "Incoming",
    "JournalRow",
    "Link",
    "NewDelivery",
    "Outcome",
    "Reader",
    "Receipt",
    "Standing",
    "State",
    "Status",
    "Store",
    "StoreError",
    "StoredEvent",
    "Wanted",
]

MAX_CLAIMS = 1000
"""The most that one claim gives, whatever it asks for."""

MAX_LIST = 1000
"""The most that one listing gives; go on with `after`."""


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
        """The newest stored event of each branch of the journal."""

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
    def newest_event(self) -> int:
        """Number of the event accepted last, 0 if there is none: where following begins."""

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


class Store(Reader):
    """What the daemon does. When a method has returned, its effect survives a crash."""

    # Intake

    @abstractmethod
    def learn(self, relay: str, journals: Iterable[Standing], now: float) -> bool:
        """Keep what a relay's first WELCOME listed, in one step; False, and nothing, later on.

        A journal that is known already keeps its position.
        """

    @abstractmethod
    def follow(self, scope: str) -> bool:
        """Keep what is read from now on; True where something else was read before.

        Then, and the first time, every journal begins anew at its position, if it has one: that
        becomes its `origin`.
        """

    @abstractmethod
    def note_heads(self, relay: str, heads: Iterable[Standing], now: float) -> None:
        """Keep the newest sequences that a relay names, and which relay it was.

        A journal not known before becomes known at the position given (usually none: from its
        first record). A known one keeps its position and its stop.
        """

    @abstractmethod
    def stop_journal(self, journal: str, reason: str | None) -> None:
        """Keep why nothing more of a known journal is taken; None: it goes on.

        An unknown journal is a StoreError. `accept` takes a stop back when the position moves, or
        when a record is new that had been left out.
        """

    @abstractmethod
    def heard(self, relay: str, now: float) -> None:
        """A relay gave a sign of life."""

    @abstractmethod
    def failed(self, relay: str, error: str, now: float) -> None:
        """A session with a relay could not be had, or ended."""

    @abstractmethod
    def decide(self, decision: Decision) -> int:
        """Keep a decision and do it, in one step; returns how many events it released.

        An unknown journal is a StoreError. `admit` and `vouch` take the journal's stop back.
        """

    @abstractmethod
    def accept(self, batch: Batch) -> Accepted:
        """Store events, position, chain heads, certificates and deliveries in one step.

        - A record whose place is taken: by the same digest, it is a duplicate and is not stored
          again; by another, Fork.
        - The journal's position must be `expected` (None also where the journal is not known),
          else Conflict. A batch that was accepted before may come again: all its records are
          duplicates, its `scanned` is the position, and nothing changes.
        - A record may stand before the position: it had been left out. What is stored already
          keeps its number; it gets the next one.
        - A delivery whose id is known is not made again, whatever its state.
        - A delivery over a held event becomes held, and blocks its lane.
        - `release` is done before the deliveries of the batch are made, and again what `release`
          promises.
        - A record that names a certificate neither in the batch nor stored: StoreError.
        - Fork, Conflict and StoreError leave everything as it was.
        """

    @abstractmethod
    def release(self, journal: str, branch: str, up_to: int) -> int:
        """Free what is held of a branch up to a sequence; returns how many events.

        Where the branch continues another journal (Batch.continues), what is held there up to the
        event that it continues is freed too, and so on backwards: the chain goes over all of it.

        Held deliveries none of whose events is held any more become pending, at their old place
        in their lane.
        """

    # Engine

    @abstractmethod
    def claim(
        self,
        owner: str,
        lease: float,
        limit: int,
        now: float,
        *,
        rules: Collection[str] | None = None,
    ) -> list[Claim]:
        """Lease the first open delivery of up to `limit` ready lanes (and MAX_CLAIMS).

        - One delivery per lane, always its oldest open one; lanes take turns, so that a lane with
          much to do does not keep others waiting.
        - A delayed lane is ready once `now` has reached its time. A leased lane whose lease ended
          by `now` is ready too: its attempt was lost, which leaves a receipt "lost" and is not
          counted, but after LOST_LIMIT such attempts the delivery is dead, and the next one runs.
        - Each claim has a fence of its own, higher than any before it, in whatever lane.
        - `rules`: only lanes of these rules; the others wait untouched.
        - The delivery is running until `finish`, or until `now + lease`.
        """

    @abstractmethod
    def extend(self, delivery_id: str, fence: int, lease: float, now: float) -> bool:
        """Let a lease last until `now + lease`; False: the fence is old, and nothing changed."""

    @abstractmethod
    def finish(self, delivery_id: str, fence: int, finish: Finish, now: float) -> bool:
        """End an attempt: state, receipt and the lane's next step, at once.

        - False: the fence is not the one that holds the delivery, and nothing changed.
        - The same finish again (its answer was lost) is True again, and changes nothing.
        - DONE, DEAD: final; the lane goes on with its next delivery. RETRYING: the lane waits until
          `retry_at`. PENDING: the lane is ready again.
        - A counted attempt moves `attempts` on; the others leave it.
        """

    @abstractmethod
    def next_due(self, *, rules: Collection[str] | None = None) -> float | None:
        """When `claim` may give something: 0.0 at once, else when a delay or a lease ends.

        None: not before something else happens.
        """

    @abstractmethod
    def release_leases(self, now: float, owner: str | None = None) -> int:
        """End the leases of an owner that is known to be gone; None: of all. Returns how many.

        Their attempts were lost, as `claim` describes it for a lease that ended.
        """
