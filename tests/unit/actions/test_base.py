"""What tells an attempt to end: from any thread, at once or by a deadline."""

import select

from hgext_zmqhooks.service.clock import boot_clock
from subscriber.actions.base import Cancel


def readable(cancel: Cancel) -> bool:
    return bool(select.select([cancel], [], [], 0)[0])


def test_every_word_wakes_who_polls_until_it_is_heard() -> None:
    with Cancel() as cancel:
        assert not readable(cancel)

        cancel.until(boot_clock() + 5)
        assert readable(cancel)
        assert 4 < cancel.left <= 5

        cancel.hear()
        assert not readable(cancel)
        cancel.hear()

        cancel.set("enough")
        cancel.set("too late to be heard")
        assert readable(cancel)
        assert cancel.reason == "enough"


def test_without_a_word_there_is_no_end() -> None:
    with Cancel() as cancel:
        assert (cancel.reason, cancel.deadline, cancel.left) == (None, None, float("inf"))


def test_the_newest_deadline_counts_and_many_are_not_waited_for() -> None:
    with Cancel() as cancel:
        for number in range(100_000):  # more than the pipe holds
            cancel.until(float(number))

        assert cancel.deadline == 99_999.0


def test_after_the_end_nothing_is_heard() -> None:
    cancel = Cancel()
    cancel.close()
    cancel.close()

    cancel.set("late")
    cancel.until(1.0)
    cancel.hear()

    assert (cancel.reason, cancel.deadline) == (None, None)
