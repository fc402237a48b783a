"""The whole history as events, for a journal that begins with it instead of with baselines.

Served changesets come in the order of their revisions, so parents before children, in batches: of
each batch every branch gets a draft. Only the last draft of a branch says how its heads stand:
those in between are nobody's any more. Bookmarks and tags are not told, as baselines do not.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import compat
from .changes import Gathering, Stamp, View, hexnode
from .wire.events import Draft, Heads

BATCH = 1000
"""Changesets of one batch at most."""
BATCH_BYTES = 1 << 20
"""Bytes of changesets after which a batch ends: memory does not grow with the history."""


def drafts(repo: Any, stamp: Stamp) -> Iterator[Draft]:
    """All drafts; made one by one, while they are written."""
    view = View(repo)
    branches = compat.branches(view.served)
    revs = [rev for rev in view.changelog.revs() if rev not in view.hidden]
    left = Counter(map(view.branch, revs))
    for gathered in _batches(view, revs):
        for branch, lists in gathered.branches.items():
            left[branch] -= len(lists["changesets"])
            yield stamp.draft(
                branch,
                origin="catchup",
                pusher=None,
                heads=None if left[branch] else _heads(branches, branch),
                lists=lists,
            )


def _batches(view: View, revs: list[int]) -> Iterator[Gathering]:
    gathered, count, size = Gathering(), 0, 0
    for rev in revs:
        branch, item = view.changeset(rev)
        gathered.add(branch, "changesets", item)
        count, size = count + 1, size + len(item)
        if count >= BATCH or size >= BATCH_BYTES:
            yield gathered
            gathered, count, size = Gathering(), 0, 0
    if count:
        yield gathered


def _heads(branches: compat.Branches, branch: str) -> Heads:
    """All open heads of a branch, as they came into being."""
    name = compat.local(branch.encode())
    heads = tuple(map(hexnode, branches.open_heads(name)))
    tip = branches.tip(name)
    return Heads(tip=hexnode(tip) if tip else None, count=len(heads), added=heads)
