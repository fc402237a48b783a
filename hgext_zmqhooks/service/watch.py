"""Files that a daemon takes up while it runs: keys, roots, revocation lists.

Once a second each file is looked at (inode, size, times; nothing is opened), and at SIGHUP. What
changed is read again; what then cannot be used leaves the old in force. The log tells of both:

    INFO watch: taken up what=key files=/etc/zmqhooks/ci.key
    ERROR watch: not taken up; what was in force stays so what=trust reason=… hint=…

Whatever failed is tried again as soon as anything else changed, since a new key may have to wait
for the root that signed it, and every minute, since a store may have been away.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import ServiceError
from .life import ROOT, Bell, Stop, fields

PERIOD = 1.0
"""Seconds between two looks."""
AGAIN = 60
"""Looks after which what failed is tried again."""

Seen = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Part:
    """Files that belong together, and what takes them up.

    `name`: for the log. `files`: their paths. `load`: reads them, and changes nothing unless all is
    well with them; whether they say anything else than before. ServiceError for what is wrong.
    """

    name: str
    files: tuple[Path, ...]
    load: Callable[[], bool]


class Watch:
    """Looks after `parts`, in their order; `hangup` is rung for an immediate look.

    The first look reads all of them, so that no change since the start is missed.
    """

    def __init__(self, parts: Iterable[Part], hangup: Bell) -> None:
        self._parts = tuple(parts)
        self._hangup = hangup
        self._seen: list[tuple[Seen, ...] | None] = [None] * len(self._parts)
        self._failed: dict[int, str] = {}
        self._looks = 0
        self._log = logging.getLogger(f"{ROOT}.watch")

    def run(self, stop: Stop) -> None:
        """Look until `stop`."""
        self.look()
        while not stop.is_set():
            asked = self._hangup.wait(stop, PERIOD)
            if asked:
                self._log.info("reading keys, roots and revocation lists again")
            if not stop.is_set():
                self.look(everything=asked)

    def look(self, *, everything: bool = False) -> None:
        """Take up what changed, or everything."""
        before = self._seen
        # Looked at before it is read: what changes meanwhile is seen the next time.
        self._seen = [tuple(map(_look, part.files)) for part in self._parts]
        changed = {
            at
            for at, (old, new) in enumerate(zip(before, self._seen, strict=True))
            if everything or old != new
        }
        self._looks += 1
        if changed or (self._failed and self._looks >= AGAIN):
            self._looks = 0
            self._take_up(changed)

    def _take_up(self, changed: set[int]) -> None:
        """Also what failed before, of which it is told again only where the reason is new."""
        before, self._failed = self._failed, {}
        for number in sorted(changed | before.keys()):
            part = self._parts[number]
            try:
                if part.load():
                    said = fields(what=part.name, files=" ".join(map(str, part.files)))
                    self._log.info("taken up", extra=said)
            except ServiceError as error:
                self._failed[number] = str(error)
                if number in changed or before[number] != str(error):
                    said = fields(what=part.name, reason=error, hint=error.hint)
                    self._log.error("not taken up; what was in force stays so", extra=said)


def _look(path: Path) -> Seen:
    """What tells that a file was written, replaced, or given other rights; None without one."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
