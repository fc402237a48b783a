"""The daemon: puts the parts together, starts them in order, and ends them in order.

    start   keys → store (its lock) → orphaned commands have ended → leases freed → relay inside
            → engine → intake → "ready" at the first WELCOME
    stop    all are asked at once: intake and relay say goodbye, the engine claims nothing more,
            lets running actions finish within its bounds and then stops them; then the relay
            closes, and the store last, since all the others write to it

A part that fails stops all, and the daemon ends with a status that is not 0: its supervisor starts
it again, and what was under way is found in the store.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from hgext_zmqhooks.keys import files
from hgext_zmqhooks.relay import report
from hgext_zmqhooks.relay.server import Relay
from hgext_zmqhooks.relay.settings import RelaySection, RelaySettings
from hgext_zmqhooks.relay.state import Row
from hgext_zmqhooks.service import parsing, sockets
from hgext_zmqhooks.service.config import convert
from hgext_zmqhooks.service.errors import EXIT, ConfigError, ServiceError
from hgext_zmqhooks.service.life import ROOT, Life, Stop, fields, raise_descriptors
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import certificates
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.topics import Pattern, matches_any
from subscriber.accept import Request, accept
from subscriber.actions.exec import GRACE, Exec
from subscriber.control import Control, Rows, ask, own_name
from subscriber.engine.dispatch import CANCEL_BOUND, FINISH_BOUND, Dispatcher
from subscriber.engine.rules import RuleSpec, compile_rule, deliveries
from subscriber.intake.client import Client, Context, Remote, new_identity
from subscriber.intake.inbox import Decisions, Match, Tools
from subscriber.intake.verify import Verifier
from subscriber.settings import Peer, Rule, Settings, many
from subscriber.status import Ages
from subscriber.store.sqlite import SqliteStore
from subscriber.store.values import JournalRow

INSIDE = "inside"
"""Name of the relay inside, under which the store keeps its journals."""

RUNNERS_BOUND = 3 * GRACE + 30
STOP_BOUND = FINISH_BOUND + CANCEL_BOUND + 5

log = logging.getLogger(f"{ROOT}.daemon")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, and whom we trust."""

    secret: SecretKey
    keyring: Keyring
    name: str
    allowed: tuple[Pattern, ...]
    """What we may read."""


def load_credentials(settings: Settings) -> Credentials:
    """Key, roots and name, checked against each other. Raises ServiceError."""
    secret = files.load_secret(settings.key)
    keyring = files.load_roots(settings.trust, parsing.parse)
    try:
        certificate = keyring.peer(secret.certificate or b"", "subscriber", time.time())
    except Refused as error:
        hint = "make one with: zmq-keys issue --read PATTERN, under a root named in `trust`"
        raise ConfigError(
            settings.file, "key", str(settings.key), f"cannot be used: {error.detail}", hint
        ) from None
    if settings.name not in {None, certificate.sub}:
        reason = f"the certificate in {settings.key} is that of {certificate.sub!r}"
        hint = "leave `name` out, or make a key of that name"
        raise ConfigError(settings.file, "name", settings.name, reason, hint)
    return Credentials(secret, keyring, certificate.sub, certificate.read)


def relay_settings(settings: Settings) -> RelaySettings | None:
    """The section `relay`, completed from the others; None without one. Raises ConfigError."""
    if settings.relay is None:
        return None
    section = convert(settings.relay, RelaySection, settings.file, within="relay")
    return section.resolve(
        settings.file,
        within="relay",
        key=settings.key,
        trust=settings.trust,
        state=beside(settings.store, ".relay"),
    )


def find_repository(settings: Settings, name: str) -> Path:
    """The folder of the repository that the relay inside serves by this name. ServiceError."""
    inside = relay_settings(settings)
    rows = report.check(inside.repositories) if inside is not None else ()
    found = [row.path for row in rows if row.repo == name]
    if len(found) == 1:
        return Path(found[0])
    reason = f"{len(found)} repositories have this name" if found else "not found on this host"
    hint = "name its folder with --repository PATH"
    if found:
        hint += f": one of {', '.join(found)}"
    raise ServiceError(f"{name}: {reason}", hint=hint)


def followed(settings: Settings) -> tuple[Pattern, ...]:
    """The topics that the rules want. ConfigError."""
    return tuple(Pattern.parse(text) for text in settings.patterns)


def reads(settings: Settings) -> Callable[[str], bool]:
    """Whether a topic is one that a rule wants and our certificate allows. ServiceError."""
    token = files.load_secret(settings.key).certificate
    allowed = certificates.decode(token).read if token else ()
    wanted = followed(settings)
    return lambda topic: matches_any(wanted, topic) and matches_any(allowed, topic)


def ages(settings: Settings) -> Ages:
    """How long the oldest unread event of each journal waits, where journals are on this host."""
    inside = relay_settings(settings)

    def look(rows: Collection[JournalRow]) -> dict[str, float | None]:
        if inside is None or all(row.head <= (row.scanned or 0) for row in rows):
            return {}
        asked = (Row("", "", 0.0, one.journal, one.repo, one.scanned or 0) for one in rows)
        return {
            lag.journal: lag.seconds for lag in report.lags(asked, inside.repositories, time.time())
        }

    return look


def decide(settings: Settings, request: Mapping[str, object]) -> Rows:
    """Let the running daemon do it, or do it here when none runs. ServiceError."""
    rows = ask(beside(settings.store, ".control"), request)
    if rows is not None:
        return rows
    if not settings.store.exists():
        raise ServiceError(f"{settings.store}: there is no such store yet")
    with SqliteStore.open(settings.store) as store:
        return accept(store, Request.read(request, own_name()), time.time())


def beside(store: Path, suffix: str) -> Path:
    """A file that belongs to a store.

    >>> beside(Path("/var/lib/ci.db"), ".runners").name
    'ci.db.runners'
    """
    return store.with_name(store.name + suffix)


def remote(peer: Peer) -> Remote:
    """A relay elsewhere; its certificate is read again for each attempt, since it is renewed."""
    path, endpoint = peer.certificate, peer.address
    if path is None:
        return Remote(endpoint, endpoint, lambda: sockets.read_certificate(endpoint))
    return Remote(endpoint, endpoint, lambda: files.load_certificate(path).token)


def rule_spec(rule: Rule) -> RuleSpec:
    """A rule as the engine takes it."""
    when = rule.when
    return RuleSpec(
        name=rule.name,
        topics=many(when.topic),
        changes=many(when.changes),
        files=many(when.files),
        users=many(when.user),
        phases=many(when.phase),
        pushers=many(when.pusher),
        origins=many(when.origin),
        each=rule.each,
        timeout=float(rule.timeout),
        attempts=rule.retry.attempts,
    )


def action(rule: Rule, settings: Settings, descriptors: int | None = None) -> Exec:
    """What a rule does; `descriptors`: how many its commands may have open."""
    runners = str(beside(settings.store, ".runners"))
    return Exec(rule.exec, str(settings.folder), runners, descriptors=descriptors)


class Daemon:
    """One subscriber: `start`, then `wait`, then `close`, each once.

    `life` tells everything to stop and knows whether a part failed. `descriptors`: how many the
    commands of actions may have open; None: as many as we.
    """

    def __init__(self, settings: Settings, life: Life, descriptors: int | None = None) -> None:
        self._settings = settings
        self._life = life
        self._descriptors = descriptors
        self._counters = Counters()
        self._context: Context = zmq.Context()
        self._relay: Relay | None = None
        self._store: SqliteStore | None = None
        self._engine: Dispatcher | None = None
        self._control: Control | None = None
        self._decisions = Decisions()
        self._verifier = Verifier()
        self._ready = threading.Event()

    def start(self) -> None:
        """Bring everything up, in the order told above. Raises ServiceError; then call `close`."""
        settings = self._settings
        credentials = load_credentials(settings)
        inside = relay_settings(settings)
        self._store = store = SqliteStore.open(settings.store)
        await_runners(beside(settings.store, ".runners"), RUNNERS_BOUND, self._life.stop)
        freed = store.release_leases(time.time())
        if freed:
            log.warning("attempts were lost with the former daemon", extra=fields(count=freed))
        remotes = [remote(peer) for peer in settings.relays]
        if inside is not None:
            remotes.insert(0, self._start_relay(inside))
        specs = [rule_spec(rule) for rule in settings.rules]
        self._engine = engine = self._start_engine(store, specs, credentials.name)
        tools = Tools(
            store=store,
            keyring=credentials.keyring,
            patterns=followed(settings),
            match=matcher(specs),
            counters=self._counters,
            notify=engine.notify,
            decisions=self._decisions,
            verifier=self._verifier,
            allowed=credentials.allowed,
        )
        if store.follow(tools.scope):
            log.info("what is read has changed; every journal goes on where it stands")
        self._control = Control(beside(settings.store, ".control"), self._decide)
        self._life.spawn("control", self._control.run)
        identity = new_identity(credentials.secret, credentials.name, store.identity())
        for each in remotes:
            client = Client(
                self._context,
                each,
                identity,
                tools,
                start=settings.start,
                on_welcome=self._on_welcome,
            )
            self._life.spawn(f"intake {each.name}", client.run)

    def _start_relay(self, inside: RelaySettings) -> Remote:
        secret = files.load_secret(inside.key)
        keyring = files.load_roots(inside.trust)
        self._relay = relay = Relay(
            inside, secret, keyring, context=self._context, counters=self._counters
        )
        relay.start()
        self._life.spawn("relay", relay.run)
        return Remote(INSIDE, relay.inproc)

    def _start_engine(self, store: SqliteStore, specs: Sequence[RuleSpec], name: str) -> Dispatcher:
        actions = {
            rule.name: action(rule, self._settings, self._descriptors)
            for rule in self._settings.rules
        }
        engine = Dispatcher(store, specs, actions, owner=f"{name}/{os.getpid()}")
        self._life.spawn("engine", engine.run)
        return engine

    def _decide(self, request: Mapping[str, object], who: str) -> Rows:
        """What came over the control socket."""
        assert self._store is not None
        if request.get("verb") != "accept":
            raise ServiceError("the running daemon does not know this verb", hint="restart it")
        rows = accept(self._store, Request.read(request, who), time.time())
        for row in rows:
            log.warning("accepted by an operator", extra=fields(**row))
        self._decisions.count += 1
        assert self._engine is not None
        self._engine.notify()
        return rows

    def _on_welcome(self) -> None:
        if self._ready.is_set():
            return
        self._ready.set()
        settings = self._settings
        relay = settings.relay or {}
        said = fields(
            pid=os.getpid(),
            store=settings.store,
            rules=len(settings.rules),
            publish=relay.get("publish"),
            relays=",".join(peer.address for peer in settings.relays) or None,
        )
        log.info("ready", extra=said)

    def wait(self) -> EXIT:
        """Until a signal or a failure, and then until all parts have ended or are late."""
        self._life.wait()
        late = self._life.join(STOP_BOUND)
        if late:
            log.error("parts did not end in time", extra=fields(parts=",".join(late)))
            # They still use the store and the sockets. Closing those under them could hang, and
            # what they have under way is found in the store at the next start.
            logging.shutdown()
            os._exit(EXIT.PROBLEM)
        if self._life.failed:
            return EXIT.PROBLEM
        log.info("stopped")
        return EXIT.OK

    def close(self) -> None:
        """Give back sockets, files and locks."""
        self._life.stop.set()
        self._life.join(STOP_BOUND)
        if self._control is not None:
            self._control.close()
        if self._relay is not None:
            self._relay.close()
        self._context.destroy(linger=0)
        self._verifier.close()
        if self._store is not None:
            self._store.close()


def matcher(specs: Sequence[RuleSpec]) -> Match:
    """What all rules want of a complete event."""
    rules = [compile_rule(spec) for spec in specs]
    return lambda parts, created: deliveries(rules, parts, created)


def await_runners(path: Path, seconds: float, stop: Stop) -> None:
    """Wait until no command of a former daemon runs, or `stop`; ServiceError after `seconds`.

    Each runner holds the file share-locked; who gets it exclusively knows that there is none.
    """
    end = time.monotonic() + seconds
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)) as file:
        # Who can open it can lock it, and so keep us from starting anything.
        os.fchmod(file.fileno(), 0o600)
        told = False
        while not _lock_exclusively(file.fileno()):
            if time.monotonic() >= end:
                raise ServiceError(
                    f"commands of a former daemon still run after {seconds:g} s",
                    hint=f"see who has {path} open (fuser {path}), end them, and start again",
                )
            if not told:
                log.warning("waiting for commands of a former daemon to end")
                told = True
            if stop.wait(0.05):
                return


def _lock_exclusively(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run(settings: Settings) -> int:
    """Run the daemon in the foreground until it is told to stop; returns its exit status."""
    life = Life()
    life.catch_signals()
    daemon = Daemon(settings, life, raise_descriptors())
    try:
        daemon.start()
        return daemon.wait()
    finally:
        daemon.close()
