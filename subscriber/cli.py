"""The command `zmq-subscriber`: without a verb the daemon, with one a question or an order.

    zmq-subscriber --config F [--log-format text|json]      run in the foreground
    zmq-subscriber --config F VERB … [--json]               verbs/ has them, by family

Exit statuses: 0 good, 1 a problem was found, 2 usage, 69 unreachable, 78 configuration.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hgext_zmqhooks.service.errors import run
from hgext_zmqhooks.service.life import set_up_logging
from subscriber import daemon
from subscriber.settings import load_settings
from subscriber.verbs import change, deliver, look, prepare
from subscriber.verbs.base import Call, Verb
from subscriber.views import Printer

VERBS: Mapping[str, Verb] = {
    verb.name: verb for verb in (*prepare.VERBS, *look.VERBS, *deliver.VERBS, *change.VERBS)
}


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
    for name, verb in VERBS.items():
        made = verbs.add_parser(name, parents=[common], help=verb.text, description=verb.text)
        verb.words(made)
    return top


def command(arguments: Sequence[str]) -> int:
    """Do what the arguments say. Raises ServiceError."""
    top = parser()
    given = top.parse_args(arguments)
    verb = VERBS.get(given.verb)
    if given.config is None and not (verb and verb.bare):
        top.error("--config F is required")
    if verb is None:
        set_up_logging(given.log_format)
        return daemon.run(load_settings(given.config))
    return verb.run(Call(given, Printer(given.json)))


if __name__ == "__main__":
    sys.exit(main())
