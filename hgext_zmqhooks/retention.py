"""Retention: which events go (`keep`), and what must be known of them when they are gone.

    due       after a transaction, its lock released: has nobody looked for a day?
    prune     under the store lock, with no transaction open

What the dropped events told is kept as a fold, reduced with the changelog: of the changesets of a
branch those without a child among them stand for all, as in a baseline. A node that the changelog
does not know stays, so that `--verify` goes on reporting it.

Mercurial's `undo` names the byte at which `hg rollback` cuts the events file. It is taken away
before the file is exchanged and put back with the new number: a kill between leaves a repository
that cannot roll back, never one that cuts at a wrong place.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from .journal.append import Writer
from .journal.format import EVENTS
from .journal.prune import Limits, Pruning, Told
from .journal.telling import fold
from .settings import Keep

LOOKED = b"zmqhooks-pruned"
"""The file whose time says when an automatic prune last began."""
DAY = 86_400
DROP = 2 << 20
"""Bytes that an automatic prune drops at most: reading what they told takes most of its time."""
KEPT = 256 << 20
"""Bytes that an automatic prune copies at most."""


class Pruned(NamedTuple):
    """What a prune did; all zero where nothing was to go. `large`: a bound left work undone."""

    events: int = 0
    bytes: int = 0
    kept: int = 0
    large: bool = False


def due(repo: Any, now: float) -> bool:
    """Whether nobody has looked for a day; a clock that was set back counts as one."""
    try:
        looked = repo.svfs.stat(LOOKED).st_mtime
    except FileNotFoundError:
        return True
    return bool(abs(now - looked) >= DAY)


def look(repo: Any) -> None:
    """Note that somebody looks now."""
    repo.svfs.write(LOOKED, b"")


def prune(repo: Any, writer: Writer, keep: Keep, now: float, *, bounded: bool) -> Pruned:
    """Drop what `keep` does not keep; the store is locked, and no transaction is open.

    `bounded`: as much as one push may wait for. Raises OSError, and Torn; then nothing was dropped.
    """
    if writer.standing() != "current":
        return Pruned()
    before = None if keep.seconds is None else now - keep.seconds
    pruning = writer.pruning()
    cut = pruning.cut(Limits(before, keep.size, DROP if bounded else None))
    if cut is None:
        return Pruned(kept=pruning.kept)
    if bounded and pruning.head.size - cut > KEPT:
        return Pruned(kept=pruning.kept, large=True)
    had = writer.stat()
    told = reduced(repo, pruning, cut)
    undo = _take_undo(repo)
    pruning.write(cut, told)
    _put_undo(repo, undo, had[1] - writer.stat()[1])
    after = writer.pruning()
    large = bounded and after.begin - pruning.begin >= DROP
    return Pruned(pruning.kept - after.kept, had[0] - writer.stat()[0], after.kept, large)


def reduced(repo: Any, pruning: Pruning, cut: int) -> dict[str, Told]:
    """What the events before `cut` told, by branch."""
    found = fold(pruning.dropped(cut))
    nodes: dict[str, list[str]] = {}
    for node, branch in found.live.items():
        nodes.setdefault(branch, []).append(node)
    log = repo.unfiltered().changelog
    return {
        branch: Told(tuple(_tops(log, nodes.get(branch, ()))), tuple(sorted(heads)))
        for branch, heads in found.heads.items()
    }


def _tops(log: Any, nodes: Iterable[str]) -> Iterable[str]:
    revs = {node: log.index.get_rev(bytes.fromhex(node)) for node in nodes}
    parents = {p for rev in revs.values() if rev is not None for p in log.parentrevs(rev)}
    return [node for node, rev in revs.items() if rev is None or rev not in parents]


def _take_undo(repo: Any) -> list[bytes]:
    lines: list[bytes] = repo.svfs.tryread(b"undo").splitlines(keepends=True)
    if not any(line.startswith(EVENTS.encode() + b"\0") for line in lines):
        return []
    repo.svfs.unlink(b"undo")
    return lines


def _put_undo(repo: Any, lines: list[bytes], shift: int) -> None:
    """The newest transaction with events was kept, so where it began is in the new file too."""
    if not lines:
        return
    with repo.svfs(b"undo", b"wb", atomictemp=True) as file:
        for line in lines:
            name, _nul, offset = line.rstrip(b"\n").partition(b"\0")
            moved = int(offset) + shift if name == EVENTS.encode() else int(offset)
            file.write(b"%s\0%d\n" % (name, moved))
