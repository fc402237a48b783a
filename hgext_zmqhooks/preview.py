"""`hg events --preview`: the event that a push of one changeset alone would make.

Made by what makes it for a push, and written as the bytes that a rule and a script would get, on
one line. Nothing is journalled, signed or sent: the event stands first in a journal that is all
zeros, its transaction is named `preview`, and who pushes is who runs this.
"""

from typing import Any

from . import changes, compat, hgrc, pusher
from .wire import split
from .wire.events import Draft, Heads, Place, Transaction, assemble

JOURNAL = "0" * 32
"""The journal of what was never journalled."""
NAME = "preview"


def run(ui: Any, repo: Any, rev: int) -> int:
    """Print it; `rev`: of the unfiltered changelog. Abort for what nobody would be told."""
    name = hgrc.repository_name(ui, repo)
    if name is None:
        hint = "--config zmqhooks.repo=NAME gives it a name for this command"
        raise compat.abort(f"no name to publish under: {hgrc.why_left_alone(ui, repo)}", hint)
    view = changes.View(repo)
    if not view.shown(rev):
        hint = "`hg phase --draft --force` makes it one that can be pushed"
        raise compat.abort("this changeset is secret: nothing is told of it", hint)
    for draft in split.drafts(_draft(repo, view, rev), name):
        place = Place(repo=name, journal=JOURNAL, sequence=draft.transaction.part, previous=None)
        ui.write(assemble(draft, place) + b"\n")
    return 0


def _draft(repo: Any, view: changes.View, rev: int) -> Draft:
    environ = repo.ui.environ
    stamp = changes.Stamp(
        time=changes.now(),
        transaction=Transaction(id=NAME, name=NAME, source=None),
        pusher=pusher.identify(environ, stdio=False),
        traceparent=pusher.traceparent(environ),
    )
    branch, item = view.changeset(rev)
    return stamp.draft(branch, heads=_heads(view, branch, rev), lists={"changesets": [item]})


def _heads(view: changes.View, branch: str, rev: int) -> Heads:
    """The branch's heads as the push of a repository that ends with this changeset moves them."""
    log, name = view.changelog, compat.local(branch.encode())
    parents = [p for p in log.parentrevs(rev) if p >= 0 and view.branch(p) == branch]
    before = {name: [log.node(p) for p in parents]}
    after = {name: [log.node(rev)]}
    closed = frozenset(log.node(r) for r in (*parents, rev) if view.closes(r))
    return changes.heads(branch, compat.Branches(before, closed), compat.Branches(after, closed))
