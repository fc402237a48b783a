"""The engine's loop: claims what is ready, runs it in a bounded number of threads, keeps leases.

One thread runs `Dispatcher.run` and is the only one that claims; each attempt has a thread of its
own (see attempt.py, also for the order of effects). Leases are short and are extended while their
attempt runs, so that a rule's time limit need not fit into one.

What must never happen is two attempts of one delivery at once. So a lease that cannot be extended
in time has its attempt broken off while the lease still lasts, and as long as such an attempt has
not ended nothing new is claimed, lest this process be given its own delivery a second time.
"""

import contextlib
import logging
import os
import random
import select
import threading
from collections.abc import Callable, Mapping, Sequence

from hgext_zmqhooks.service.life import ROOT, Stop, fields
from subscriber.actions.base import Action, Cancel, Kind, Verdict
from subscriber.store.base import Claim, Finish, Outcome, State, Store, StoreError, Terms

from . import schedule
from .attempt import Attempt, Runner
from .rules import RuleSpec

WORKERS = 8
LEASE = 60.0
FINISH_BOUND = 30.0
CANCEL_BOUND = 15.0
IDLE = 60.0
"""Seconds after which the loop looks again though nothing called it."""
STORE_PAUSE = 1.0

log = logging.getLogger(f"{ROOT}.engine")


class Wake:
    """A call that a poll can wait for; calls before the wait are not lost, many count as one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def call(self) -> None:
        """Wake who waits, or who waits next. From any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"w")

    def fileno(self) -> int:
        """What a poller registers for POLLIN."""
        return self._read

    def clear(self) -> None:
        """Forget the calls so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Dispatcher:
    """Runs deliveries of the given rules until asked to stop.

    engine = Dispatcher(store, rules, {"build": action}, owner="ci/4711")
    life.spawn("engine", engine.run)
    engine.notify()                 # after deliveries were accepted

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
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._rules = {rule.name: rule for rule in rules}
        self._terms = dict.fromkeys(self._rules, Terms())
        self._actions = {name: actions[name] for name in self._rules}
        self._owner = owner
        self._workers = workers
        self._lease = lease
        self._finish_bound = finish_bound
        self._cancel_bound = cancel_bound
        self._pause = min(STORE_PAUSE, lease / 10)
        self._clock = clock or store.now
        self._runner = Runner(store, self._clock)
        self._wake = Wake()
        self._lock = threading.Lock()
        self._running: dict[str, Attempt] = {}

    def notify(self) -> None:
        """There may be something to claim. From any thread."""
        self._wake.call()

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        with self._lock:
            return list(self._running.values())

    def run(self, stop: Stop) -> None:
        """Claim and run until `stop`; then let finish what runs, and break off what takes long."""
        try:
            while not stop.is_set():
                pause = self._round()
                self._wait(pause, stop)
        finally:
            self._drain()

    def _round(self) -> float:
        """Extend, claim, start; returns after how many seconds to come again at the latest."""
        if not self._extend() or any(attempt.doomed for attempt in self.running()):
            return self._pause
        free = self._workers - len(self.running())
        if free <= 0:
            return self._until_extension()
        now = self._clock()
        try:
            claims = self._store.claim(self._owner, self._lease, free, now, terms=self._terms)
            for claim in claims:
                self._start(claim, now)
            due = None if len(claims) == free else self._store.next_due(terms=self._terms)
        except StoreError as error:
            log.error("the store failed, trying again", extra=fields(error=error, hint=error.hint))  # noqa: TRY400
            return self._pause
        until_due = IDLE if due is None else due - self._clock()
        return max(0.0, min(until_due, self._until_extension()))

    def _start(self, claim: Claim, now: float) -> None:
        name = claim.delivery.rule
        if other := self._running.get(claim.delivery.id):
            self._doom(other, "its lease was lost and came back to us")
            self._give_back(claim)
            return
        try:
            cancel = Cancel()
        except OSError as error:  # no descriptor is left: others may use them up
            self._postpone(claim, f"the attempt could not be started: {error}")
            return
        attempt = Attempt(claim, self._rules[name], self._actions[name], now, cancel)
        with self._lock:
            self._running[attempt.id] = attempt
        log.info("delivery starts", extra=attempt.fields(fence=claim.fence))
        thread = threading.Thread(
            target=self._work, args=(attempt,), name=f"attempt {attempt.id}", daemon=True
        )
        thread.start()

    def _postpone(self, claim: Claim, reason: str) -> None:
        """Try a claim later that nothing was done for; it does not count against the delivery."""
        now, item = self._clock(), claim.delivery
        verdict = Verdict(Kind.RETRY, reason, now, now, interrupted=True)
        before = schedule.past(self._store.receipts(item.id))
        retry = self._rules[item.rule].retry
        finish = schedule.decide(verdict, before, retry, now, random.random())  # noqa: S311 - a delay
        self._store.finish(item.id, claim.fence, finish, now)
        log.error("delivery not started", extra=fields(delivery=item.id, reason=reason))

    def _give_back(self, claim: Claim) -> None:
        now = self._clock()
        reason = "its former attempt had not ended yet"
        outcome = Outcome(started=now, ended=now, verdict=schedule.STOPPED, reason=reason)
        finish = Finish(state=State.PENDING, outcome=outcome, counted=False)
        self._store.finish(claim.delivery.id, claim.fence, finish, now)

    def _work(self, attempt: Attempt) -> None:
        try:
            self._runner.run(attempt)
        finally:
            with self._lock:
                del self._running[attempt.id]
            self._wake.call()

    def _extend(self) -> bool:
        """Extend the leases that need it; False if the store failed."""
        kept = True
        for attempt in self.running():
            with attempt.lock:
                if not attempt.over and self._clock() - attempt.extended >= self._lease / 3:
                    kept = self._extend_one(attempt) and kept
        return kept

    def _extend_one(self, attempt: Attempt) -> bool:
        now = self._clock()
        try:
            if self._store.extend(attempt.id, attempt.claim.fence, self._lease, now):
                attempt.extended = now
            else:
                self._doom(attempt, "its lease was given to another")
        except StoreError as error:
            log.error("lease not extended", extra=attempt.fields(error=error))  # noqa: TRY400
            if self._clock() - attempt.extended >= self._lease * 2 / 3:
                self._doom(attempt, "its lease could not be extended")
            return False
        return True

    def _doom(self, attempt: Attempt, reason: str) -> None:
        if not attempt.doomed:
            attempt.doomed = True
            attempt.cancel.set(reason)
            log.error("attempt broken off", extra=attempt.fields(reason=reason))

    def _until_extension(self) -> float:
        now = self._clock()
        ends = [attempt.extended + self._lease / 3 - now for attempt in self.running()]
        return min(ends, default=IDLE)

    def _wait(self, seconds: float, stop: Stop | None = None) -> None:
        """Until a call, `stop`, or the time is over."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if stop is not None:
            poll.register(stop, select.POLLIN)
        # Rounded up: a wait that ends a little before what it waits for is followed by another.
        poll.poll(max(0, int(seconds * 1000) + 1))
        self._wake.clear()

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
        end = self._clock() + bound
        while self.running() and self._clock() < end:
            pause = self._until_extension() if self._extend() else self._pause
            self._wait(max(0.0, min(end - self._clock(), pause)))
