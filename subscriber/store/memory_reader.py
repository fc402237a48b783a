"""The tables of the reference store, and what can be asked of them."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from hgext_zmqhooks.wire.values import Continued

from .base import (
    MAX_LIST,
    MIN_NODE,
    OPEN,
    Contact,
    Decision,
    Delivery,
    Held,
    Incoming,
    JournalRow,
    Link,
    Paused,
    Reader,
    Receipt,
    State,
    Status,
    StoredEvent,
    Wanted,
)

FILE = "memory"
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="MemoryReader")


def step(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """One thread at a time: what a transaction is to the other stores."""

    @wraps(method)
    def locked(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked


@dataclass(slots=True)
class Lane:
    """Open deliveries, by number and id. `due`: end of the delay; `turn`: while it is ready."""

    rule: str
    order_key: str
    queue: list[tuple[int, str]] = field(default_factory=list)
    turn: int | None = None
    due: float | None = None


class MemoryReader(Reader):
    """The questions of the contract, over dictionaries."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._identity = uuid.uuid4().hex
        self._relays: set[str] = set()
        self._scope: str | None = None
        self._journals: dict[str, JournalRow] = {}
        self._chains: dict[str, dict[str, Link]] = {}
        self._continues: dict[tuple[str, str], Continued] = {}
        self._certificates: dict[str, bytes] = {}
        self._events: dict[tuple[str, int], StoredEvent] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._receipts: dict[str, dict[int, Receipt]] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._contacts: dict[str, Contact] = {}
        self._decisions: list[Decision] = []
        self._pauses: dict[str, Paused] = {}
        self._followed: dict[str, tuple[str, float]] = {}
        self._turns: dict[str, int] = {}
        self._stored = self._made = self._fence = self._turn = 0

    def identity(self) -> str:
        """See Reader."""
        return self._identity

    @step
    def journals(self) -> list[JournalRow]:
        """See Reader."""
        return list(self._journals.values())

    @step
    def first_contact(self, relay: str) -> bool:
        """See Reader."""
        return relay not in self._relays

    @step
    def contacts(self) -> list[Contact]:
        """See Reader."""
        return [self._contacts[relay] for relay in sorted(self._contacts)]

    @step
    def held(self) -> list[Held]:
        """See Reader."""
        found: dict[tuple[str, str, str], list[int]] = {}
        for event in self._events.values():
            if event.record.held:
                place = (event.record.journal, event.record.repo, event.record.branch)
                found.setdefault(place, []).append(event.record.sequence)
        return [
            Held(
                journal=journal,
                repo=repo,
                branch=branch,
                first=min(sequences),
                last=max(sequences),
                count=len(sequences),
            )
            for (journal, repo, branch), sequences in found.items()
        ]

    @step
    def decisions(self, journal: str) -> list[Decision]:
        """See Reader."""
        return [decision for decision in self._decisions if decision.journal == journal]

    @step
    def chain(self, journal: str) -> dict[str, Link]:
        """See Reader."""
        return dict(self._chains.get(journal, {}))

    @step
    def record_digest(self, journal: str, sequence: int) -> str | None:
        """See Reader."""
        event = self._events.get((journal, sequence))
        return event.record.sha256 if event else None

    @step
    def parts(self, journal: str, branch: str, first: int, last: int) -> list[bytes]:
        """See Reader."""
        return [record.event for record in self.between(journal, branch, first, last)]

    def between(self, journal: str, branch: str, first: int, last: int) -> list[Incoming]:
        """This branch's records from `first` to `last`, by sequence."""
        places = [key for key in self._events if key[0] == journal and first <= key[1] <= last]
        records = [self._events[place].record for place in sorted(places)]
        return [record for record in records if record.branch == branch]

    @step
    def certificate(self, sha256: str) -> bytes | None:
        """See Reader."""
        return self._certificates.get(sha256)

    @step
    def event(self, journal: str, sequence: int) -> StoredEvent | None:
        """See Reader."""
        return self._events.get((journal, sequence))

    @step
    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """See Reader."""
        found = [event for event in self._events.values() if event.number > after]
        return found[: min(limit, MAX_LIST)]

    @step
    def trace(self, node: str, limit: int) -> list[StoredEvent]:
        """See Reader."""
        if len(node) < MIN_NODE:
            raise ValueError(f"{node!r} is shorter than {MIN_NODE} digits")
        found = [
            event
            for event in self._events.values()
            if any(each.startswith(node) for each in event.record.nodes)
        ]
        return found[: max(0, min(limit, MAX_LIST))]

    @step
    def newest_event(self) -> int:
        """See Reader."""
        return self._stored

    @step
    def delivery(self, delivery_id: str) -> Delivery | None:
        """See Reader."""
        return self._deliveries.get(delivery_id)

    @step
    def deliveries(self, wanted: Wanted, limit: int, *, newest: bool = False) -> list[Delivery]:
        """See Reader."""
        found = [item for item in self._deliveries.values() if _fits(item, wanted)]
        count = max(0, min(limit, MAX_LIST))
        return found[max(0, len(found) - count) :] if newest else found[:count]

    @step
    def receipts(self, delivery_id: str) -> list[Receipt]:
        """See Reader."""
        return list(self._receipts.get(delivery_id, {}).values())

    @step
    def paused(self) -> list[Paused]:
        """See Reader."""
        return [self._pauses[rule] for rule in sorted(self._pauses)]

    @step
    def status(self) -> Status:
        """See Reader."""
        states = Counter(item.state for item in self._deliveries.values())
        created = (item.created for item in self._deliveries.values() if item.state in OPEN)
        return Status(
            events=len(self._events),
            held_events=sum(event.record.held for event in self._events.values()),
            deliveries={state: states[state] for state in State},
            oldest_open=next(created, None),
        )

    def close(self) -> None:
        """See Reader."""


def _fits(item: Delivery, wanted: Wanted) -> bool:
    return (
        item.number > wanted.after
        and (wanted.id is None or item.id.startswith(wanted.id))
        and (wanted.states is None or item.state in wanted.states)
        and wanted.rule in {None, item.rule}
        and wanted.repo in {None, item.repo}
        and wanted.branch in {None, item.branch}
        and wanted.event_id in {None, item.event_id}
        and (wanted.since is None or item.created >= wanted.since)
        and (wanted.until is None or item.created < wanted.until)
    )
