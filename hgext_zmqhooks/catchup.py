"""What a journal does not know yet: baselines of a new one, and what happened behind its back.

An hg without the extension, a strip that was cut short, a local clone: none of them writes events.
Each transaction compares the mark of the last one with the changelog (two numbers); only where
they differ is the whole journal folded and compared here.
"""

from collections.abc import Iterator
from typing import Any

from . import compat
from .changes import Gathering, Stamp, View, branch_name, hexnode
from .wire.events import BASELINE, Draft, Heads, PhaseMove, Summary
from .wire.fold import Fold

MOST = 1000
"""Changesets that a catch-up lists; of more it gives a summary per branch."""


def baselines(repo: Any, branches: compat.Branches, stamp: Stamp) -> Iterator[Draft]:
    """One draft per existing branch: how it stands, instead of all its history."""
    view = View(repo)
    counts = _counts(view)
    for name in branches.entries:
        branch = branch_name(view, name, branches)
        if branch is not None:
            yield stamp.draft(
                branch,
                type=BASELINE,
                pusher=None,
                summary=_summary(branches, name, counts.get(name, 0)),
            )


def _summary(branches: compat.Branches, name: bytes, changesets: int) -> Summary:
    tip = branches.tip(name)
    assert tip is not None, "a branch of the map has heads"
    return Summary(
        tip=hexnode(tip),
        heads=tuple(map(hexnode, branches.heads(name))),
        changesets=changesets,
    )


def _counts(view: View) -> dict[bytes, int]:
    """Served changesets per branch, in the names of the branch map."""
    info = view.repo.revbranchcache().branchinfo
    counts: dict[bytes, int] = {}
    for rev in view.changelog.revs():
        if rev not in view.hidden:
            branch = info(rev)[0]
            counts[branch] = counts.get(branch, 0) + 1
    return counts


class Differences:
    """The fold of a journal against the changelog.

    `missing`: served revisions that no event announced; `gone`: announced nodes (hex) that are not
    there any more; `secret`: announced revisions that are secret now. Obsolete changesets are not
    compared: whether one is visible depends on who looks (a working copy's parent is).
    """

    def __init__(self, view: View, fold: Fold) -> None:
        present: list[int] = []
        self.gone: list[str] = []
        for node in fold.live:
            rev = view.rev(bytes.fromhex(node))
            if rev is None:
                self.gone.append(node)
            else:
                present.append(rev)
        covered = view.changelog.ancestors(present, inclusive=True)
        covered = set(covered)
        obsolete = view.repo.revs(b"obsolete()")
        self.missing = [
            rev
            for rev in view.changelog.revs()
            if rev not in covered and rev not in view.hidden and rev not in obsolete
        ]
        self.secret = sorted(rev for rev in covered & view.hidden if not view.shown(rev))

    def __bool__(self) -> bool:
        return bool(self.missing or self.gone or self.secret)


def drafts(
    repo: Any,
    fold: Fold,
    undone: dict[str, list[str]],
    branches: compat.Branches,
    stamp: Stamp,
    *,
    whole: bool,
) -> Iterator[Draft]:
    """The drafts that make `fold` fit the served view as it is now.

    `undone`: branch -> nodes of which a rollback cut off the events; readers may know them.
    `whole`: the journal lost all it held, so each branch gets a summary and no list.
    """
    view = View(repo)
    found = Differences(view, fold)
    gathered = Gathering()
    summarised: set[str] = set()
    if whole or len(found.missing) > MOST:
        summarised = {view.branch(rev) for rev in found.missing}
        for branch in summarised:
            gathered.touch(branch)
    else:
        for rev in found.missing:
            branch, item = view.changeset(rev)
            gathered.add(branch, "changesets", item)
    for rev in found.secret:
        move = PhaseMove(hexnode(view.changelog.node(rev)), "draft", "secret")
        gathered.add(view.branch(rev), "phases", move)
    for node in found.gone:
        gathered.add(fold.live[node], "removed", node)
    told = _undone(view, undone, found, gathered)
    counts = _counts(view) if summarised else {}
    for branch, lists in gathered.branches.items():
        name = compat.local(branch.encode())
        summary = None
        if branch in summarised and branches.tip(name):
            summary = _summary(branches, name, counts.get(name, 0))
        yield stamp.draft(
            branch,
            origin="catchup",
            pusher=None,
            heads=_heads(branches, name, fold.heads.get(branch, set()), whole=branch in told),
            summary=summary,
            lists=lists,
        )


def _undone(
    view: View, undone: dict[str, list[str]], found: Differences, gathered: Gathering
) -> set[str]:
    """Tell how it is with what a rollback cut off; return the branches concerned.

    What came is gone, and what became secret or obsolete is there again.
    """
    known, told = {*found.gone, *found.missing}, set()
    for branch, nodes in undone.items():
        for node in dict.fromkeys(nodes):
            rev = view.rev(bytes.fromhex(node))
            if rev is None and node not in known:
                gathered.add(branch, "removed", node)
                told.add(branch)
            elif rev is not None and rev not in known and rev not in view.hidden:
                gathered.add(branch, "changesets", view.changeset(rev)[1])
                told.add(branch)
    return told


def _heads(branches: compat.Branches, name: bytes, known: set[str], *, whole: bool) -> Heads:
    """Heads against what the fold holds; all of them where readers may hold something else."""
    open_now = [hexnode(node) for node in branches.open_heads(name)]
    every = {hexnode(node) for node in branches.heads(name)}
    tip = branches.tip(name)
    return Heads(
        tip=hexnode(tip) if tip else None,
        count=len(open_now),
        added=tuple(node for node in open_now if whole or node not in known),
        removed=tuple(sorted(known - every)),
    )
