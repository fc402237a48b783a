"""The engine's loop: claims what is ready, and runs it in a bounded number of threads.

One thread runs `Dispatcher.run` and is the only one that claims; each attempt has a thread of its
own (see attempt.py, also for the order of effects). Leases are short and are extended while their
attempt runs (see leases.py), so that a rule's time limit need not fit into one.

As long as an attempt that was broken off has not ended nothing new is claimed, lest this process
be given its own delivery a second time.

Rules, their actions and the number of workers may change while it runs: what was claimed before
goes on as it began, what is claimed later has the new ones.
"""

import logging
import random
import threading
from collections.abc import Mapping, Sequence

from hgext_zmqhooks.service.clock import boot_clock
from hgext_zmqhooks.service.life import ROOT, Stop, fields
from subscriber.actions.base import Action, Cancel, Kind, Verdict
from subscriber.store.base import Claim, Finish, Outcome, State, Store, StoreError

from . import schedule
from .attempt import Attempt, Runner
from .leases import Leases
from .outage import Outage
from .rules import RuleSpec
from .wake import Wake
from .work import Work, work

WORKERS = 8
LEASE = 60.0
FINISH_BOUND = 30.0
CANCEL_BOUND = 15.0
IDLE = 60.0
"""Seconds after which the loop looks again though nothing called it."""
SHARED_IDLE = 0.5
"""The same where other processes write into the store too: nobody calls us then."""
STORE_PAUSE = 1.0

log = logging.getLogger(f"{ROOT}.engine")


class Dispatcher:
    """Runs deliveries of the given rules until asked to stop.

    engine = Dispatcher(store, rules, {"build": action}, owner="ci/4711")
    life.spawn("engine", engine.run)
    engine.notify()                 # after deliveries were accepted
    engine.change(rules, actions)   # after the configuration was changed

    Deliveries of rules that are not given stay as they are. Whoever makes the dispatcher has
    freed the leases of a former process before.
    """

    def __init__(
        self,
        store: Store,
        rules: Sequence[RuleSpec],
        actions: Mapping[str, Action],
        *,
        owner: str,
        workers: int = WORKERS,
        lease: float = LEASE,
        finish_bound: float = FINISH_BOUND,
        cancel_bound: float = CANCEL_BOUND,
    ) -> None:
        self._store = store
        self._work = work(rules, actions)
        self._owner = owner
        self._workers = workers
        self._finish_bound = finish_bound
        self._cancel_bound = cancel_bound
        self._idle = SHARED_IDLE if store.shared else IDLE
        self._pause = min(STORE_PAUSE, lease / 10)
        self._runner = Runner(store)
        self._wake = Wake()
        self._leases = Leases(store, lease)
        self._outage = Outage("the store failed, trying again")

    def notify(self) -> None:
        """There may be something to claim. From any thread."""
        self._wake.call()

    def change(
        self, rules: Sequence[RuleSpec], actions: Mapping[str, Action], workers: int
    ) -> None:
        """Claim by these from now on. From any thread."""
        self._work = work(rules, actions)
        self._workers = workers
        self._wake.call()

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        return self._leases.running()

    def run(self, stop: Stop) -> None:
        """Claim and run until `stop`; then let finish what runs, and break off what takes long."""
        try:
            while not stop.is_set():
                self._wake.wait(self._round(), stop)
        finally:
            self._drain()

    def _round(self) -> float:
        """Extend, claim, start; returns after how many seconds to come again at the latest."""
        if not self._leases.extend() or any(attempt.doomed for attempt in self.running()):
            return self._pause
        free = self._workers - len(self.running())
        if free <= 0:
            return self._leases.until_extension(IDLE)
        now = self._work
        try:
            due = self._claim(now, free)
        except StoreError as error:
            self._outage.failed(error, fields(error=error, hint=error.hint))
            return self._pause
        if self._outage.over():
            log.info("the store answers again")
        until_due = IDLE if due is None else due - self._store.now()
        return max(0.0, min(until_due, self._leases.until_extension(self._idle)))

    def _claim(self, now: Work, free: int) -> float | None:
        """Claim and start up to `free` deliveries; returns when there may be more."""
        asked = boot_clock()
        seconds = self._leases.seconds
        claims = self._store.claim(self._owner, seconds, free, self._store.now(), terms=now.terms)
        for claim in claims:
            try:
                self._start(now, claim, asked)
            except (
                StoreError
            ) as error:  # its lease ends by itself; the others shall not wait for it
                said = fields(delivery=claim.delivery.id, error=error)
                log.error("a claim could not be given back", extra=said)  # noqa: TRY400
        return None if len(claims) == free else self._store.next_due(terms=now.terms)

    def _start(self, now: Work, claim: Claim, asked: float) -> None:
        name = claim.delivery.rule
        if other := self._leases.get(claim.delivery.id):
            self._leases.doom(other, "its lease was lost and came back to us")
            self._give_back(claim)
            return
        try:
            cancel = Cancel()
        except OSError as error:  # no descriptor is left: others may use them up
            self._postpone(now.specs[name], claim, f"the attempt could not be started: {error}")
            return
        attempt = Attempt(claim, now.specs[name], now.actions[name], asked, cancel)
        attempt.extend(asked, self._leases.seconds)
        self._leases.add(attempt)
        log.info("delivery starts", extra=attempt.fields(fence=claim.fence))
        thread = threading.Thread(
            target=self._run_one, args=(attempt,), name=f"attempt {attempt.id}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no further thread is allowed
            self._leases.remove(attempt)
            cancel.close()
            self._postpone(attempt.spec, claim, f"the attempt could not be started: {error}")

    def _postpone(self, spec: RuleSpec, claim: Claim, reason: str) -> None:
        """Try a claim later that nothing was done for; it does not count against the delivery."""
        now, item = self._store.now(), claim.delivery
        verdict = Verdict(Kind.RETRY, reason, now, now, interrupted=True)
        before = schedule.past(self._store.receipts(item.id), item.renewed)
        finish = schedule.decide(verdict, before, spec.retry, now, random.random())  # noqa: S311 - a delay
        self._store.finish(item.id, claim.fence, finish, now)
        log.error("delivery not started", extra=fields(delivery=item.id, reason=reason))

    def _give_back(self, claim: Claim) -> None:
        now = self._store.now()
        reason = "its former attempt had not ended yet"
        outcome = Outcome(started=now, ended=now, verdict=schedule.STOPPED, reason=reason)
        finish = Finish(state=State.PENDING, outcome=outcome, counted=False)
        self._store.finish(claim.delivery.id, claim.fence, finish, now)

    def _run_one(self, attempt: Attempt) -> None:
        try:
            self._runner.run(attempt)
        finally:
            self._leases.remove(attempt)
            self._wake.call()

    def _drain(self) -> None:
        """Claim nothing more; wait for what runs, then break it off and wait for that."""
        self._await_end(self._finish_bound)
        for attempt in self.running():
            attempt.stopped = True
            attempt.cancel.set("the daemon stops")
        self._await_end(self._cancel_bound)
        self._runner.closed.set()
        for attempt in self.running():
            # Its lease stays, so that the next start counts it as lost and runs it again.
            log.error("attempt left behind", extra=attempt.fields())

    def _await_end(self, bound: float) -> None:
        end = boot_clock() + bound
        while self.running() and boot_clock() < end:
            extended = self._leases.extend()
            pause = self._leases.until_extension(IDLE) if extended else self._pause
            self._wake.wait(max(0.0, min(end - boot_clock(), pause)))
