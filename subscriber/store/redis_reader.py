"""Asking a store on Redis or Valkey: for the command line, and for the daemon itself."""

import re
from typing import Self

from hgext_zmqhooks.service.redis_client import TIMEOUT, RedisAddress

from . import redis_forms as forms
from .base import (
    MAX_LIST,
    MIN_NODE,
    Contact,
    Decision,
    Delivery,
    Held,
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
from .redis_session import Session


class RedisReader(Reader):
    """The questions of the contract, over one session that several threads may share."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._file = session.file
        self._ask, self._do = session.ask, session.do
        try:
            session.open()
        except BaseException:
            session.close()
            raise

    @classmethod
    def open(cls, address: RedisAddress, name: str, *, timeout: float = TIMEOUT) -> Self:
        """The store of the subscriber `name`; StoreError when there is none, or no server."""
        return cls(Session(address, name, writes=False, timeout=timeout))

    def identity(self) -> str:
        """See Reader."""
        return self._session.identity()

    def journals(self) -> list[JournalRow]:
        """See Reader."""
        return forms.rows(self._ask("journals"))

    def first_contact(self, relay: str) -> bool:
        """See Reader."""
        return bool(self._ask("first_contact", relay=relay))

    def contacts(self) -> list[Contact]:
        """See Reader."""
        found = forms.pairs(self._ask("contacts"))
        return [forms.contact(relay, stored) for relay, stored in sorted(found)]

    def held(self) -> list[Held]:
        """See Reader."""
        found = sorted(self._ask("held"), key=lambda answer: int(answer[-1]))
        return [forms.held(answer) for answer in found]

    def decisions(self, journal: str) -> list[Decision]:
        """See Reader."""
        return [forms.decision(stored) for stored in self._ask("decisions", journal=journal)]

    def chain(self, journal: str) -> dict[str, Link]:
        """See Reader."""
        found = forms.pairs(self._ask("chain", journal=journal))
        return {branch: forms.link(stored) for branch, stored in found}

    def record_digest(self, journal: str, sequence: int) -> str | None:
        """See Reader."""
        found = self.event(journal, sequence)
        return found.record.sha256 if found else None

    def parts(self, journal: str, branch: str, first: int, last: int) -> list[bytes]:
        """See Reader."""
        found = self._ask("parts", journal=journal, branch=branch, first=first, last=last)
        return [forms.incoming(stored).event for stored in found]

    def certificate(self, sha256: str) -> bytes | None:
        """See Reader."""
        found = self._ask("certificate", sha256=sha256)
        return None if found is None else forms.raw(found.decode())

    def event(self, journal: str, sequence: int) -> StoredEvent | None:
        """See Reader."""
        found = self._ask("event", journal=journal, sequence=sequence)
        return None if found is None else forms.event(found)

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """See Reader."""
        found: list[StoredEvent] = []
        limit = bounded(limit, MAX_LIST)
        while len(found) < limit and after is not None:
            after, some = self._ask("events", after=after, limit=limit)
            found += [forms.event(answer) for answer in some]
        return found[:limit]

    def trace(self, node: str, limit: int) -> list[StoredEvent]:
        """See Reader."""
        if len(node) < MIN_NODE:
            raise ValueError(f"{node!r} is shorter than {MIN_NODE} digits")
        if not re.fullmatch("[0-9a-f]+", node):
            return []
        found = self._ask("trace", node=node, limit=bounded(limit, MAX_LIST))
        return [forms.event(answer) for answer in found]

    def newest_event(self) -> int:
        """See Reader."""
        return self._counters()["events"]

    def delivery(self, delivery_id: str) -> Delivery | None:
        """See Reader."""
        found = self._ask("delivery", id=delivery_id)
        return None if found is None else forms.delivery(found)

    def deliveries(self, wanted: Wanted, limit: int, *, newest: bool = False) -> list[Delivery]:
        """See Reader.

        What takes long to find is looked for in several steps, each of them as of its own moment.
        """
        limit = bounded(limit, MAX_LIST)
        given = {
            "id": wanted.id,
            "states": None if wanted.states is None else dict.fromkeys(wanted.states, True),
            "rule": wanted.rule,
            "repo": wanted.repo,
            "branch": wanted.branch,
            "event_id": wanted.event_id,
            "since": wanted.since,
            "till": wanted.until,
            "after": wanted.after,
            "newest": newest,
        }
        onward: int | None = None if newest else wanted.after + 1
        found: list[Delivery] = []
        while len(found) < limit:
            given |= {"limit": limit - len(found), "from": onward}
            onward, some = self._ask("deliveries", **given)
            found += map(forms.delivery, some)
            if onward is None:
                break
        return found[::-1] if newest else found

    def receipts(self, delivery_id: str) -> list[Receipt]:
        """See Reader."""
        return [
            forms.receipt(delivery_id, stored) for stored in self._ask("receipts", id=delivery_id)
        ]

    def paused(self) -> list[Paused]:
        """See Reader."""
        found = map(forms.paused, self._ask("paused"))
        return sorted(found, key=lambda each: each.rule)

    def status(self) -> Status:
        """See Reader."""
        counters = self._counters()
        oldest = self._ask("oldest_open")
        return Status(
            events=counters["stored"],
            held_events=counters["held_events"],
            deliveries={state: counters[state] for state in State},
            oldest_open=None if oldest is None else float(oldest),
        )

    def _counters(self) -> dict[str, int]:
        return {name: int(value) for name, value in forms.pairs(self._ask("counters"))}

    def close(self) -> None:
        """See Reader."""
        self._session.close()


def bounded(limit: int, most: int) -> int:
    """A limit as asked for, but within the contract's."""
    return max(0, min(limit, most))
