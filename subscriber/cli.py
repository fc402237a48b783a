"""The command `zmq-subscriber`: without a verb the daemon, with one a question to its store.

    zmq-subscriber --config F [--log-format text|json]      run in the foreground
    zmq-subscriber --config F check|status|deliveries|show ID|tail [--json]
    zmq-subscriber --config F accept REPO [BRANCH] | JOURNAL/SEQUENCE | REPO --journal ID
    zmq-subscriber --config F audit REPO [--repository PATH] [--json]
    zmq-subscriber init                                     print a sample configuration

Exit statuses: 0 good, 1 a problem was found, 2 usage, 69 unreachable, 78 configuration.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hgext_zmqhooks.service.errors import EXIT, run
from hgext_zmqhooks.service.life import set_up_logging
from subscriber import credentials, daemon, views
from subscriber.audit import audit
from subscriber.check import check
from subscriber.inside import find_repository, look, relay_settings
from subscriber.repository import Repository
from subscriber.sample import SAMPLE
from subscriber.settings import Settings, load_settings
from subscriber.status import Around, Running, status
from subscriber.store.base import Reader
from subscriber.store.connection import holder
from subscriber.store.values import State, Wanted
from subscriber.stores import open_reader

LISTED = 20


def main() -> int:
    """Entry point."""
    return run(lambda: command(sys.argv[1:]))


def parser() -> argparse.ArgumentParser:
    """What may be typed."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object per line")
    common.add_argument("--config", type=Path, metavar="F", default=argparse.SUPPRESS)
    top = argparse.ArgumentParser(
        prog="zmq-subscriber", description="Run actions for what happens in Mercurial repositories."
    )
    top.add_argument("--config", type=Path, metavar="F", help="the configuration, subscriber.yml")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs (none: run the daemon)")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, parents=[common], help=text, description=text)

    verb("check", "say whether the configuration is one to run with")
    verb("status", "say how much was received, done, and what is stopped")
    listed = verb("deliveries", "list the newest deliveries")
    listed.add_argument("--state", choices=[state.value for state in State], action="append")
    for name in ("rule", "repo", "branch"):
        listed.add_argument(f"--{name}")
    listed.add_argument("-n", "--limit", type=_count, default=LISTED)
    shown = verb("show", "show a delivery with its receipts, or an event")
    shown.add_argument(
        "id", metavar="ID", help="delivery (a beginning will do) or JOURNAL/SEQUENCE"
    )
    followed = verb("tail", "print new deliveries and receipts as they come")
    followed.add_argument("-n", "--count", type=_count, help="end after so many lines")
    audited = verb("audit", "compare what was received with the repository's heads")
    audited.add_argument("repo", metavar="REPO", help="its name, as in topics")
    audited.add_argument("--repository", type=Path, metavar="PATH", help="its folder on this host")
    accepted = verb("accept", "let pass what is held, or a journal that is stopped")
    accepted.add_argument("target", metavar="REPO|JOURNAL/SEQUENCE")
    accepted.add_argument("branch", metavar="BRANCH", nargs="?", help="only what is held of it")
    accepted.add_argument("--journal", metavar="ID", help="a stopped journal of REPO")
    verb("init", "print a sample configuration")
    return top


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def command(arguments: Sequence[str]) -> int:
    """Do what the arguments say. Raises ServiceError."""
    top = parser()
    given = top.parse_args(arguments)
    if given.verb == "init":
        print(json.dumps({"kind": "sample", "text": SAMPLE}) if given.json else SAMPLE, end="")
        return EXIT.OK
    if given.config is None:
        top.error("--config F is required")
    if given.verb is None:
        set_up_logging(given.log_format)
        return daemon.run(load_settings(given.config))
    out = views.Printer(given.json)
    if given.verb == "check":
        return check(given.config, out)
    settings = load_settings(given.config)
    if given.verb == "accept":
        names = ("verb", "target", "branch", "journal")
        request = {name: getattr(given, name) for name in names}
        return views.accepted(daemon.decide(settings, request), out)
    with open_reader(settings) as store:
        return _look(store, settings, out, given)


def _look(store: Reader, settings: Settings, out: views.Printer, given: argparse.Namespace) -> int:
    match given.verb:
        case "status":
            return status(store, out, _around(settings))
        case "audit":
            path = given.repository or find_repository(settings, given.repo)
            runs = running(settings)
            if runs.pid is None:
                out.block(f"daemon: {runs}")
            return audit(store, given.repo, Repository(path), credentials.reads(settings), out)
        case "deliveries":
            return views.deliveries(store, out, _wanted(given), given.limit)
        case "show":
            return views.show(store, out, given.id)
    return views.tail(store, out, given.count)


def _around(settings: Settings) -> Around:
    runs = running(settings)
    inside = relay_settings(settings)
    return Around(
        running=runs,
        look=lambda rows: look(inside, rows, runs=runs.pid is not None),
        rules={rule.name for rule in settings.rules},
        roots=credentials.roots(settings),
        expiries=tuple(credentials.expiries(settings, inside, time.time())),
    )


def running(settings: Settings) -> Running:
    """Whether the daemon of this configuration runs."""
    return Running(holder(settings.state), f"zmq-subscriber --config {settings.file}")


def _wanted(given: argparse.Namespace) -> Wanted:
    states = frozenset(State(name) for name in given.state) if given.state else None
    return Wanted(states=states, rule=given.rule, repo=given.repo, branch=given.branch)


if __name__ == "__main__":
    sys.exit(main())
