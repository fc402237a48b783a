"""Times as people type them: an age, or a moment of the calendar.

>>> moment_of("2h", 10_000.0)
2800.0
>>> moment_of("2026-11-21T10:15Z", 0.0) == moment_of("2026-11-21 11:15+01:00", 0.0)
True

Without a zone it is the time of this host's clock, and a day without a time is its beginning.
"""

import re
from datetime import datetime

from hgext_zmqhooks.service.config import duration

_AGE = re.compile(r"[0-9.]+ *[a-z]+")


def moment_of(text: str, now: float) -> float:
    """Unix seconds; `now`: from when ages count back. ValueError says what may be written.

    >>> moment_of("soon", 0.0)
    Traceback (most recent call last):
    ...
    ValueError: neither an age such as 30m, 2h or 3d nor a time such as 2026-11-21T10:00Z
    """
    try:
        if _AGE.fullmatch(text):
            return now - duration(text)
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        reason = "neither an age such as 30m, 2h or 3d nor a time such as 2026-11-21T10:00Z"
        raise ValueError(reason) from None
