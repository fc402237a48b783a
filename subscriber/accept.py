"""The verb `accept`: a person lets pass what the daemon holds.

    accept REPO [BRANCH]         events that are held because their certificate had expired
    accept JOURNAL/SEQUENCE      the same, of this event's branch up to this event, and in the
                                 journals that this one continues
    accept REPO --journal ID     the event at which this journal is stopped, although it does not
                                 fit what is stored (unfit-journal, fork, gap); where it is
                                 stopped as revoked, every event of it up to now whose certificate
                                 is revoked, and none that comes later

A running daemon does it, asked over its control socket, since it alone writes to its store; else
the verb itself does. Each decision is kept, with who made it and when. An admitted event is one
event: where the next one of another branch does not fit either, the journal stops again. What is
vouched for goes to the head as the relay told of it: who stole the key signs no event behind it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hgext_zmqhooks.service.errors import ServiceError
from subscriber.intake.inbox import OVERRULED
from subscriber.store.base import Store
from subscriber.store.values import Decision, Held, JournalRow

_STOP = re.compile(r"(\S+) at sequence (\d+): ")
"""How the reason begins why a journal is stopped; see intake/journals."""


def may_admit(row: JournalRow) -> bool:
    """Whether a journal is stopped for a reason that a person may overrule."""
    return _overruled(row) is not None


def _overruled(row: JournalRow) -> tuple[str, int] | None:
    """Verb and sequence of the decision that takes the journal on.

    The event in question is not always the one behind the position: who reads some branches may
    have been told of nothing between the two, and what was left out comes from before the position.
    """
    found = _STOP.match(row.stopped or "")
    if found is None or found[1] not in OVERRULED:
        return None
    verb, sequence = OVERRULED[found[1]], int(found[2])
    return verb, max(sequence, row.head) if verb == "vouch" else sequence


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be accepted, and by whom. `branch`, `journal`: None if not named."""

    target: str
    branch: str | None
    journal: str | None
    who: str

    @classmethod
    def read(cls, words: Mapping[str, object], who: str) -> "Request":
        """A request as it came over the control socket. ServiceError if it is none."""
        target, branch, journal = (words.get(key) for key in ("target", "branch", "journal"))
        if not isinstance(target, str) or not all(
            value is None or isinstance(value, str) for value in (branch, journal)
        ):
            raise ServiceError("accept: not a request that this version knows")
        return cls(target, branch, journal, who)  # type: ignore[arg-type]


def accept(store: Store, request: Request, now: float) -> list[dict[str, object]]:
    """Decide and do it; a row for each decision. ServiceError when there is nothing to accept."""
    if request.journal is not None:
        decisions = [_admit(store, request, now)]
    else:
        decisions = list(_releases(store, request, now))
    if not decisions:
        raise _nothing(store, request.target)
    return [_row(decision, store.decide(decision)) for decision in decisions]


def _nothing(store: Store, target: str) -> ServiceError:
    """Why there is nothing to accept: a repository that nobody knows, or nothing that waits."""
    rows = store.journals()
    if "/" not in target or not target.rpartition("/")[2].isdecimal():
        known = sorted({row.repo for row in rows})
        if target not in known:
            names = ", ".join(known[:20]) or "none yet"
            return ServiceError(f"{target}: no such repository is known", hint=f"known: {names}")
    return ServiceError(
        f"{target}: nothing of it is held",
        hint="`status` lists what waits; a stopped journal needs --journal ID",
    )


def _row(decision: Decision, released: int) -> dict[str, object]:
    return {
        "kind": "accepted",
        "verb": decision.verb,
        "journal": decision.journal,
        "branch": decision.branch,
        "sequence": decision.sequence,
        "released": released,
        "who": decision.who,
        "reason": decision.reason,
    }


def _admit(store: Store, request: Request, now: float) -> Decision:
    wanted = request.journal or ""
    rows = [
        row
        for row in store.journals()
        if row.repo == request.target and wanted and row.journal.startswith(wanted)
    ]
    if len(rows) != 1:
        found = f"{len(rows)} journals of {request.target} begin with {wanted!r}"
        raise ServiceError(found, hint="`status` lists the stopped ones")
    return _admission(rows[0], request.who, now)


def _admission(row: JournalRow, who: str, now: float) -> Decision:
    if row.stopped is None:
        hint = "nothing is to be done; `status` lists what waits"
        raise ServiceError(f"journal {row.journal} of {row.repo} is not stopped", hint=hint)
    decision = _overruled(row)
    if decision is None:
        raise ServiceError(
            f"journal {row.journal} of {row.repo} cannot be accepted: {row.stopped}",
            hint="that has to be mended at its source; it is tried again by itself",
        )
    verb, sequence = decision
    return Decision(
        at=now,
        who=who,
        verb=verb,
        journal=row.journal,
        branch=None,
        sequence=sequence,
        reason=row.stopped,
    )


def _releases(store: Store, request: Request, now: float) -> Iterator[Decision]:
    for held in store.held():
        up_to = _up_to(store, request, held)
        if up_to >= held.first:
            yield Decision(
                at=now,
                who=request.who,
                verb="release",
                journal=held.journal,
                branch=held.branch,
                sequence=up_to,
                reason="its certificate had expired",
            )


def _up_to(store: Store, request: Request, held: Held) -> int:
    """Up to which sequence a held branch is meant; 0: it is not."""
    if held.repo == request.target:
        return held.last if request.branch in {None, held.branch} else 0
    journal, _, number = request.target.rpartition("/")
    if request.branch is not None or not journal or not number.isdecimal():
        return 0
    stored = store.event(held.journal, int(number)) if held.journal.startswith(journal) else None
    fits = stored is not None and stored.record.branch == held.branch
    return int(number) if fits else 0
