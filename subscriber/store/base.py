"""The contract of the store: inbox, positions, deliveries, leases and receipts.

Every promise written here has a test in tests/conformance/test_store.py, which runs over each
store. What can be asked
of it is in `reader`, the values are in `values` and `errors`: all are imported from here too.

Deliveries of one rule with the same order key form a *lane*. A lane runs one delivery at a time,
in the order in which they were accepted, and is always in exactly one of these states:

    idle      nothing open in it
    leased    one of its deliveries runs: an owner holds it, under a fence, until a time
    ready     its first open delivery may be claimed
    delayed   its first open delivery waits for its next attempt
    held      its first open delivery came from an event that must not act yet

Where the newest open delivery of a lane is `latest`, only the newest of those that neither run nor
are held stays after each step: the others become SUPERSEDED, with the reason "superseded by ID" of
the one that stays. They ended at the step's `now`, or when that one was created if it has none.

A rule may name a *lock* and a limit, its `Terms`; whoever claims says them. A lock is held exactly
as long as the delivery that took it runs: it has no lease and no fence but that delivery's.

A *fence* is a number that every claim draws anew: max(the last one + 1, microseconds now). It
never goes backwards, not over a restart and not when the clock does; who holds an older one than
the store knows can change nothing any more. An owner may be a worker on another host that extends
its lease by heartbeat: nothing here assumes that it shares a process with the store.

Every method may be called from any thread, is one atomic step, and raises StoreError when the
store itself fails; then nothing was done. `now` is given by the caller, from `Store.now`; one that
was stopped in between gives an old one, which is safe.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence

from hgext_zmqhooks.wire.values import Link

from .errors import Conflict, Fork, OtherScope, StoreError
from .reader import MAX_LIST, MIN_NODE, Reader
from .values import (
    LOST_LIMIT,
    OPEN,
    Accepted,
    Batch,
    Claim,
    Contact,
    Decision,
    Delivery,
    Finish,
    Held,
    Incoming,
    JournalRow,
    NewDelivery,
    Outcome,
    Paused,
    Receipt,
    Standing,
    State,
    Status,
    StoredEvent,
    Terms,
    Wanted,
)

__all__ = [
    "LOST_LIMIT",
    "MAX_CLAIMS",
    "MAX_LIST",
    "MIN_NODE",
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
    "OtherScope",
    "Outcome",
    "Paused",
    "Reader",
    "Receipt",
    "Standing",
    "State",
    "Status",
    "Store",
    "StoreError",
    "StoredEvent",
    "Terms",
    "Wanted",
]

MAX_CLAIMS = 1000
"""The most that one claim gives, whatever it asks for."""


class Store(Reader):
    """What the daemon does. When a method has returned, its effect survives a crash."""

    shared: bool = False
    """Other processes write too: who waits for work asks again though nothing called it."""

    @abstractmethod
    def now(self) -> float:
        """Unix seconds that never jump, the same for all who share the store to a round trip."""

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
        becomes its `origin`. Who reads by what was said before moves no position any more, lest it
        pass over what is wanted now: see `accept` and `lease_journals`.
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
        - A record at or before `JournalRow.pruned` is a duplicate, whatever its digest, and a
          delivery that ends there is not made: what was forgotten must not act again.
        - Where the batch has a `scope`, it must be what `follow` was told last, else OtherScope.
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
        - Fork, Conflict, OtherScope and StoreError leave everything as it was.
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
        terms: Mapping[str, Terms] | None = None,
    ) -> list[Claim]:
        """Lease the first open delivery of up to `limit` ready lanes (and MAX_CLAIMS).

        - One delivery per lane, always its oldest open one.
        - `terms`: only lanes of these rules, under these terms; the others stay as they are. None:
          lanes of every rule, without terms.
        - Rules take turns: each claim goes to the rule whose newest claim is longest ago, of equal
          ones to the first by name; within the rule to the lane that is ready longest. So neither a
          lane nor a rule with much to do keeps others waiting, and what waits costs nothing.
        - A rule is passed over while it is paused, while a delivery of whatever rule runs under its
          lock, and while `Terms.limit` of its deliveries run.
        - First of all every lease that ended by `now` is ended, of whatever rule: its attempt was
          lost, which leaves a receipt "lost" and is not counted; the delivery is pending again, but
          after LOST_LIMIT such attempts it is dead, and the next one runs.
        - A delayed lane is ready once `now` has reached its time.
        - Each claim has a fence of its own, higher than any before it, in whatever lane.
        - The delivery is running until `finish`, or until a claim ends its lease.
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
    def next_due(self, *, terms: Mapping[str, Terms] | None = None) -> float | None:
        """When `claim` with these terms may give something: 0.0 at once, else when a time comes.

        That is the end of a delay, of rules that would not be passed over now, or of a lease: of
        these rules, or of who holds one of their locks. None: not before something else happens.
        """

    @abstractmethod
    def release_leases(self, now: float, owner: str | None = None) -> int:
        """End the leases of an owner that is known to be gone; None: of all. Returns how many.

        Their attempts were lost, as `claim` describes it for a lease that ended.
        """

    # What operators do

    @abstractmethod
    def redeliver(self, ids: Sequence[str], now: float) -> list[str]:
        """Have deliveries run again, in the lane and at the place that they had; which these were.

        A final one is pending again, or held where an event of it is: `attempts` and `lost` begin
        anew, `renewed` is its fence, its receipts stay. One that is retrying is due at once. All
        others stay as they are.
        """

    @abstractmethod
    def bury(self, ids: Sequence[str], reason: str, now: float) -> list[str]:
        """Give up open deliveries that do not run: they are dead. Returns which these were."""

    @abstractmethod
    def pause(self, paused: Paused) -> bool:
        """Claim nothing of a rule until `resume`; what runs goes on.

        False: it was paused before, and what was kept of that stays.
        """

    @abstractmethod
    def resume(self, rule: str) -> bool:
        """Take a pause back; False: there was none."""

    # Upkeep

    @abstractmethod
    def prune(self, before: float, limit: int) -> int:
        """Forget what is done, in steps of at most `limit` rows; how many these were, 0 at the end.

        - Final deliveries that ended before `before`, with their receipts.
        - From the beginning of each journal, events received before `before` that neither a
          delivery nor a hold refers to. `JournalRow.pruned` is the last one's sequence.
        - Certificates that no stored event names any more.
        - Positions, chain heads, decisions and stops stay.
        """

    @abstractmethod
    def lease_journals(
        self,
        instance: str,
        journals: Collection[str],
        lease: float,
        now: float,
        scope: str | None = None,
    ) -> frozenset[str]:
        """Take those that nobody else has until after `now`, until `now + lease`; all it has then.

        With a `scope` that is not what `follow` was told last it gives up all, and gets none.

        So that of several instances one follows a journal. Safety never depends on it: `accept`
        compares the position before it moves it.
        """

    @abstractmethod
    def yield_journals(self, instance: str) -> None:
        """Give up all leases of journals that an instance has."""
