"""What the store takes and gives: plain frozen values, no store behind them.

Times are unix seconds. Sequences count from 1 in each journal; a position is the sequence up to
which a journal was looked at, so 0 stands before the first event. SHA-256 digests are lower-case
hex. `Link` (a sequence and the digest of the event there) is the wire's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hgext_zmqhooks.wire.values import Continued, Link


class State(StrEnum):
    """Where a delivery stands. The first four are open, the others final."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held"
    DONE = "done"
    DEAD = "dead"
    SUPERSEDED = "superseded"


OPEN = frozenset({State.PENDING, State.RUNNING, State.RETRYING, State.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One verified event on its way into the store.

    `event` are its exact bytes and `sha256` their digest; `certificate` is the SHA-256 of the token
    that signed it. `held`: stored, but nothing may be done with it yet (its certificate had
    expired when it came). `nodes`: the changesets that it tells of, 40 hex digits each.
    """

    journal: str
    sequence: int
    sha256: str
    repo: str
    branch: str
    topic: str
    event_id: str
    type: str
    transaction: str
    part: int
    parts: int
    event: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    certificate: str
    received: float
    held: bool = False
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """One thing to do, as the rules made it.

    `id` is a function of rule, event and node, so that a repeated accept makes the same ones.
    `rule` and `order_key` name the lane. `first` to `last` are the sequences of the
    event's parts in `journal`; `event_id` is the last part's. `node`: the changeset or head it is
    about, else the branch's new tip; `user`: who pushed. `latest`: it takes the place of what waits
    before it in its lane.
    """

    id: str
    rule: str
    order_key: str
    repo: str
    branch: str
    topic: str
    journal: str
    event_id: str
    first: int
    last: int
    node: str | None
    user: str | None
    created: float
    latest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one EVENTS message of one journal adds, in one step.

    `expected`: the position that the sender of the batch started from (None: the journal had
    none); `scanned`: the position after it. `records` are in order of sequence; one at or before
    `expected` had been left out and came late. `deliveries` are in the order in which they shall
    run. `certificates` holds the tokens that the records name, by SHA-256. `heads` are the chain
    heads of the branches that the records touched; `continues` says, by branch, which event of
    another journal the branch's first one here stands behind. `release` frees what is held of a
    branch up to a sequence. `origin`: behind which sequence reading began, where that is news.
    `scope`: what `Store.follow` was told by who reads; None: not looked at.
    """

    relay: str
    journal: str
    repo: str
    scanned: int
    expected: int | None
    records: tuple[Incoming, ...] = ()
    deliveries: tuple[NewDelivery, ...] = ()
    certificates: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    heads: Mapping[str, Link] = field(default_factory=dict)
    continues: Mapping[str, Continued] = field(default_factory=dict)
    release: tuple[tuple[str, int], ...] = ()
    origin: int | None = None
    scope: str | None = None

    def __post_init__(self) -> None:
        sequences = [record.sequence for record in self.records]
        if self.scanned < (self.expected or 0):
            raise ValueError(f"batch goes back from {self.expected} to {self.scanned}")
        if any(record.journal != self.journal for record in self.records):
            raise ValueError("batch holds records of another journal")
        if sequences != sorted(set(sequences)):
            raise ValueError("batch is not in order of sequence")
        if sequences and not 0 < sequences[0] <= sequences[-1] <= self.scanned:
            raise ValueError("batch holds records outside of what it scanned")


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many records of a batch were new, and how many were there already."""

    new: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where reading of a journal is to begin, for `Store.learn`.

    `scanned` None with `since`: from the first event not older than this time. `scanned` None
    without: from its first record. `head`: its newest sequence, as the relay says.
    """

    journal: str
    repo: str
    head: int
    scanned: int | None
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A journal as the store knows it.

    `stopped`: why nothing more of it is taken, None if all is well. `first_seen`: when the store
    heard of it. `origin`: behind which sequence reading began with the present patterns, None until
    something was read. `pruned`: up to which sequence its events were forgotten, 0 if none were.
    """

    journal: str
    repo: str
    relay: str
    scanned: int | None
    since: float | None
    head: int
    first_seen: float
    stopped: str | None
    origin: int | None = None
    pruned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event of the inbox. `number` grows in the order of acceptance."""

    number: int
    record: Incoming


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as it stands now.

    `number` grows in the order of acceptance. `attempts`: how many count against the retry limit;
    `lost`: how many ended with the process that ran them, which do not. `fence` is that of the
    newest attempt, 0 before the first; `reason` what the newest one said. While running: `owner`,
    `claimed` (since when), `lease_until`, and `lock`, the named lock that it holds. While retrying:
    `due`, when the next attempt may start. `ended`: when it became final. `renewed`: the fence of
    its newest attempt when it was last redelivered; only receipts above it count for retry limits.
    """

    number: int
    id: str
    rule: str
    order_key: str
    repo: str
    branch: str
    topic: str
    journal: str
    event_id: str
    first: int
    last: int
    node: str | None
    user: str | None
    created: float
    latest: bool = False
    state: State
    attempts: int = 0
    lost: int = 0
    fence: int = 0
    reason: str = ""
    owner: str | None = None
    claimed: float | None = None
    lease_until: float | None = None
    lock: str | None = None
    due: float | None = None
    ended: float | None = None
    renewed: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a rule when its deliveries are claimed.

    `lock`: a named lock that each of them holds while it runs; deliveries of all rules and owners
    that name it exclude each other. `limit`: how many of the rule's deliveries may run at once, by
    all owners together.
    """

    lock: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on a delivery: run it, then `finish` it with this fence.

    `attempt` counts from 1; attempts that do not count give their number back.
    """

    delivery: Delivery
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Our dealings with a relay: when it was last heard, and what went wrong last, and when."""

    relay: str
    seen: float | None
    failed: float | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is held of a branch: `count` events, from sequence `first` to `last`."""

    journal: str
    repo: str
    branch: str
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an operator decided, by `verb`.

    release   what is held of `branch` up to `sequence` may act
    admit     the event at `sequence` is taken although it does not fit what is stored
    vouch     events up to `sequence` are taken although their certificate is revoked

    `who`, `at`: the person, unix seconds. `reason`: what was wrong with it.
    """

    at: float
    who: str
    verb: str
    journal: str
    branch: str | None
    sequence: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A rule that is not run for now, and who said so, when and why."""

    rule: str
    who: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended; becomes its receipt.

    `verdict` is one word for people and filters: done, retry, dead, stopped, lost.
    """

    started: float
    ended: float
    verdict: str
    reason: str = ""
    exit_status: int | None = None
    signal: int | None = None
    output: bytes = field(default=b"", repr=False)
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What becomes of a delivery after an attempt.

    `state` DONE and DEAD are final. RETRYING needs `retry_at`. PENDING gives the delivery back at
    once. `counted` False: the attempt shall not count against the retry limit.
    """

    state: State
    outcome: Outcome
    retry_at: float | None = None
    counted: bool = True

    def __post_init__(self) -> None:
        if self.state not in {State.DONE, State.DEAD, State.RETRYING, State.PENDING}:
            raise ValueError(f"an attempt cannot end as {self.state}")
        if (self.retry_at is not None) != (self.state is State.RETRYING):
            raise ValueError("retry_at goes with retrying, and only with it")


LOST_LIMIT = 10
"""Attempts of one delivery that may end with the process that ran them; then it is dead."""


def lost(delivery: Delivery, now: float) -> Finish:
    """What a store writes when the holder of a lease is gone without a result."""
    reason = f"{delivery.owner} ended without a result"
    state = State.PENDING
    if delivery.lost + 1 >= LOST_LIMIT:
        state = State.DEAD
        reason = f"{reason}, the {LOST_LIMIT}th such attempt: the action may be what ends it"
    started = now if delivery.claimed is None else delivery.claimed
    outcome = Outcome(started=started, ended=now, verdict="lost", reason=reason)
    return Finish(state=state, outcome=outcome, counted=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One attempt that ended: who ran it, when, how it went.

    `attempt` is its number as the action saw it; `counted`: whether it counts against the limit.
    """

    delivery: str
    fence: int
    attempt: int
    owner: str
    outcome: Outcome
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which deliveries to list; None: any.

    `id`: how their ids begin. `since`, `until`: made at or after the one time and before the other.
    `after`: only higher numbers.
    """

    id: str | None = None
    states: frozenset[State] | None = None
    rule: str | None = None
    repo: str | None = None
    branch: str | None = None
    event_id: str | None = None
    since: float | None = None
    until: float | None = None
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Totals for `status`. `oldest_open`: when the first open delivery was made."""

    events: int
    held_events: int
    deliveries: Mapping[State, int]
    oldest_open: float | None
