"""The verb `audit`: what was received of a repository, against what the repository has.

Everything stored of it is folded into the heads of each branch, and compared with the heads that
Mercurial itself serves. So events that a relay keeps to itself show, the newest ones too, unless
they changed no head (bookmarks, tags, phases). Each followed branch is

    equal      the heads are the same
    behind     changesets are there that no event told of: `missing` names them
    ahead      events told of heads that the repository does not have: `unknown` names them
    diverged   both
    unread     nothing was received, and reading began in the middle (`start`)

Where reading began in the middle, heads that are older than that are not known by name; then the
newest head and the number of heads must fit.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hgext_zmqhooks.service.errors import EXIT, ServiceError
from hgext_zmqhooks.service.words import counted
from hgext_zmqhooks.wire import events, topics
from hgext_zmqhooks.wire.events import Event
from hgext_zmqhooks.wire.fold import Fold
from subscriber.store.base import MAX_LIST, Reader
from subscriber.store.values import JournalRow
from subscriber.views import Printer

EQUAL, BEHIND, AHEAD, DIVERGED, UNREAD = "equal", "behind", "ahead", "diverged", "unread"
SHOWN = 10
"""Nodes in a line for people; `--json` has all that were found."""
LOOKS = 5
"""How often the repository is asked again because it changed meanwhile."""

Wants = Callable[[str], bool]


class Served(Protocol):
    """What `repository.Repository` tells; see there."""

    def heads(self) -> Mapping[str, tuple[str, ...]]:
        """Open heads by branch."""

    def present(self, nodes: Iterable[str]) -> set[str]:
        """Those that are there."""

    def between(self, heads: Collection[str], known: Collection[str]) -> list[str]:
        """What leads to new heads."""


@dataclass(slots=True)
class Received:
    """What the stored events of one repository say.

    `partial`: branches that had a past when reading began; `whole`: the repository's own first
    event is there. `newest`: tip and number of heads, as the newest event of a branch says.
    """

    fold: Fold = field(default_factory=Fold)
    whole: bool = False
    partial: set[str] = field(default_factory=set)
    newest: dict[str, tuple[str | None, int]] = field(default_factory=dict)

    def add(self, event: Event, *, first: bool) -> None:
        """The next event; `first`: the first one of all."""
        if first:
            self.whole = event.sequence == 1 and not event.continuing
        if event.summary:
            self.partial.discard(event.branch)
        elif event.branch not in self.fold.heads and (event.previous or event.continues):
            self.partial.add(event.branch)
        if event.heads:
            self.newest[event.branch] = event.heads.tip, event.heads.count
        self.fold.add(event)


@dataclass(frozen=True, slots=True)
class Branch:
    """How one branch stands. Heads and `missing` are nodes, the newest last."""

    branch: str
    state: str
    received: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def received(store: Reader, repo: str) -> Received:
    """The fold of all stored events of a repository, in the order in which they were accepted."""
    found, first, after = Received(), True, 0
    while page := store.events(after, MAX_LIST):
        after = page[-1].number
        for stored in page:
            if stored.record.repo == repo:
                found.add(events.decode(stored.record.event), first=first)
                first = False
    return found


def compare(had: Received, served: Served, wants: Wants) -> Iterator[Branch]:
    """Every branch that `wants` is true of, by name."""
    heads = served.heads()
    for branch in sorted(filter(wants, {*had.fold.heads, *heads})):
        known, there = had.fold.heads.get(branch), heads.get(branch, ())
        if known is None:
            if there and had.whole:
                yield Branch(branch, BEHIND, (), there, tuple(served.between(there, ())))
            elif there:
                yield Branch(branch, UNREAD, (), there)
        elif known == set(there) or _fits(had, branch, known, there):
            yield Branch(branch, EQUAL, tuple(sorted(known)), there)
        else:
            yield _differing(had, served, branch, there)


def _fits(had: Received, branch: str, known: set[str], there: tuple[str, ...]) -> bool:
    """Whether what is not known can be older than the reading of this branch."""
    tip, count = had.newest.get(branch, (None, -1))
    fits = count == len(there) and (not there or tip == there[-1])
    return fits and branch in had.partial and known <= set(there)


def _differing(had: Received, served: Served, branch: str, there: tuple[str, ...]) -> Branch:
    known = had.fold.heads[branch]
    present = served.present(known)
    unknown = known - present
    new = [node for node in there if node not in known]
    if branch in had.partial:
        new = new[-1:]  # the others may be older than the reading
    missing = [node for node in served.between(new, present) if node not in had.fold.live]
    state = (DIVERGED if missing else AHEAD) if unknown else BEHIND
    return Branch(
        branch, state, tuple(sorted(known)), there, tuple(missing), tuple(sorted(unknown))
    )


def audit(store: Reader, repo: str, served: Served, wants: Wants, out: Printer) -> int:
    """Compare and print, a row per branch; PROBLEM if one differs. Raises ServiceError.

    `wants`: whether a topic is one that we read.
    """
    journals = [row for row in store.journals() if row.repo == repo]
    if not journals:
        names = ", ".join(sorted({row.repo for row in store.journals()})[:20]) or "none yet"
        raise ServiceError(f"{repo}: no such repository is known", hint=f"known: {names}")
    source = topics.source("hg", repo)
    found = _settled(store, repo, served, lambda branch: wants(topics.topic(source, branch)))
    bad = False
    for one in found:
        differs = one.state not in {EQUAL, UNREAD}
        bad |= differs
        row = {
            "kind": "audit",
            "repo": repo,
            "branch": one.branch,
            "state": one.state,
            "received": one.received,
            "repository": one.repository,
            "missing": one.missing,
            "unknown": one.unknown,
        }
        out.row(row, _line(repo, one))
    if not found:
        out.block(f"{repo}: no branch that a rule wants")
    if bad:
        out.block(_why(journals))
    return EXIT.PROBLEM if bad else EXIT.OK


def _settled(store: Reader, repo: str, served: Served, wants: Wants) -> list[Branch]:
    """The comparison, made while nobody changed the repository."""
    heads = served.heads()
    for _ in range(LOOKS):
        found = list(compare(received(store, repo), served, wants))
        before, heads = heads, served.heads()
        if heads == before:
            break
    return found


def _line(repo: str, one: Branch) -> str:
    line = f"{repo} {one.branch}: {one.state}"
    if one.state == EQUAL:
        count = len(one.repository)
        return f"{line}, {count} head{'' if count == 1 else 's'}"
    if one.state == UNREAD:
        return f"{line}, reading began behind its newest event, or that was forgotten since"
    words = [("missing", one.missing), ("not in the repository", one.unknown)]
    for word, nodes in words:
        if nodes:
            more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
            line += f"; {len(nodes)} {word}: {' '.join(n[:12] for n in nodes[:SHOWN])}{more}"
    if not one.missing and not one.unknown:
        line += "; the heads differ, and no changeset is missing"
    return line


def _why(journals: Iterable[JournalRow]) -> str:
    """What the store knows that can be the reason."""
    lines = []
    for row in journals:
        behind = row.head - (row.scanned or 0)
        if row.stopped:
            lines.append(f"journal {row.journal} is stopped: {row.stopped}")
        elif behind > 0:
            lines.append(f"journal {row.journal}: {counted(behind, 'event')} not read yet")
    if lines:
        return "\n".join(lines)
    return (
        "all that the relay told of was read: ask it with `zmq-relay status` and `check`, and the"
        " repository with `hg events --verify`"
    )
