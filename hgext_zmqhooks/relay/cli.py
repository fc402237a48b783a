"""zmq-relay: the daemon, and two verbs that look at what it serves.

    zmq-relay --config relay.yml                 serve, in the foreground
    zmq-relay --config F status [--json]         each subscriber and journal: position, head, lag
    zmq-relay --config F check [--json]          each repository: readable, journalled, sound

For the verbs F may be a subscriber.yml with a relay inside.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from ..keys.files import load_roots, load_secret
from ..service.errors import EXIT, ConfigError, run
from ..service.life import Life, raise_descriptors, set_up_logging
from ..service.table import aligned
from . import report, settings, state
from .report import Health, Lag
from .server import Relay

JOIN_SECONDS = 10.0

T = TypeVar("T", Lag, Health)


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit status."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zmq-relay", description="Serve the journals of this host's repositories."
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, text in (
        ("status", "how far each subscriber is"),
        ("check", "whether each repository is readable, journalled and sound"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("--json", action="store_true", help="one object per line")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    loaded = settings.load(arguments.config)
    if arguments.verb == "status":
        return status(loaded.settings, as_json=arguments.json)
    if arguments.verb == "check":
        return check(loaded.settings, as_json=arguments.json)
    if loaded.inside:
        raise ConfigError(
            arguments.config,
            "",
            None,
            "a subscriber's configuration: its relay runs inside it",
            "run: zmq-subscriber --config FILE; zmq-relay takes this file for status and check",
        )
    return serve(loaded.settings, arguments.log_format)


def serve(given: settings.RelaySettings, log_format: str) -> int:
    """Run the daemon until a signal ends it."""
    set_up_logging("json" if log_format == "json" else "text")
    life = Life()
    life.catch_signals()
    raise_descriptors()
    relay = Relay(given, load_secret(given.key), load_roots(given.trust))
    try:
        relay.start()
        life.spawn("relay", relay.run)
        life.wait()
        late = life.join(JOIN_SECONDS)
    except BaseException:
        relay.close()
        raise
    if late:
        return EXIT.PROBLEM  # its sockets are in use: they must not be closed under it
    relay.close()
    return EXIT.PROBLEM if life.failed else EXIT.OK


def status(given: settings.RelaySettings, *, as_json: bool) -> int:
    """Print how far each subscriber is in each journal."""
    known = list(state.read(given.state))  # before the table's head: there may be no such file
    rows = report.lags(iter(known), given.repositories, time.time())
    if as_json:
        return _print_json(rows)
    head = ["subscriber", "repository", "position", "head", "lag", "seconds", "last heard"]
    head.append("last error")
    for line in aligned([head, *(_cells(row, time.time()) for row in rows)]):
        _print(line)
    return EXIT.OK


def _cells(row: Lag, now: float) -> list[str]:
    head, lag = ("?" if value is None else str(value) for value in (row.head, row.lag))
    seconds = "?" if row.seconds is None else f"{row.seconds:.0f}"
    heard = f"{row.silence(now):.0f} s ago"
    error = f"{row.failed} {row.error}" if row.failed else "-"
    return [row.subscriber, row.repo, str(row.position), head, lag, seconds, heard, error]


def check(given: settings.RelaySettings, *, as_json: bool) -> int:
    """Print what was found of each repository; PROBLEM if anything is wrong with one."""
    rows = list(report.check(given.repositories))
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            if row.repo:
                place = f" ({row.repo} at {row.sequence})"
            else:
                place = "" if row.problems else " (no journal yet)"
            _print(f"{row.path}: {'; '.join(row.problems) or 'ok'}{place}")
    return EXIT.PROBLEM if any(row.problems for row in rows) else EXIT.OK


def _print_json(rows: Iterable[T]) -> int:
    for row in rows:
        _print(json.dumps(asdict(row), ensure_ascii=False))
    return EXIT.OK


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
