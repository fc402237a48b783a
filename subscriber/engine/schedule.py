"""What becomes of a delivery after an attempt. Pure: takes the time and a random number.

    verdict of the action            counted   next
    done                             yes       done
    dead (exit status 65)            yes       dead at once
    retry, patient (exit status 75)  yes       after 5 s, doubling to 1 h; dead after `patience`
    retry (any other failure)        yes       after `delays`, or later where the other side asked
                                               for that; dead after `attempts`
    broken off because we stop       no        at once, in the next life of the daemon
    broken off for another reason    no        after 5 s, doubling to 1 h; dead after ten

Failures, patient retries and interruptions are counted apart, each by the receipts that the
delivery has already: a script that waited ten times for a lock has not failed ten times. Receipts
from before an operator redelivered it do not count. A delay is stretched by up to a tenth at
random, so that what failed together is not tried again together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hgext_zmqhooks.service.config import span
from hgext_zmqhooks.service.words import counted
from subscriber.actions.base import Kind, Verdict
from subscriber.store.values import LOST_LIMIT, Finish, Outcome, Receipt, State

PATIENT_FIRST = 5.0
PATIENT_MOST = 3600.0
JITTER = 0.1

# The words that receipts carry.
DONE = "done"
DEAD = "dead"
FAILED = "failed"
RETRY = "retry"
STOPPED = "stopped"
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Retry:
    """What a rule says of trying again.

    `attempts`: how often a failing action is tried in all. `delays`: seconds before the second
    attempt, the third and so on; the last one is for all that follow. `patience`: for how many
    seconds the action itself may ask for another try.
    """

    attempts: int = 4
    delays: tuple[float, ...] = (1.0, 10.0, 60.0)
    patience: float = 3 * 86400.0


DEFAULT = Retry()

WEBHOOKS = Retry(
    attempts=10, delays=(5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
)
"""The example schedule of Standard Webhooks 1.0.0: over three days."""

DEFAULTS = {"webhook": WEBHOOKS}
"""What holds for the actions of these names where a rule says nothing; for others DEFAULT."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a delivery has behind it. `waiting_since`: end of its first patient attempt."""

    failures: int = 0
    patient: int = 0
    interruptions: int = 0
    waiting_since: float | None = None


def past(receipts: Iterable[Receipt], renewed: int = 0) -> Past:
    """Count what happened after the attempt of fence `renewed`."""
    outcomes = [receipt.outcome for receipt in receipts if receipt.fence > renewed]
    words = [outcome.verdict for outcome in outcomes]
    return Past(
        failures=words.count(FAILED),
        patient=words.count(RETRY),
        interruptions=words.count(INTERRUPTED),
        waiting_since=next((each.ended for each in outcomes if each.verdict == RETRY), None),
    )


def decide(
    verdict: Verdict,
    before: Past,
    retry: Retry,
    now: float,
    chance: float,
    *,
    stopped: bool = False,
) -> Finish:
    """The verdict's consequence; `chance` is random in [0, 1).

    `retry`: what the rule says. `stopped`: we asked the action to end because the daemon does.
    """
    if verdict.kind is Kind.DONE:
        return Finish(state=State.DONE, outcome=_outcome(verdict, DONE))
    if verdict.kind is Kind.DEAD:
        return _dead(verdict)
    if stopped:
        outcome = _outcome(verdict, STOPPED)
        return Finish(state=State.PENDING, outcome=outcome, counted=False)
    if verdict.interrupted:
        return _interrupted(verdict, before, now, chance)
    if verdict.patient:
        return _patient(verdict, before, retry, now, chance)
    return _failed(verdict, before, retry, now, chance)


def _failed(verdict: Verdict, before: Past, retry: Retry, now: float, chance: float) -> Finish:
    if before.failures + 1 >= retry.attempts:
        return _dead(verdict, f"failed {counted(before.failures + 1, 'time')}")
    delay = retry.delays[min(before.failures, len(retry.delays) - 1)]
    at = now + max(_stretched(delay, chance), verdict.retry_after or 0.0)
    return _again(verdict, FAILED, at)


def _patient(verdict: Verdict, before: Past, retry: Retry, now: float, chance: float) -> Finish:
    since = now if before.waiting_since is None else before.waiting_since
    if now - since >= retry.patience:
        return _dead(verdict, f"asked for another try for {span(retry.patience)}")
    return _again(verdict, RETRY, now + _stretched(_doubled(before.patient), chance))


def _interrupted(verdict: Verdict, before: Past, now: float, chance: float) -> Finish:
    if before.interruptions + 1 >= LOST_LIMIT:
        return _dead(verdict, f"interrupted {LOST_LIMIT} times")
    at = now + _stretched(_doubled(before.interruptions), chance)
    return _again(verdict, INTERRUPTED, at, counted=False)


def _doubled(times: int) -> float:
    """5 s, doubled so many times, at most 1 h."""
    return min(PATIENT_FIRST * 2.0 ** min(times, 30), PATIENT_MOST)


def _stretched(delay: float, chance: float) -> float:
    return delay * (1 + JITTER * chance)


def _again(verdict: Verdict, word: str, at: float, *, counted: bool = True) -> Finish:
    outcome = _outcome(verdict, word)
    return Finish(state=State.RETRYING, outcome=outcome, retry_at=at, counted=counted)


def _dead(verdict: Verdict, why: str = "") -> Finish:
    return Finish(state=State.DEAD, outcome=_outcome(verdict, DEAD, why))


def _outcome(verdict: Verdict, word: str, why: str = "") -> Outcome:
    reason = f"{why}; {verdict.reason}" if why else verdict.reason
    return Outcome(
        started=verdict.started,
        ended=verdict.ended,
        verdict=word,
        reason=_storable(reason),
        exit_status=verdict.exit_status,
        signal=verdict.signal,
        output=verdict.output,
        truncated=verdict.truncated,
    )


def _storable(text: str) -> str:
    r"""As every store can keep it: no half of a character (a surrogate).

    >>> _storable("no such file: caf\udce9 \u20ac") == "no such file: caf? \u20ac"
    True
    """
    return text.encode("utf-8", "replace").decode("utf-8")
