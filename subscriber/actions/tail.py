"""The end of what an action was told: errors stand at the end, and a receipt is bounded."""

from dataclasses import dataclass, field

from .base import OUTPUT_LIMIT


@dataclass(slots=True)
class Tail:
    """The last bytes of a stream of any length."""

    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def add(self, chunk: bytes) -> None:
        """What comes next."""
        self.data += chunk
        if len(self.data) > 2 * OUTPUT_LIMIT:
            self._cut()

    def result(self) -> tuple[bytes, bool]:
        """The end, and whether something stood before it."""
        self._cut()
        return bytes(self.data), self.truncated

    def _cut(self) -> None:
        if len(self.data) > OUTPUT_LIMIT:
            self.truncated = True
            del self.data[:-OUTPUT_LIMIT]
