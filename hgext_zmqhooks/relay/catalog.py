"""Which repositories a relay serves: the ones under its globs, found again every 30 s.

In a glob `*` is any run of characters within one folder's name, `**` any run across folders, `?`
one character. `/srv/hg/**` is every repository below /srv/hg, also one inside another.

Walking a large tree takes long, and a relay must answer within a live timeout. So a scan is a
generator that the loop advances by a few milliseconds per turn; the first one is done at once,
because a WELCOME must list everything.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SCAN_SECONDS = 30.0
RESCAN_SECONDS = 1.0
"""Least time between scans that live copies of unknown journals ask for."""
MAX_REPOSITORIES = 20_000

_GLOB = re.compile(r"\*\*|\*|\?")


@dataclass(frozen=True, slots=True)
class Found:
    """A repository: its folder, and the store it keeps its history in (another's, if shared)."""

    path: str
    store: str


def matcher(pattern: str) -> re.Pattern[str]:
    """What a glob matches, as a whole.

    >>> bool(matcher("/srv/hg/**").fullmatch("/srv/hg/team/app"))
    True
    >>> bool(matcher("/srv/hg/*").fullmatch("/srv/hg/team/app"))
    False
    """
    wild = {"*": "[^/]*", "**": ".*", "?": "[^/]"}
    out, end = [], 0
    for match in _GLOB.finditer(pattern):
        out += [re.escape(pattern[end : match.start()]), wild[match[0]]]
        end = match.end()
    return re.compile("".join(out) + re.escape(pattern[end:]), re.DOTALL)


def base(pattern: str) -> str:
    """The deepest folder above everything that a glob can match.

    >>> base("/srv/hg/*/app"), base("/srv/hg/app")
    ('/srv/hg', '/srv/hg/app')
    """
    literal = _GLOB.split(pattern, maxsplit=1)[0]
    return literal if literal == pattern else literal[: literal.rfind("/")] or "/"


def depth(pattern: str) -> int | None:
    """How many folders below its base a glob reaches; None: any number."""
    return None if "**" in pattern else pattern.count("/") - base(pattern).count("/")


def ignore(folder: str) -> None:
    """What a scan does with folders that it cannot look into, unless told otherwise."""


def walk(pattern: str, closed: Callable[[str], object] = ignore) -> Iterator[Found | None]:
    """Repositories that a glob matches, in the order of their paths; None where time passed.

    `closed` is told the folders that could not be looked into.
    """
    wanted, root = matcher(pattern.rstrip("/")), base(pattern.rstrip("/"))
    pending = [(root, 0)]
    deepest = depth(pattern.rstrip("/"))
    while pending:
        folder, level = pending.pop()
        yield None
        try:
            with os.scandir(folder) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=e.name == ".hg")]
        except OSError:  # gone, or closed to us: `zmq-relay check` says which
            closed(folder)
            continue
        if ".hg" in names and wanted.fullmatch(folder):
            yield Found(folder, store_of(folder))
        if deepest is None or level < deepest:
            below = sorted((name for name in names if name != ".hg"), reverse=True)
            pending += [(os.path.join(folder, name), level + 1) for name in below]  # noqa: PTH118


def store_of(folder: str) -> str:
    """The store of a repository: its own, or that of the repository it shares."""
    own = os.path.join(folder, ".hg")  # noqa: PTH118
    try:
        shared = Path(own, "sharedpath").read_bytes().rstrip(b"\n")
    except OSError:
        return os.path.realpath(os.path.join(own, "store"))  # noqa: PTH118
    return os.path.realpath(os.path.join(own, os.fsdecode(shared), "store"))  # noqa: PTH118


def scan(
    patterns: tuple[str, ...], closed: Callable[[str], object] = ignore
) -> Iterator[Found | None]:
    """Every repository under the globs once, shared stores once; None where time passed.

    `closed` is told the folders that could not be looked into.
    """
    stores: set[str] = set()
    for pattern in patterns:
        for found in walk(pattern, closed):
            if found is None:
                yield None
            elif found.store not in stores:
                if len(stores) >= MAX_REPOSITORIES:
                    return
                stores.add(found.store)
                yield found


def without_repository(patterns: tuple[str, ...]) -> list[str]:
    """The globs under which there is none: most often they are misspelt."""
    return [pattern for pattern in patterns if not any(walk(pattern))]


class Scanner:
    """Scans again and again, a little at a time.

    `step` returns the result of a scan when one has just been completed. A scan that takes long
    is repeated less often: at most a twentieth of the time is spent on it.
    """

    def __init__(
        self, patterns: tuple[str, ...], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patterns = patterns
        self._clock = clock
        self._running: Iterator[Found | None] | None = None
        self._found: list[Found] = []
        self._spent = 0.0
        self.due = clock()
        """When the next step is worth while."""
        self._earliest = self.due

    def ask(self) -> None:
        """Scan soon: something unknown was heard of."""
        if self._running is None:
            self.due = min(self.due, self._earliest)

    def step(self, budget: float) -> list[Found] | None:
        """Scan for at most about `budget` seconds, if it is time to."""
        start = self._clock()
        if start < self.due:
            return None
        if self._running is None:
            self._running, self._found, self._spent = scan(self._patterns), [], 0.0
        for found in self._running:
            if found is not None:
                self._found.append(found)
            elif self._clock() - start > budget:
                self._spent += self._clock() - start
                return None
        self._spent += self._clock() - start
        self._running = None
        pause = 20 * self._spent
        self.due = start + max(SCAN_SECONDS, pause)
        self._earliest = start + max(RESCAN_SECONDS, pause)
        return self._found
