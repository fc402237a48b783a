"""One attempt: from a claim to its receipt, in a thread of its own.

The order of effects of a delivery is: store -> act -> receipt -> ack.

    store     the event, its position and its deliveries are on disk before the relay hears an ack,
              and the claim (who runs it, under which fence) before the action starts
    act       the action runs
    receipt   how it ended is on disk before the lane goes on
    ack       the lane's next delivery may be claimed (the relay's ack went out after `store`)

It allows one duplicate: a crash between act and receipt runs the action again, with the same
delivery id and a higher fence, so that the action can notice. It forbids every loss: nothing is
forgotten before its receipt is written, and no later delivery of the lane starts before.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hgext_zmqhooks.service.life import ROOT, fields
from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.errors import Refused
from subscriber.actions.base import LEASE_OVER, Action, Cancel, Job, Kind, Verdict
from subscriber.store.base import Claim, Finish, State, Store, StoreError

from . import schedule
from .outage import Outage
from .rules import RuleSpec

STORE_PAUSE = 1.0
"""Seconds between two tries to write a receipt that the store did not take."""

log = logging.getLogger(f"{ROOT}.engine")


@dataclass(slots=True)
class Attempt:
    """A claim that runs.

    `extended`: when its lease was last known to begin, by the boot clock, taken before the store
    was asked; `asked`: when it was last asked to extend it. `doomed`: its lease is lost or about to
    be. `stopped`: it was broken off because the daemon ends. `over`: its receipt is written; `lock`
    is held while that is done, so that nobody takes the end of the lease for a loss of it.
    `unextended` says when the store fails.
    """

    claim: Claim
    spec: RuleSpec
    action: Action
    extended: float
    cancel: Cancel
    asked: float = 0.0
    doomed: bool = False
    stopped: bool = False
    over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    unextended: Outage = field(default_factory=lambda: Outage("lease not extended"), repr=False)

    @property
    def id(self) -> str:
        """The delivery's id."""
        return self.claim.delivery.id

    def extend(self, asked: float, seconds: float) -> None:
        """Its lease lasts `seconds` from `asked`; the attempt ends itself before that is over."""
        self.extended = asked
        self.cancel.until(asked + seconds)

    def fields(self, **more: object) -> dict[str, object]:
        """What each log line about it carries."""
        item = self.claim.delivery
        about = {
            "delivery": item.id,
            "rule": item.rule,
            "repo": item.repo,
            "branch": item.branch,
            "sequence": item.last,
            "attempt": self.claim.attempt,
        }
        return fields(**about, **more)


class Runner:
    """Runs attempts against a store. `closed` ends the tries to write receipts."""

    def __init__(self, store: Store, chance: Callable[[], float] = random.random) -> None:
        self._store = store
        self._chance = chance
        self.closed = threading.Event()

    def run(self, attempt: Attempt) -> None:
        """Act, then write the receipt; returns when that is on disk or is not ours to write."""
        with attempt.cancel:
            verdict = self._act(attempt)
        try:
            self._record(attempt, verdict)
        except Exception as error:
            # A defect of ours. What the action did must not be forgotten over how it is told: the
            # attempt would count as lost, and run again. If this fails too, that is what happens.
            log.exception("the result cannot be recorded as it is", extra=attempt.fields())
            self._record(attempt, _plain(verdict, error))

    def _record(self, attempt: Attempt, verdict: Verdict) -> None:
        """Write the receipt, and try again as long as the store fails."""
        unwritten = Outage("receipt not written, trying again")
        while not self.closed.is_set():
            try:
                finish = self._decide(attempt, verdict)
                with attempt.lock:
                    taken = self._finish(attempt, finish)
                    attempt.over = True
            except StoreError as error:
                # The attempt ran. Until the store takes its receipt the lane stands still.
                unwritten.failed(error, attempt.fields(error=error))
                self.closed.wait(STORE_PAUSE)
                continue
            _report(attempt, finish, taken=taken)
            return

    def _act(self, attempt: Attempt) -> Verdict:
        """What the action answers, with times by the store's clock, which does not jump."""
        started = self._store.now()
        return replace(self._answer(attempt), started=started, ended=self._store.now())

    def _answer(self, attempt: Attempt) -> Verdict:
        try:
            job = self._job(attempt)
            if not job.lines:
                return Verdict(Kind.DEAD, "its events are not stored", 0.0, 0.0)
            if attempt.cancel.left <= 0:  # we stood still after the claim
                return Verdict(Kind.RETRY, LEASE_OVER, 0.0, 0.0, interrupted=True)
            return attempt.action.run(job, attempt.cancel)
        except StoreError as error:
            reason, interrupted = f"the event could not be read: {error}", True
        except Exception as error:
            # An action answers with a verdict; one that raises is defective, and must stop
            # neither the engine nor other lanes.
            log.exception("the action is defective", extra=attempt.fields())
            reason, interrupted = f"the action is defective: {error!r}", False
        return Verdict(Kind.RETRY, reason, 0.0, 0.0, interrupted=interrupted)

    def _job(self, attempt: Attempt) -> Job:
        claim, item = attempt.claim, attempt.claim.delivery
        lines = self._store.parts(item.journal, item.branch, item.first, item.last)
        return Job(
            delivery_id=item.id,
            event_id=item.event_id,
            fence=claim.fence,
            attempt=claim.attempt,
            rule=item.rule,
            topic=item.topic,
            repo=item.repo,
            branch=item.branch,
            node=item.node,
            user=item.user,
            traceparent=_traceparent(lines),
            lines=lines,
            timeout=attempt.spec.timeout,
        )

    def _decide(self, attempt: Attempt, verdict: Verdict) -> Finish:
        before = schedule.Past()
        if verdict.kind is Kind.RETRY:
            item = attempt.claim.delivery
            before = schedule.past(self._store.receipts(item.id), item.renewed)
        return schedule.decide(
            verdict,
            before,
            attempt.spec.retry,
            self._store.now(),
            self._chance(),
            stopped=attempt.stopped,
        )

    def _finish(self, attempt: Attempt, finish: Finish) -> bool:
        return self._store.finish(attempt.id, attempt.claim.fence, finish, self._store.now())


def _plain(verdict: Verdict, error: Exception) -> Verdict:
    """The same, told in our words only."""
    reason = f"its result could not be recorded as it is ({type(error).__name__})"
    return replace(verdict, reason=reason, output=b"", truncated=False)


def _traceparent(lines: list[bytes]) -> str | None:
    try:
        return events.decode(lines[0]).traceparent if lines else None
    except Refused:
        return None


def _report(attempt: Attempt, finish: Finish, *, taken: bool) -> None:
    outcome = finish.outcome
    values = attempt.fields(
        verdict=outcome.verdict,
        reason=outcome.reason or None,
        seconds=round(outcome.ended - outcome.started, 3),
    )
    if not taken:
        log.warning("result came after the lease, not recorded", extra=values)
    elif finish.state is State.DONE:
        log.info("delivery done", extra=values)
    elif finish.state is State.DEAD:
        log.error("delivery dead", extra=values)
    elif attempt.stopped:  # an orderly end is nothing to warn of
        log.info("delivery broken off, it runs again at the next start", extra=values)
    else:
        log.warning("delivery %s", finish.state, extra=values)
