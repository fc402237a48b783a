"""From a batch of a session to the store; what cannot be taken stops its journal.

The order of effects, for every batch:

    0. verify    by another process, perhaps while an earlier batch is at 1 to 3
    1. judge     nothing has happened yet
    2. store     events, position, chain heads and deliveries, in one transaction
    3. ack       by the caller, after this returned
    4. act       by the dispatcher, which is only told that there may be something

A crash before 2 has ended leaves nothing: the relay sends the batch again. A crash between 2 and 3
leaves a relay that knows an older position: it is told the stored one by the next FOLLOW. So an
event may *arrive* twice and is *recorded* once, and none that was acked can be lost.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.service.life import ROOT, Throttle, fields
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import events, topics
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.events import digest
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.session import Events
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import Event
from subscriber.intake.admit import Admitted, Stop, admit
from subscriber.intake.journals import Journals
from subscriber.intake.verify import Pending, Verifier
from subscriber.store.base import Conflict, Fork, Store
from subscriber.store.values import Batch, NewDelivery

OVERRULED = {"unfit-journal": "admit", "fork": "admit", "gap": "admit", "revoked": "vouch"}
"""Stops that a person may overrule with `accept`, each with the verb of that decision.

A bad signature is none.
"""

LIVE = 8
"""Events of one batch that are told of one by one; more of them have one line for all."""

Match = Callable[[Sequence[Event], float], Sequence[NewDelivery]]
"""All parts of one (transaction, branch), and the time -> what the rules want done."""


class Decisions:
    """How often an operator decided something while the daemon runs; one thread counts."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class Tools:
    """What every intake of a daemon shares. `notify`: deliveries may be waiting.

    `patterns`: what is asked for; `allowed`: what our certificate lets us read of it. `owner`:
    under which name we are known to the store (see shares).
    """

    store: Store
    keyring: Keyring
    patterns: tuple[Pattern, ...]
    match: Match
    counters: Counters
    notify: Callable[[], None]
    decisions: Decisions = field(default_factory=Decisions)
    verifier: Verifier = field(default_factory=Verifier)
    clock: Callable[[], float] = time.time
    tick: Callable[[], float] = time.monotonic
    allowed: tuple[Pattern, ...] = ()
    owner: str = ""

    @property
    def scope(self) -> str:
        """What is read, as the store keeps it: another one begins every journal anew."""
        wanted, allowed = (
            sorted(pattern.text for pattern in patterns)
            for patterns in (self.patterns, self.allowed)
        )
        return digest(json.dumps([wanted, allowed]).encode())

    def reads_whole(self, repo: str) -> bool:
        """Whether a relay must send us every event of a repository."""
        source = topics.source("hg", repo)
        return all(
            any(pattern.covers(source) for pattern in patterns)
            for patterns in (self.patterns, self.allowed)
        )


class Inbox:
    """Takes the batches of one relay."""

    def __init__(self, tools: Tools, relay: str, journals: Journals) -> None:
        self._tools = tools
        self._relay = relay
        self._journals = journals
        self._scope = tools.scope
        self._log = logging.getLogger(f"{ROOT}.intake")
        self.throttle = Throttle(self._log)

    def begin(self, batch: Events) -> Pending:
        """Have the signatures of a batch verified that is taken later, or never."""
        return self._tools.verifier.begin(batch, self._tools.keyring)

    def take(self, batch: Events, pending: Pending | None = None) -> int | None:
        """Store what is in order; returns the position to ack. `pending`: what `begin` gave.

        None: the journal did not take all of it, so that a new FOLLOW has to say what we want.
        Raises StoreError when the store itself fails, and Refused when the relay speaks of a
        journal that it has not introduced.
        """
        signed = self._tools.verifier.answers(pending or self.begin(batch))
        now = self._tools.clock()
        if not self._journals.introduced(batch.journal):
            raise Refused("unknown-journal", f"events of {batch.journal}, never told of")
        known = self._journals.known(batch.journal)
        whole = known.repo is not None and self._tools.reads_whole(known.repo)
        admitted = admit(
            batch,
            known,
            self._tools.patterns,
            self._tools.keyring,
            now,
            whole=whole,
            signed=signed,
        )
        repo = known.repo or (admitted.events[0].repo if admitted.events else None)
        if repo is None:
            raise Refused("unknown-journal", f"events of {batch.journal}, whose repository?")
        self._count(admitted)
        if not self._is_stored(batch.journal, repo, admitted, now):
            return None
        if admitted.stop is not None:
            self._stop(batch.journal, repo, admitted.stop)
            return None
        return admitted.scanned

    def _is_stored(self, journal: str, repo: str, admitted: Admitted, now: float) -> bool:
        """Store what was admitted; False when the store holds something else than we believed."""
        made = Batch(
            relay=self._relay,
            scope=self._scope,
            journal=journal,
            repo=repo,
            scanned=admitted.scanned,
            expected=self._journals.expected(journal),
            records=admitted.records,
            deliveries=self._deliveries(admitted, now),
            certificates=admitted.certificates,
            heads=admitted.heads,
            continues=admitted.continues,
            release=admitted.release,
            origin=self._journals.origin(journal, admitted),
        )
        try:
            accepted = self._tools.store.accept(made)
        except Conflict:
            # Another intake of this store follows the same journal and was faster.
            self._tools.counters.add("conflicts")
            self._journals.reload(journal)
            return False
        except Fork as fork:
            self._stop(journal, repo, Stop("fork", str(fork), fork.sequence))
            return False
        self._journals.moved(repo, journal, admitted)
        self._tools.counters.add("stored", count=accepted.new)
        self._tools.counters.add("duplicates", count=accepted.duplicates)
        self._say(made)
        self._say_continued(admitted)
        if accepted.new < len(made.records):
            self._say_too_late(made)
        if made.deliveries or made.release:
            self._tools.notify()
        return True

    def _deliveries(self, admitted: Admitted, now: float) -> tuple[NewDelivery, ...]:
        """What the rules want for the events that are complete with this batch."""
        fresh = {event.sequence: event for event in admitted.events}
        found: list[NewDelivery] = []
        for event in admitted.events:
            if event.transaction.part == event.transaction.parts:
                found += self._tools.match(list(self._parts(event, fresh)), now)
        return tuple(found)

    def _parts(self, last: Event, fresh: dict[int, Event]) -> Iterator[Event]:
        """All parts of an event up to its last one; earlier ones may be in the store already.

        They follow each other in the chain of the branch. What is not there (we began to read in
        the middle) is left out.
        """
        chain = [last]
        while chain[-1].transaction.part > 1 and (before := chain[-1].previous) is not None:
            event = fresh.get(before.sequence) or self._stored(last.journal, before.sequence)
            if event is None or event.transaction.id != last.transaction.id:
                break
            chain.append(event)
        return reversed(chain)

    def _stored(self, journal: str, sequence: int) -> Event | None:
        stored = self._tools.store.event(journal, sequence)
        return None if stored is None else events.decode(stored.record.event)

    def _stop(self, journal: str, repo: str, stop: Stop) -> None:
        """Alarm, keep the reason where `status` shows it, and come back later."""
        self._tools.counters.add("refused", stop.kind)
        now, tick = self._tools.clock(), self._tools.tick()
        delay = self._journals.stop(journal, repo, stop, now, tick)
        self.throttle.warning(
            stop.kind,
            "journal stopped",
            repo=repo,
            branch=stop.branch,
            sequence=stop.sequence,
            journal=journal,
            reason=stop.detail[:300],
            next=f"accept {repo} --journal {journal}" if stop.kind in OVERRULED else None,
            retry=f"{delay:g}s",
        )

    def _count(self, admitted: Admitted) -> None:
        self._tools.counters.add("duplicates", count=admitted.duplicates)
        if admitted.unasked:
            self._tools.counters.add("refused", "not-asked", admitted.unasked)
            self.throttle.warning("not-asked", "events came that nobody asked for")

    def _say_continued(self, admitted: Admitted) -> None:
        """A journal that takes over tells of undone history, of a copy or of a restored one."""
        for event in admitted.events:
            if event.continues is not None:
                before = event.continues
                self._log.warning(
                    "a new journal continues the repository's history",
                    extra=fields(
                        repo=event.repo,
                        branch=event.branch,
                        sequence=event.sequence,
                        journal=event.journal,
                        continues=f"{before.journal}/{before.sequence}",
                        removed=len(event.removed) or None,
                    ),
                )

    def _say_too_late(self, batch: Batch) -> None:
        """What was left out, and comes when later events are forgotten already, may not act."""
        rows = self._tools.store.journals()
        pruned = max((row.pruned for row in rows if row.journal == batch.journal), default=0)
        late = [record.sequence for record in batch.records if record.sequence <= pruned]
        if late:
            self.throttle.warning(
                "too-late",
                "events came too late and do nothing: later ones are forgotten already",
                repo=batch.repo,
                journal=batch.journal,
                sequences=f"{late[0]}..{late[-1]}",
                count=len(late),
                pruned=pruned,
                hint="do by hand what they would have run; a longer `keep` leaves more time",
            )

    def _say_each(self, batch: Batch) -> None:
        for record in batch.records:
            self._log.info(
                "event stored",
                extra=fields(
                    repo=record.repo,
                    branch=record.branch,
                    sequence=record.sequence,
                    parts=f"{record.part}/{record.parts}" if record.parts > 1 else None,
                    journal=record.journal,
                ),
            )

    def _say_many(self, batch: Batch) -> None:
        """Catching up: who wants to know more asks the store."""
        self._log.info(
            "events stored",
            extra=fields(
                repo=batch.repo,
                sequences=f"{batch.records[0].sequence}..{batch.records[-1].sequence}",
                count=len(batch.records),
                journal=batch.journal,
            ),
        )

    def _say(self, batch: Batch) -> None:
        if len(batch.records) > LIVE:
            self._say_many(batch)
        else:
            self._say_each(batch)
        for record in batch.records:
            if record.held:
                self.throttle.warning(
                    "held",
                    "event held: the certificate that signed it has expired",
                    repo=record.repo,
                    branch=record.branch,
                    sequence=record.sequence,
                )
        for made in batch.deliveries:
            self._log.info(
                "delivery made",
                extra=fields(
                    rule=made.rule,
                    repo=made.repo,
                    branch=made.branch,
                    sequence=made.last,
                    delivery=made.id,
                ),
            )
