"""What a fuzz target is: one parser, what must hold for whatever bytes it gets, and where to begin.

    check    takes any bytes and raises only if the invariant, its docstring, does not hold
    seeds    inputs from which mutation starts, taken from the conformance vectors
    mutate   another input of the same structure; None where the bytes have none

libFuzzer's own mutations change bytes blindly: of a signed, framed or encoded form hardly one in a
million comes through. `mutate` takes the form apart, changes a piece and puts it together again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hgext_zmqhooks.wire.errors import Refused

Mutate = Callable[[bytes, Random], bytes | None]


@dataclass(frozen=True)
class Target:
    """See the module. `size`: bytes of the longest input."""

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    mutate: Mutate | None = None
    size: int = 4096

    @property
    def invariant(self) -> str:
        """What must hold, in one sentence."""
        return " ".join((self.check.__doc__ or "").split())


def value_or_refused(read: Callable[..., Any], *data: Any) -> Any:
    """The value, None for Refused; whatever else is raised is a find."""
    try:
        return read(*data)
    except Refused:
        return None


def lines(data: bytes, count: int) -> list[bytes]:
    """The parts of an input that stands for several, at most `count`."""
    return data.split(b"\n", count - 1)
