"""The verbs that look into the store and change nothing."""

import re
import time
from argparse import ArgumentParser
from pathlib import Path

from subscriber import credentials, views
from subscriber.audit import audit
from subscriber.compiled import rule_spec
from subscriber.follow import Changes, follow, tail
from subscriber.inside import find_repository, look, relay_settings
from subscriber.repository import Repository
from subscriber.status import Around, status
from subscriber.store.base import MIN_NODE
from subscriber.store.values import Terms
from subscriber.trace import trace

from .base import Call, Usage, Verb, count
from .filters import add_filters, add_state, wanted

LISTED = 20

_NODE = re.compile(f"[0-9a-f]{{{MIN_NODE},40}}")


def _status(call: Call) -> int:
    with call.store() as store:
        return status(store, call.out, _around(call))


def _around(call: Call) -> Around:
    settings, runs = call.settings, call.running()
    inside = relay_settings(settings)
    return Around(
        running=runs,
        look=lambda rows: look(inside, rows, runs=runs.pid is not None),
        rules={rule.name: Terms(rule.lock, rule.concurrency) for rule in settings.rules},
        roots=credentials.roots(settings),
        expiries=tuple(credentials.expiries(settings, inside, time.time())),
    )


def _deliveries_words(parser: ArgumentParser) -> None:
    add_state(parser)
    add_filters(parser)
    parser.add_argument("-n", "--limit", type=count, default=LISTED)
    text = "go on, with what is made or changes its state"
    parser.add_argument("-f", "--follow", action="store_true", help=text)


def _deliveries(call: Call) -> int:
    words = call.words
    chosen = wanted(words)
    with call.store() as store:
        changes = Changes(store, chosen) if words.follow else None
        status = views.deliveries(store, call.out, chosen, words.limit)
        return follow(changes, call.out) if changes else status


def _show_words(parser: ArgumentParser) -> None:
    text = "delivery (a beginning will do) or JOURNAL/SEQUENCE"
    parser.add_argument("id", metavar="ID", help=text)


def _show(call: Call) -> int:
    with call.store() as store:
        return views.show(store, call.out, call.words.id)


def _tail_words(parser: ArgumentParser) -> None:
    parser.add_argument("-n", "--count", type=count, help="end after so many lines")


def _tail(call: Call) -> int:
    with call.store() as store:
        return tail(store, call.out, call.words.count)


def _trace_words(parser: ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="a changeset's hash; a beginning will do")


def _trace(call: Call) -> int:
    node = call.words.node.lower()
    if not _NODE.fullmatch(node):
        hint = "`hg log -r REV -T '{node}'` prints it"
        raise Usage(f"{node}: not {MIN_NODE} to 40 hex digits of a changeset's hash", hint=hint)
    specs = [rule_spec(rule) for rule in call.settings.rules]
    with call.store() as store:
        return trace(store, call.out, node, specs)


def _audit_words(parser: ArgumentParser) -> None:
    parser.add_argument("repo", metavar="REPO", help="its name, as in topics")
    parser.add_argument("--repository", type=Path, metavar="PATH", help="its folder on this host")


def _audit(call: Call) -> int:
    words, settings = call.words, call.settings
    with call.store() as store:
        path = words.repository or find_repository(settings, words.repo)
        runs = call.running()
        if runs.pid is None:
            call.out.block(f"daemon: {runs}")
        reads = credentials.reads(settings)
        return audit(store, words.repo, Repository(path), reads, call.out)


VERBS = (
    Verb("status", "say how much was received, done, and what is stopped", _status),
    Verb("deliveries", "list the newest deliveries", _deliveries, _deliveries_words),
    Verb("show", "show a delivery with its receipts, or an event", _show, _show_words),
    Verb("tail", "print new deliveries and receipts as they come", _tail, _tail_words),
    Verb("trace", "say what a changeset caused", _trace, _trace_words),
    Verb("audit", "compare what was received with the repository's heads", _audit, _audit_words),
)
