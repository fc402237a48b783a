"""What becomes of a delivery after an attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriber.actions.base import Kind, Verdict
from subscriber.engine.schedule import DEFAULT, WEBHOOKS, Past, Retry, decide, past
from subscriber.store.values import LOST_LIMIT, Receipt, State

NOW = 2_000_000_000.0


def verdict(kind=Kind.RETRY, reason="exit status 1", **more):
    return Verdict(kind, reason, NOW - 2, NOW - 1, **more)


def after(given, before=None, retry=DEFAULT, chance=0.0, **more):
    return decide(given, before or Past(), retry, NOW, chance, **more)


def delays(given, rounds, retry=DEFAULT):
    """Delays of one verdict again and again, until it is dead."""
    receipts, now, found = [], NOW, []
    for fence in range(1, rounds + 1):
        ended = Verdict(
            given.kind, given.reason, now, now, patient=given.patient, interrupted=given.interrupted
        )
        finish = decide(ended, past(receipts), retry, now, 0.0)
        receipts.append(
            Receipt(
                delivery="x",
                fence=fence,
                attempt=1,
                owner="o",
                outcome=finish.outcome,
                counted=finish.counted,
            )
        )
        if finish.state is State.DEAD:
            return found, finish
        found.append(finish.retry_at - now)
        now = finish.retry_at
    raise AssertionError("it never ends")


def test_the_receipt_says_what_the_action_said():
    finish = after(verdict(Kind.DONE, "exit status 0", exit_status=0, output=b"ok", truncated=True))
    outcome = finish.outcome
    assert (finish.state, finish.counted, finish.retry_at) == (State.DONE, True, None)
    assert (outcome.started, outcome.ended) == (NOW - 2, NOW - 1)
    assert (outcome.verdict, outcome.reason) == ("done", "exit status 0")
    assert (outcome.exit_status, outcome.signal) == (0, None)
    assert (outcome.output, outcome.truncated) == (b"ok", True)


def test_a_reason_that_no_store_can_keep_is_mended():
    finish = after(verdict(reason="cannot open caf\udce9 \N{EURO SIGN}"), retry=Retry(1))
    assert finish.outcome.reason == "failed 1 time; cannot open caf? \N{EURO SIGN}"


def test_dead_is_dead_at_once():
    finish = after(verdict(Kind.DEAD, "exit status 65"))
    assert (finish.state, finish.outcome.verdict) == (State.DEAD, "dead")
    assert finish.outcome.reason == "exit status 65"


class TestFailures:
    def test_four_attempts(self):
        waited, last = delays(verdict(), 10)
        assert waited == [1.0, 10.0, 60.0]
        assert last.outcome.reason == "failed 4 times; exit status 1"
        assert last.counted

    @pytest.mark.parametrize(
        ("attempts", "expected"), [(1, []), (2, [1.0]), (6, [1.0, 10.0, 60.0, 60.0, 60.0])]
    )
    def test_the_limit_is_the_rules(self, attempts, expected):
        waited, _ = delays(verdict(), 10, Retry(attempts))
        assert waited == expected

    def test_the_delays_are_the_rules_and_the_last_one_stays(self):
        waited, last = delays(verdict(), 10, Retry(5, (0.0, 7.0)))
        assert waited == [0.0, 7.0, 7.0, 7.0]
        assert last.outcome.reason == "failed 5 times; exit status 1"

    @pytest.mark.parametrize(("asked", "waited"), [(None, 1.0), (0.5, 1.0), (120.0, 120.0)])
    def test_who_asks_for_a_later_try_gets_it(self, asked, waited):
        assert after(verdict(retry_after=asked)).retry_at == NOW + waited

    def test_webhooks_are_tried_for_three_days(self):
        waited, last = delays(verdict(), 20, WEBHOOKS)
        assert waited == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
        assert last.outcome.reason == "failed 10 times; exit status 1"

    def test_what_was_before_a_redelivery_does_not_count(self):
        given = [
            Receipt(
                delivery="x",
                fence=fence,
                attempt=1,
                owner="o",
                outcome=after(verdict(patient=fence == 1)).outcome,
                counted=True,
            )
            for fence in range(1, 6)
        ]
        assert past(given) == Past(failures=4, patient=1, waiting_since=NOW - 1)
        assert past(given, renewed=4) == Past(failures=1)

    def test_a_signal_is_a_failure(self):
        finish = after(verdict(reason="killed by SIGKILL", signal=9))
        assert (finish.state, finish.outcome.verdict) == (State.RETRYING, "failed")
        assert finish.outcome.signal == 9


class TestPatience:
    def test_doubles_to_an_hour_for_three_days(self):
        waited, last = delays(verdict(patient=True), 200)
        assert waited[:4] == [5.0, 10.0, 20.0, 40.0]
        assert max(waited) == waited[-1] == 3600.0
        assert 3 * 86400 <= sum(waited) < 3 * 86400 + 3600
        assert last.outcome.reason == "asked for another try for 3d; exit status 1"

    def test_may_be_shorter(self):
        waited, last = delays(verdict(patient=True), 200, Retry(patience=60.0))
        assert waited == [5.0, 10.0, 20.0, 40.0]
        assert last.outcome.reason == "asked for another try for 1m; exit status 1"

    def test_may_be_none_at_all(self):
        assert after(verdict(patient=True), retry=Retry(patience=0.0)).state is State.DEAD

    def test_does_not_use_up_the_attempts_for_failures(self):
        finish = after(verdict(), Past(patient=50, waiting_since=NOW - 9999))
        assert finish.state is State.RETRYING
        assert finish.retry_at == NOW + 1.0

    def test_failures_do_not_shorten_it(self):
        finish = after(verdict(patient=True), Past(failures=3))
        assert finish.retry_at == NOW + 5.0


class TestInterruptions:
    def test_are_not_counted_and_ten_at_most(self):
        waited, last = delays(verdict(interrupted=True), 50)
        assert len(waited) == LOST_LIMIT - 1
        assert waited[:3] == [5.0, 10.0, 20.0]
        assert f"{LOST_LIMIT} times" in last.outcome.reason
        assert not after(verdict(interrupted=True)).counted

    def test_by_our_own_stop_go_back_at_once_and_without_limit(self):
        finish = after(verdict(interrupted=True), Past(interruptions=99), stopped=True)
        assert (finish.state, finish.counted, finish.retry_at) == (State.PENDING, False, None)
        assert finish.outcome.verdict == "stopped"

    @pytest.mark.parametrize("kind", [Kind.DONE, Kind.DEAD])
    def test_what_ended_before_our_stop_counts(self, kind):
        assert after(verdict(kind), stopped=True).state == kind.value


@pytest.mark.parametrize("given", [{}, {"patient": True}, {"interrupted": True}])
def test_chance_stretches_a_delay_by_up_to_a_tenth(given):
    least = after(verdict(**given), chance=0.0).retry_at - NOW
    most = after(verdict(**given), chance=0.999999).retry_at - NOW
    assert least < most <= least * 1.1


@given(
    delays=st.lists(st.floats(0, 7 * 86400), min_size=1, max_size=5),
    attempts=st.integers(2, 20),
    failures=st.integers(0, 25),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_every_failure_is_tried_again_in_its_time_or_dead(delays, attempts, failures, chance):
    """Invariant: dead from `attempts` on; before, the table's delay, stretched by 10 % at most."""
    retry = Retry(attempts, tuple(delays))

    finish = after(verdict(), Past(failures=failures), retry, chance)

    if failures + 1 >= attempts:
        assert finish.state is State.DEAD
    else:
        delay = delays[min(failures, len(delays) - 1)]
        assert NOW + delay <= finish.retry_at <= NOW + delay * 1.1 + 1e-6
