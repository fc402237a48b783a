"""The daemon: puts the parts together, starts them in order, and ends them in order.

    start   keys → this host's lock → store → orphaned commands have ended → leases freed
            → relay inside → engine → intake → "ready" at the first WELCOME
    stop    all are asked at once: intake and relay say goodbye, the engine claims nothing more,
            lets running actions finish within its bounds and then stops them; then the relay
            closes, and the store last, since all the others write to it

A part that fails stops all, and the daemon ends with a status that is not 0: its supervisor starts
it again, and what was under way is found in the store.
"""

import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace

import zmq

from hgext_zmqhooks.keys import files, renew
from hgext_zmqhooks.relay.catalog import without_repository
from hgext_zmqhooks.relay.reload import readers_part, trust_part
from hgext_zmqhooks.relay.server import Relay
from hgext_zmqhooks.relay.settings import RelaySettings
from hgext_zmqhooks.service import ipc
from hgext_zmqhooks.service.errors import EXIT
from hgext_zmqhooks.service.life import ROOT, Life, fields, raise_descriptors
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.service.watch import Part, Watch
from hgext_zmqhooks.wire.certificates import Certificate
from subscriber.actions.place import Place
from subscriber.compiled import Compiled, compiled
from subscriber.configuration import Configuration, warn_of_deaf, warn_of_missing
from subscriber.control import Control, Rows
from subscriber.credentials import (
    EXPIRED,
    Credentials,
    certificates_of,
    load_credentials,
    load_relay,
    relay_trust,
)
from subscriber.engine.dispatch import CANCEL_BOUND, FINISH_BOUND, Dispatcher
from subscriber.host import Host
from subscriber.inside import check_endpoints, relay_settings
from subscriber.intake.client import Client
from subscriber.intake.connect import Context, Remote
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Decisions, Tools
from subscriber.intake.verify import Verifier
from subscriber.operate import operate
from subscriber.reload import Reload
from subscriber.retention import Retention
from subscriber.settings import Peer, Settings, beside
from subscriber.store.base import Store
from subscriber.stores import await_store

INSIDE = "inside"
"""Name of the relay inside, under which the store keeps its journals."""

STOP_BOUND = FINISH_BOUND + CANCEL_BOUND + 5

log = logging.getLogger(f"{ROOT}.daemon")


def remote(peer: Peer) -> Remote:
    """A relay elsewhere; its certificate is read again for each attempt, since it is renewed."""
    path, endpoint = peer.certificate, peer.address
    if path is None:
        return Remote(str(endpoint), endpoint, lambda: ipc.read_certificate(endpoint))
    return Remote(str(endpoint), endpoint, lambda: files.load_certificate(path).token, pinned=path)


def on_host(relay: Remote) -> Remote:
    """A relay as hosts that share a store tell it apart: what is local is another one on each."""
    if relay.address.startswith("tcp:"):
        return relay
    return replace(relay, name=f"{relay.name}@{socket.gethostname()}")


def place(settings: Settings, descriptors: int | None = None) -> Place:
    """Where actions run; `descriptors`: how many their commands may have open."""
    return Place(settings.folder, beside(settings.state, ".runners"), descriptors)


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
        self._host: Host | None = None
        self._store: Store | None = None
        self._engine: Dispatcher | None = None
        self._control: Control | None = None
        self._decisions = Decisions()
        self._verifier = Verifier()
        self._parts: list[Part] = []
        self._ready = threading.Event()

    def start(self) -> None:
        """Bring everything up, in the order told above. Raises ServiceError; then call `close`."""
        settings = self._settings
        credentials = load_credentials(settings)
        inside = relay_settings(settings)
        self._host = host = Host(settings.state, credentials.name)
        store = await_store(settings, host.lock, self._life.stop)
        if store is None:
            return
        self._store = store
        host.inherit(store, self._life.stop)
        remotes = [remote(peer) for peer in settings.relays]
        if inside is not None:
            remotes.insert(0, self._start_relay(inside))
        self._warn(inside, credentials)
        here = place(settings, self._descriptors)
        warn_of_missing(settings, here)
        work = compiled(settings, here)
        self._engine = engine = self._start_engine(store, work, host.owner)
        tools = Tools(
            store=store,
            keyring=credentials.keyring,
            patterns=work.patterns,
            match=work.match,
            counters=self._counters,
            notify=engine.notify,
            decisions=self._decisions,
            verifier=self._verifier,
            allowed=credentials.allowed,
            owner=host.owner,
        )
        if store.follow(tools.scope):
            log.info("what is read has changed; every journal goes on where it stands")
        self._control = Control(beside(settings.state, ".control"), self._decide)
        self._life.spawn("control", self._control.run)
        identity = new_identity(credentials.secret, credentials.name, store.identity())
        current = Current(identity, tools)
        for each in map(on_host, remotes) if store.shared else remotes:
            client = Client(
                self._context,
                each,
                current,
                start=settings.start,
                on_welcome=self._on_welcome,
            )
            self._life.spawn(f"intake {each.name}", client.run)
        retention = Retention(store, settings.keep)
        self._life.spawn("retention", retention.run)
        configuration = Configuration(settings, here, current, engine, retention)
        parts = [*self._parts, *Reload(configuration, credentials.keyring, current).parts()]
        self._life.spawn("watch", Watch(parts, self._life.hangup).run)

    def _start_relay(self, inside: RelaySettings) -> Remote:
        own, keyring = load_relay(self._settings, inside)
        check_endpoints(self._settings, inside)
        self._relay = relay = Relay(
            inside, own.secret, keyring, context=self._context, counters=self._counters
        )
        relay.start()
        trusted = trust_part("relay.trust", relay_trust(self._settings, inside), keyring, own.warn)
        self._parts = [
            trusted,
            own.part("relay.key", relay.renew),
            readers_part("relay.broadcast-readers", inside, relay),
        ]
        for pattern in without_repository(inside.repositories):
            said = fields(key="relay.repositories", value=pattern)
            log.warning("no repository found: is it misspelt?", extra=said)
        self._life.spawn("relay", relay.run)
        return Remote(INSIDE, relay.inproc)

    def _warn(self, inside: RelaySettings | None, credentials: Credentials) -> None:
        """What will not work although the daemon starts; certificates once a day from now on."""
        warn_of_deaf(self._settings, credentials.allowed)

        def ours() -> list[Certificate]:
            return [found for _, found in certificates_of(self._settings, inside)]

        self._life.spawn(
            "certificates", lambda stop: renew.remind(ours, EXPIRED, log.warning, stop.wait)
        )

    def _start_engine(self, store: Store, work: Compiled, owner: str) -> Dispatcher:
        settings = self._settings
        engine = Dispatcher(
            store,
            work.specs,
            work.actions,
            owner=owner,
            workers=settings.workers,
            lease=settings.lease,
        )
        self._life.spawn("engine", engine.run)
        return engine

    def _decide(self, request: Mapping[str, object], who: str) -> Rows:
        """What came over the control socket."""
        assert self._store is not None
        rows = operate(self._store, request, who, self._store.now())
        for row in rows:
            if row.get("changed", True):
                # The line has its own time, and is there because something changed.
                said = {key: row[key] for key in row if key not in {"at", "changed"}}
                log.warning("%s by an operator", row["kind"], extra=fields(**said))
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
        self._tell_what_runs()
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

    def _tell_what_runs(self) -> None:
        """Why stopping takes a while: a person who waits shall know for what, and how long."""
        for attempt in self._engine.running() if self._engine is not None else ():
            said = attempt.fields(seconds=FINISH_BOUND, then="it is ended and runs again later")
            log.info("waiting for a delivery to end; a second signal waits no more", extra=said)

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
        if self._host is not None:
            self._host.close()


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
