"""Waiting for a condition, with a deadline: the only way in which these tests let time pass."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 40.0
"""Seconds; much more than anything needs on a quiet machine."""

_PAUSE = 0.02


def wait_for(
    condition: Callable[[], T], what: str = "the condition", deadline: float = PATIENCE
) -> T:
    """The first true value of `condition`; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
        time.sleep(_PAUSE)
    return value
