"""The verb `test`: what the rules would do with a changeset, before anybody pushes it.

The event is made by `hg events --preview`, so by the code that makes it for a push. Each rule is
asked whether it takes it, and says why not. With `--run` the action of one rule runs with it here,
in the foreground, by the code that runs it in the daemon.

A test leaves no trace of ours: nothing is stored, no lease or lock is taken, and no daemon waits
for it. An action can tell by its fence, 0, which no delivery has, by its delivery id, which begins
with `test-` and is another one each time, and by the event's journal, all zeros.
"""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hgext_zmqhooks.service.errors import EXIT, ServiceError
from hgext_zmqhooks.service.words import counted
from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.events import Event
from subscriber.actions.base import Action, Cancel, Job, Kind, Verdict
from subscriber.engine.explain import why_not
from subscriber.engine.rules import Rule, RuleSpec, compile_rule, deliveries
from subscriber.store.values import NewDelivery
from subscriber.views import Printer, Row, moment, single

NO_FENCE = 0
PREFIX = "test-"
RUNNERS = Path(os.devnull)
"""In place of the file that tells a new daemon what still runs: it need not wait for a test."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An event that nobody pushed, and the bytes of it that an action gets."""

    event: Event
    line: bytes


def trial(preview: bytes, origin: str | None = None, pusher: str | None = None) -> Trial:
    """The event in what `hg events --preview` printed.

    `origin`, `pusher`: in place of `live` and of who runs this. A ping tells of no change.
    """
    try:
        event = events.decode(preview.removesuffix(b"\n"))
    except Refused as error:
        hint = "are both of one version? See `hg version -v` there"
        raise ServiceError(f"hg made no event: {error}", hint=hint) from None
    if origin is not None:
        event = replace(event, origin=origin)
    if origin == "ping":
        event = replace(event, changesets=(), heads=None)
    if pusher is not None and event.pusher is not None:
        event = replace(event, pusher=replace(event.pusher, user=pusher))
    return Trial(event, events.encode(event))


def compare(given: Trial, specs: Sequence[RuleSpec], out: Printer) -> dict[str, bool]:
    """Print the event and what each rule says of it; returns which rules take it."""
    out.row(_event_row(given), _event_line(given.event))
    found = {}
    for spec in specs:
        row, text = judged(compile_rule(spec), [given.event])
        out.row(row, text)
        found[spec.name] = bool(row["matches"])
    return found


def execute(given: Trial, spec: RuleSpec, action: Action, out: Printer) -> int:
    """Run a rule's action for all that the event makes of it; PROBLEM unless each is done."""
    status = EXIT.OK
    for item in deliveries([compile_rule(spec)], [given.event], 0.0):
        job = _job(given, spec, item)
        out.block(f"run {job.delivery_id} of {spec.name}, node {job.node or '-'}: a test")
        with Cancel() as cancel:
            verdict = action.run(job, cancel)
        _print(job, verdict, out)
        if verdict.kind is not Kind.DONE:
            status = EXIT.PROBLEM
    return status


def _job(given: Trial, spec: RuleSpec, item: NewDelivery) -> Job:
    return Job(
        delivery_id=PREFIX + secrets.token_hex(8),
        event_id=item.event_id,
        fence=NO_FENCE,
        attempt=1,
        rule=item.rule,
        topic=item.topic,
        repo=item.repo,
        branch=item.branch,
        node=item.node,
        user=item.user,
        traceparent=given.event.traceparent,
        lines=[given.line],
        timeout=spec.timeout,
    )


def _event_row(given: Trial) -> Row:
    return {"kind": "event", "event": json.loads(given.line), "topic": given.event.topic}


def _event_line(event: Event) -> str:
    nodes = ", ".join(changeset.node[:12] for changeset in event.changesets) or "no changeset"
    who = event.pusher.user if event.pusher else None
    return single(f"event {event.topic}  {nodes}  {event.origin}  pushed by {who or '-'}")


def judged(rule: Rule, parts: Sequence[Event]) -> tuple[dict[str, object], str]:
    """Whether a rule takes an event, and why not: as JSON and as lines of text."""
    unmet = why_not(rule, parts)
    made = len(deliveries([rule], parts, 0.0))
    row: dict[str, object] = {
        "kind": "rule",
        "rule": rule.spec.name,
        "matches": not unmet,
        "deliveries": made,
        "unmet": [{"key": one.key, "reason": one.reason} for one in unmet],
    }
    if not unmet:
        return row, f"rule {rule.spec.name}: matches, {counted(made, 'delivery')}"
    reasons = [f"\n  {single(str(one))}" for one in unmet]
    return row, f"rule {rule.spec.name}: does not match{''.join(reasons)}"


def _print(job: Job, verdict: Verdict, out: Printer) -> None:
    took = verdict.ended - verdict.started
    row = {
        "kind": "test",
        "rule": job.rule,
        "delivery": job.delivery_id,
        "node": job.node,
        "verdict": str(verdict.kind),
        "reason": verdict.reason,
        "exit_status": verdict.exit_status,
        "signal": verdict.signal,
        "started": moment(verdict.started, exact=True),
        "ended": moment(verdict.ended, exact=True),
        "seconds": round(took, 3),
        "output": verdict.output.decode(errors="replace"),
        "truncated": verdict.truncated,
    }
    if verdict.output:
        cut = "…" if verdict.truncated else ""
        out.block(cut + verdict.output.decode(errors="replace").rstrip("\n"))
    out.row(row, single(f"{verdict.kind}: {verdict.reason or '-'}, after {took:.3f} s"))
