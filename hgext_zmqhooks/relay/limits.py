"""What a relay grants its peers, as `limits:` in relay.yml says.

limits:
  message: 2MiB        # one frame; who sends more than twice of it is disconnected
  frames: 8            # of one message
  sessions: 8          # at one time under one name
  patterns: 1000       # of one session
  handshakes: 50       # per second and address
  unfinished: 4MiB     # of a message whose end has not come, over tcp
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from ..service.config import Size
from ..wire.errors import Refused
from ..wire.messages import MAX_MESSAGE, MAX_PATTERNS

LEAST_MESSAGE = 65_536
LEAST_FRAMES = 4
"""What every message has."""

Count = Annotated[int, msgspec.Meta(ge=1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds for peers; sizes in bytes."""

    message: Size = Size(MAX_MESSAGE)
    frames: Annotated[int, msgspec.Meta(ge=LEAST_FRAMES)] = 8
    sessions: Count = 8
    patterns: Annotated[int, msgspec.Meta(ge=1, le=MAX_PATTERNS)] = MAX_PATTERNS
    handshakes: Count = 50
    unfinished: Size = Size(4 << 20)

    @property
    def cut(self) -> int:
        """Bytes of a frame from which on libzmq hangs up, without a word: what is shorter is ours.

        We refuse what is longer than `message`, count it, and say why.
        """
        return 2 * self.message

    def check(self, sizes: Sequence[int]) -> None:
        """Refused for a message whose frames have these sizes, before anything is read of it."""
        if len(sizes) > self.frames:
            raise Refused("frames", f"{len(sizes)} frames; `limits.frames` is {self.frames}")
        if max(sizes, default=0) > self.message:
            reason = f"a frame of {max(sizes)} bytes; `limits.message` is {self.message}"
            raise Refused("message", reason)

    def fault(self) -> tuple[str, int, str] | None:
        """The key, the value and the reason of what cannot be; None if all is well."""
        if not LEAST_MESSAGE <= self.message <= MAX_MESSAGE:
            reason = f"a message has at least {LEAST_MESSAGE} and at most {MAX_MESSAGE} bytes"
            return "message", self.message, reason
        if self.unfinished < self.message:
            return "unfinished", self.unfinished, f"less than `message`, {self.message} bytes"
        return None
