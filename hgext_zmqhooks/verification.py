"""`hg events --verify`: the whole journal is checked, and compared with the repository.

Takes the store lock if it may, so that journal and changelog do not move meanwhile. `verify` reads
the journal, `catchup` compares.
"""

from collections.abc import Callable
from typing import Any

from . import catchup, changes, compat, recorder, verify
from .journal.format import EVENTS
from .journal.heads import Head
from .journal.origin import open_events
from .service.words import counted
from .storefiles import StoreFiles

SHOWN = 20
"""Nodes that one problem names."""

ReadHead = Callable[[Any], Head | None]


def run(ui: Any, repo: Any, head: ReadHead, repair: bytes) -> int:
    """Check it and print what is wrong; 1 if anything is.

    `head`: reads the head mark of a repository; `repair`: what to do about a torn journal.
    """
    check, notes = _read_all(ui, repo, head)
    problems = [str(problem) for problem in check.problems] + notes
    for problem in problems:
        ui.warn(compat.message(f"{problem}\n"))
    if not check.events and not problems:
        ui.status(b"no journal yet: the first transaction begins it\n")
        return 0
    if check.torn:
        ui.warn(b"%s\n" % repair)
    words = f"{counted(check.events, 'event')} in {counted(len(check.journals), 'journal')}"
    verdict = f"{counted(len(problems), 'problem')} found" if problems else "no problems found"
    ui.status(compat.message(f"checked {words}: {verdict}\n"))
    return 1 if problems else 0


def _read_all(ui: Any, repo: Any, head: ReadHead) -> tuple[verify.Check, list[str]]:
    """The check of the whole file, and problems that no single record has."""
    lock = compat.lock_at_once(repo)
    if lock is None:
        ui.warn(b"the repository cannot be locked: checking up to the head mark only\n")
        return _read(repo, head(repo), locked=False)
    with lock:
        return _read(repo, head(repo), locked=True)


def _read(repo: Any, head: Head | None, *, locked: bool) -> tuple[verify.Check, list[str]]:
    check, notes = verify.Check(), []
    if repo.svfs.exists(b"journal"):
        notes.append("a transaction was abandoned: run `hg recover`")
        locked = False
    try:
        with open_events(StoreFiles(repo.svfs).path(EVENTS), damaged=True) as source:
            size = source.size
            check.read(source, size if locked else min(size, head.size if head else 0))
    except FileNotFoundError:
        size = 0
    if head and head.size > size:
        notes.append(f"the head mark says {head.size} bytes, the events file has {size}")
    if check.journals and locked and not check.problems:
        notes += _against_changelog(repo, check)
    return check, notes


def _against_changelog(repo: Any, check: verify.Check) -> list[str]:
    """What the fold of all events and the changelog do not agree about."""
    view = changes.View(repo)
    found = catchup.Differences(view, check.fold)
    node = view.changelog.node
    notes = [
        *_named("changeset without an event", [node(rev).hex() for rev in found.missing]),
        *_named("event without a changeset", found.gone),
        *_named("changeset announced, and secret now", [node(rev).hex() for rev in found.secret]),
    ]
    if check.mark != recorder.mark_of(repo):
        notes.append(
            "the repository was changed without the extension; the next transaction tells of it"
        )
    return notes


def _named(words: str, nodes: list[str]) -> list[str]:
    if not nodes:
        return []
    more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
    return [f"{counted(len(nodes), words)}: {' '.join(node[:12] for node in nodes[:SHOWN])}{more}"]
