"""Counters that any thread may raise and the status commands read."""

import threading
from collections import Counter

MAX_NAMES = 4096
"""Kinds come from our code, not from peers; the bound keeps a mistake from growing memory."""


class Counters:
    """Named counters, each with an optional kind: ("refused", "bad-signature") -> 3."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, kind: str = "", count: int = 1) -> None:
        """Raise a counter."""
        key = (name, kind)
        with self._lock:
            if key not in self._counts and len(self._counts) >= MAX_NAMES:
                key = (name, "other")
            self._counts[key] += count

    def get(self, name: str, kind: str = "") -> int:
        """The present value of one counter."""
        with self._lock:
            return self._counts[(name, kind)]

    def snapshot(self) -> dict[tuple[str, str], int]:
        """All counters at one moment, by (name, kind)."""
        with self._lock:
            return dict(self._counts)
