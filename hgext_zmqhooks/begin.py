"""`hg events --init`: begin the journal now, and not with the first transaction.

It begins with baselines, as it would by itself, or with the whole history (`--full`). One
transaction writes all of it: a kill leaves everything or nothing.
"""

from typing import Any

from . import compat, history
from .recorder import Asked


def run(ui: Any, repo: Any, link: Any, *, full: bool) -> int:
    """Begin it, if there is none yet; `link`: `extension.Attached` of the repository."""
    with repo.lock():
        with link.sound():
            new = link.recorder.writer(repo).standing() == "new"
        if not new and full:
            hint = "only a repository that has told nothing yet can tell its whole history"
            raise compat.abort("this repository has a journal already", hint)
        if not new:
            ui.status(b"this repository has a journal already: nothing to do\n")
            return 0
        if not compat.branches(repo.filtered(b"served")).entries:
            ui.status(b"no changesets yet: the first transaction begins the journal\n")
            return 0
        asked = Asked(lambda stamp: history.drafts(repo, stamp) if full else (), whole=full)
        head = link.tell(repo, b"init", asked).appended.head
    what = "the whole history" if full else "baselines"
    told = f"{head.sequence} event{'s' if head.sequence > 1 else ''}"
    ui.status(compat.message(f"journal {head.journal} begins with {what}: {told}\n"))
    return 0
