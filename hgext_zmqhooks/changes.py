"""What a transaction did to the served view, as drafts of events: one per branch.

Runs inside the transaction, in a finalizer of the second round: the changelog is written, phases
and bookmarks are decided, nothing is visible to others yet. Items become bytes one by one, so that
a push of 20,000 changesets does not hold them twice.

Where an item belongs: a changeset, phase move, obsoleted or removed changeset to its own branch, a
bookmark to the branch of its new target, or of the old one when it was deleted. Changesets that
became visible (secret ones, or obsolete ones that are public now) make a draft of their own,
`revealed`, before the others.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

from mercurial import phases
from mercurial.node import hex as hexbytes
from mercurial.node import nullrev

from . import compat
from .wire import split
from .wire.events import (
    Changeset,
    Draft,
    Heads,
    Item,
    Move,
    Obsoleted,
    PhaseMove,
    Pusher,
    Transaction,
    encode_item,
)

LARGEST_CHANGESET = split.LIMIT * 3 // 4
"""Bytes of one changeset's item; the rest of an event is for its heads and its envelope."""

_PHASES = {phases.public: "public", phases.draft: "draft"}


class Stamp(NamedTuple):
    """What all events of one transaction have in common."""

    time: str
    transaction: Transaction
    pusher: Pusher | None
    traceparent: str | None

    def draft(self, branch: str, **fields: Any) -> Draft:
        """A draft with this stamp."""
        fields.setdefault("pusher", self.pusher)
        return Draft(
            branch=branch,
            time=self.time,
            transaction=self.transaction,
            traceparent=self.traceparent,
            **fields,
        )


class Snapshot(NamedTuple):
    """The served view before a transaction.

    `revisions`: length of the unfiltered changelog; `hidden`: revisions that are not served.
    """

    revisions: int
    hidden: frozenset[int]
    branches: compat.Branches

    @classmethod
    def of(cls, repo: Any) -> "Snapshot":
        """How the served view is now."""
        served = repo.filtered(b"served")
        return cls(len(repo.unfiltered()), served.changelog.filteredrevs, compat.branches(served))


class Stripped(NamedTuple):
    """A strip that is going on in this process.

    `before`: the view before it; `removed`: branch -> served nodes (hex) that go for good;
    `obsolete`: nodes that were hidden, and not because they are secret.
    """

    before: Snapshot
    removed: dict[str, list[str]]
    obsolete: frozenset[bytes]

    def branch(self, node: str) -> str | None:
        """The branch of a removed node (hex), None for another one."""
        return next((name for name, nodes in self.removed.items() if node in nodes), None)

    def afterwards(self, repo: Any) -> Snapshot:
        """The view when the strip's last transaction begins, which only moves bookmarks.

        What is hidden cannot be asked there: bookmarks still name what is gone, and Mercurial
        looks for it. Nothing needs it either: every bookmark that moves comes from what is gone.
        """
        return Snapshot(len(repo.unfiltered()), frozenset(), self.before.branches)


def stripped(repo: Any, nodes: list[bytes]) -> Stripped:
    """What `repair.strip` of these nodes will take away from the served view."""
    view, before = View(repo), Snapshot.of(repo)
    roots = [view.changelog.rev(node) for node in nodes]
    removed: dict[str, list[str]] = {}
    for rev in sorted({*roots, *view.changelog.descendants(roots)}):
        if rev not in before.hidden:
            removed.setdefault(view.branch(rev), []).append(hexnode(view.changelog.node(rev)))
    node = view.changelog.node
    obsolete = frozenset(node(rev) for rev in before.hidden if view.shown(rev))
    return Stripped(before, removed, obsolete)


def now() -> str:
    """RFC 3339 in UTC with microseconds, as events carry it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def hexnode(node: bytes) -> str:
    """40 hex digits as str."""
    return hexbytes(node).decode("ascii")


def date(when: tuple[float, int]) -> str:
    """RFC 3339 of Mercurial's (unix seconds, seconds west of UTC), with the author's offset."""
    seconds, west = when
    try:
        zone = timezone(timedelta(minutes=-round(west / 60)))
        moment = datetime.fromtimestamp(int(seconds), zone)
    except (ValueError, OverflowError, OSError):  # what no calendar has
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat()


class View:
    """Questions about changesets of the unfiltered repository, the served view beside it."""

    def __init__(self, repo: Any) -> None:
        self.repo = repo.unfiltered()
        self.repo.invalidatevolatilesets()
        self.changelog = self.repo.changelog
        self.served = self.repo.filtered(b"served")
        self.hidden = self.served.changelog.filteredrevs

    def __len__(self) -> int:
        return len(self.changelog)

    def rev(self, node: bytes) -> int | None:
        """The revision of a binary node, None if it is not in the changelog."""
        return self.changelog.index.get_rev(node)

    def phase(self, rev: int) -> str:
        """public, draft, or secret for everything beyond."""
        return _PHASES.get(self.repo._phasecache.phase(self.repo, rev), "secret")

    def shown(self, rev: int) -> bool:
        """Whether the revision may be spoken of: not secret. Obsolete ones may."""
        return self.phase(rev) != "secret"

    def branch(self, rev: int) -> str:
        """The branch as the changelog has it."""
        return compat.text(self.changelog.changelogrevision(rev).extra[b"branch"])

    def closes(self, rev: int) -> bool:
        """Whether the revision closes its branch."""
        return b"close" in self.changelog.changelogrevision(rev).extra

    def changeset(self, rev: int) -> tuple[str, bytes]:
        """(branch, encoded item) of a revision; the changelog is read once."""
        log = self.changelog
        revision = log.changelogrevision(rev)
        extra = revision.extra
        user, description = compat.raw_texts(revision)
        topic = extra.get(b"topic")
        item = Changeset(
            node=hexnode(log.node(rev)),
            parents=tuple(hexnode(log.node(p)) for p in log.parentrevs(rev) if p != nullrev),
            user=compat.text(user),
            date=date(revision.date),
            description=compat.text(description),
            phase=self.phase(rev),
            topic=compat.text(topic) if topic else None,
            closes_branch=b"close" in extra,
            files=tuple(map(compat.text, revision.files)),
        )
        return compat.text(extra[b"branch"]), split.shrink(item, LARGEST_CHANGESET)


class Gathering:
    """Encoded items by branch and list, in the order in which they were found."""

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, list[bytes]]] = {}

    def add(self, branch: str, name: str, item: Item | bytes) -> None:
        """Put an item, encoded or not, into the list `name` of the branch."""
        encoded = item if isinstance(item, bytes) else encode_item(item)
        self.touch(branch).setdefault(name, []).append(encoded)

    def touch(self, branch: str) -> dict[str, list[bytes]]:
        """The lists of the branch, which gets a draft even if they stay empty."""
        return self.branches.setdefault(branch, {})


def drafts(
    repo: Any, tr: Any, before: Snapshot, stamp: Stamp, stripped: Stripped | None = None
) -> Iterator[Draft]:
    """The drafts of what `tr` did since `before`; `stripped` ends with it, if given."""
    view = View(repo)
    revealed, gathered = Gathering(), Gathering()
    shown, turned = _phase_moves(view, tr, before, gathered)
    if stripped is not None:
        shown |= _revived(view, stripped)
    shown_nodes = {hexnode(view.changelog.node(rev)) for rev in shown}
    for rev in sorted(shown):
        revealed.add(*_listed(view, rev))
    for rev in range(tr.changes[b"origrepolen"], len(view)):
        if rev not in view.hidden:
            gathered.add(*_listed(view, rev))
    targets = _Targets(view, before, stripped)
    _bookmarks(targets, _bookmark_moves(view, tr, shown, turned), gathered)
    _obsoleted(view, tr, before, gathered)
    if stripped is not None:
        before = stripped.before
        for branch, nodes in stripped.removed.items():
            for node in nodes:
                gathered.add(branch, "removed", node)
    after = compat.branches(view.served)
    for name in after.changed(before.branches):
        branch = branch_name(view, name, after, before.branches)
        if branch is not None and branch not in revealed.branches:
            gathered.touch(branch)
    for gathering, origin in ((revealed, "revealed"), (gathered, "live")):
        for branch, lists in gathering.branches.items():
            found = heads(branch, before.branches, after)
            if branch in revealed.branches and branch in gathered.branches:
                found = _shared(found, shown_nodes, first=gathering is revealed)
            yield stamp.draft(branch, origin=origin, heads=found, lists=lists)


def _shared(found: Heads, nodes: set[str], *, first: bool) -> Heads:
    """Of two drafts of one branch each names its own new heads; the second those that went."""
    if first:
        return replace(found, added=tuple(n for n in found.added if n in nodes), removed=())
    return replace(found, added=tuple(n for n in found.added if n not in nodes))


def branch_name(view: View, name: bytes, *maps: compat.Branches) -> str | None:
    """The raw name of a branch of the branch map, None when none of its heads is there any more."""
    for branches in maps:
        for node in branches.heads(name):
            rev = view.rev(node)
            if rev is not None:
                return view.branch(rev)
    return None


def heads(branch: str, before: compat.Branches, after: compat.Branches) -> Heads:
    """How the open heads of a branch changed between two branch maps."""
    name = compat.local(branch.encode())
    old, new = before.open_heads(name), after.open_heads(name)
    tip = after.tip(name)
    return Heads(
        tip=hexnode(tip) if tip else None,
        count=len(new),
        added=tuple(hexnode(node) for node in new if node not in old),
        removed=tuple(hexnode(node) for node in old if node not in new),
    )


def _listed(view: View, rev: int) -> tuple[str, str, bytes]:
    branch, item = view.changeset(rev)
    return branch, "changesets", item


def _phase_moves(
    view: View, tr: Any, before: Snapshot, gathered: Gathering
) -> tuple[set[int], set[int]]:
    """Announce moves of served changesets; return those that became visible, and secret."""
    revealed, secret = set(), set()
    for revs, (old, new) in tr.changes[b"phases"]:
        for rev in revs:
            if rev >= tr.changes[b"origrepolen"] or old is None or rev >= len(view):
                continue
            if old not in _PHASES:
                if new in _PHASES and rev not in view.hidden:
                    revealed.add(rev)
            elif rev in before.hidden:
                if rev not in view.hidden:  # obsolete until it became public
                    revealed.add(rev)
            else:
                if new not in _PHASES:
                    secret.add(rev)
                item = PhaseMove(
                    hexnode(view.changelog.node(rev)), _PHASES[old], _PHASES.get(new, "secret")
                )
                gathered.add(view.branch(rev), "phases", item)
    return revealed, secret


def _revived(view: View, stripped: Stripped) -> set[int]:
    """Changesets that are visible again: a strip takes the markers of what it removes with it."""
    found = map(view.rev, stripped.obsolete)
    return {rev for rev in found if rev is not None and rev not in view.hidden}


def _bookmark_moves(
    view: View, tr: Any, revealed: set[int], secret: set[int]
) -> dict[bytes, tuple[bytes | None, bytes | None]]:
    """Bookmarks that moved, or whose changeset came into view or left it."""
    moves = dict(tr.changes[b"bookmarks"])
    for rev in revealed | secret:
        node = view.changelog.node(rev)
        for name in view.repo._bookmarks.names(node):
            moves.setdefault(name, (node, node))
    return moves


class _Targets(NamedTuple):
    """Where a bookmark points, as far as others may know: (hex node, branch), or two None."""

    view: View
    before: Snapshot
    stripped: Stripped | None

    def old(self, node: bytes | None) -> tuple[str | None, str | None]:
        """The target before the transaction; unknown where it was not served."""
        if node is None:
            return None, None
        rev = self.view.rev(node)
        if rev is None:
            branch = self.stripped.branch(hexnode(node)) if self.stripped else None
            return (hexnode(node), branch) if branch else (None, None)
        if rev >= self.before.revisions or rev in self.before.hidden:
            return None, None
        return hexnode(node), self.view.branch(rev)

    def new(self, node: bytes | None) -> tuple[str | None, str | None]:
        """The target now; a bookmark on a secret changeset does not exist for others."""
        rev = None if node is None else self.view.rev(node)
        if rev is None or not self.view.shown(rev):
            return None, None
        return hexnode(node), self.view.branch(rev)


def _bookmarks(
    targets: _Targets,
    moves: dict[bytes, tuple[bytes | None, bytes | None]],
    gathered: Gathering,
) -> None:
    for name, (old, new) in sorted(moves.items()):
        was, left = targets.old(old)
        now_at, entered = targets.new(new)
        branch = entered or left
        if was != now_at and branch:
            gathered.add(branch, "bookmarks", Move(compat.stored(name), was, now_at))


def _obsoleted(view: View, tr: Any, before: Snapshot, gathered: Gathering) -> None:
    """Changesets that got a marker; secret ones and secret successors stay untold."""
    for marker in sorted(tr.changes[b"obsmarkers"], key=lambda m: (m[0], m[1])):
        rev = view.rev(marker[0])
        if rev is None or rev in before.hidden or not view.shown(rev):
            continue
        gathered.add(view.branch(rev), "obsoleted", obsoleted(view, marker))


def obsoleted(view: View, marker: tuple[Any, ...]) -> Obsoleted:
    """The item of an obsolescence marker."""
    node, successors, _flags, metadata, when = marker[:5]
    facts = dict(metadata)
    known = [(view.rev(successor), successor) for successor in successors]
    return Obsoleted(
        node=hexnode(node),
        successors=tuple(hexnode(s) for rev, s in known if rev is None or view.shown(rev)),
        operation=_fact(facts.get(b"operation")),
        user=_fact(facts.get(b"user")),
        date=date(when),
    )


def _fact(raw: bytes | None) -> str | None:
    return compat.text(raw) if raw else None
