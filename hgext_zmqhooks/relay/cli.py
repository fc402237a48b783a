"""zmq-relay: the daemon, and two verbs that look at what it serves.

    zmq-relay --config relay.yml                 serve, in the foreground
    zmq-relay --config F status [--json]         each subscriber and journal: position, head, lag
    zmq-relay --config F check [--json]          each repository: readable, journalled, sound

For the verbs F may be a subscriber.yml with a relay inside.
"""

import argparse
import json
import logging
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..keys import renew
from ..keys.named import Named, Trust
from ..service.errors import EXIT, ConfigError, ServiceError, run
from ..service.ipc import AlreadyServed
from ..service.life import ROOT, Life, fields, raise_descriptors, set_up_logging
from ..service.table import aligned
from ..service.watch import Watch
from . import readers, report, settings, state
from .catalog import without_repository
from .reload import OwnKey, readers_part, trust_part
from .report import Health, Lag
from .server import Relay

JOIN_SECONDS = 10.0
EXPIRED = "subscribers refuse this relay until it is renewed"

log = logging.getLogger(f"{ROOT}.relay")

T = TypeVar("T", Lag, Health)


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit status."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zmq-relay",
        description="Serve the journals of this host's repositories. Without a verb: in the"
        " foreground, until SIGTERM.",
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs (none: run the relay)")
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
        return check(loaded, arguments.config, as_json=arguments.json)
    if loaded.inside:
        raise ConfigError(
            arguments.config,
            "",
            None,
            "a subscriber's configuration: its relay runs inside it",
            "run: zmq-subscriber --config FILE; zmq-relay takes this file for status and check",
        )
    set_up_logging("json" if arguments.log_format == "json" else "text")
    return serve(loaded.settings, arguments.config)


def serve(given: settings.RelaySettings, config: Path) -> int:
    """Run the daemon of this configuration until a signal ends it."""
    named = Named(config, "key", given.key, given.trust, socket.gethostname(), "relay")
    trust = Trust(config, given.trust, given.revocations)
    keyring = trust.keyring()
    own = OwnKey(named, keyring, certified=given.needs_certificate)
    life = Life()
    life.catch_signals()
    raise_descriptors()
    relay = Relay(given, own.secret, keyring)
    try:
        _start(relay)
        for pattern in without_repository(given.repositories):
            said = fields(key="repositories", value=pattern)
            log.warning("no repository found: is it misspelt?", extra=said)
        remind = partial(renew.remind, own.certificates, EXPIRED, log.warning)
        life.spawn("certificates", lambda stop: remind(stop.wait))
        life.spawn("relay", relay.run)
        parts = [
            trust_part("trust", trust, keyring, own.warn),
            own.part("key", relay.renew),
            readers_part("broadcast-readers", given, relay),
        ]
        life.spawn("watch", Watch(parts, life.hangup).run)
        life.wait()
        late = life.join(JOIN_SECONDS)
    except BaseException:
        relay.close()
        raise
    if late:
        return EXIT.PROBLEM  # its sockets are in use: they must not be closed under it
    relay.close()
    return EXIT.PROBLEM if life.failed else EXIT.OK


def _start(relay: Relay) -> None:
    try:
        relay.start()
    except AlreadyServed as error:
        # Its own hint is for a subscriber.yml, which may do without a relay inside.
        hint = f"one relay per address: stop process {error.pid}, or correct the address"
        raise ServiceError(str(error), hint=hint) from None


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


def check(loaded: settings.Loaded, config: Path, *, as_json: bool) -> int:
    """Print what was found of each repository; PROBLEM if anything is wrong with one.

    So of each reader of the broadcast with whom something is wrong.
    """
    given = loaded.settings
    rows = [*report.check(given.repositories), *_readers(given, config)]
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


def _readers(given: settings.RelaySettings, config: Path) -> Iterator[Health]:
    if given.broadcast_readers:
        keyring = Trust(config, given.trust, given.revocations).keyring()
        for path, reason in readers.faults(given.broadcast_readers, keyring, time.time()):
            problem = f"this reader of the broadcast is refused: {reason}"
            yield Health(str(path), None, None, None, (problem,))


def _print_json(rows: Iterable[T]) -> int:
    for row in rows:
        _print(json.dumps(asdict(row), ensure_ascii=False))
    return EXIT.OK


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
