"""The relay: its sockets, its one loop, and the parts it puts together.

    publish     XSUB     live copies and questions from hg   ipc: file group; tcp: CURVE
    subscribe   ROUTER   sessions, all endpoints             CURVE
    inproc      ROUTER   the session of the subscriber in this process
    broadcast   PUB      every new event                     ipc: file group; tcp: CURVE

The loop: wait for any of them, take what came, look at the heads when it is time, then let each
session send a little. Nothing in it waits for a peer or walks a large tree in one go.
"""

import logging
import math
import time
from collections.abc import Iterator
from itertools import count

import zmq

from ..service import ipc, sockets
from ..service.connections import LOOK_SECONDS, Connections
from ..service.endpoints import Endpoint
from ..service.errors import ServiceError
from ..service.ipc import IpcLock
from ..service.life import ROOT, Stop, Throttle, fields
from ..service.metrics import Counters
from ..service.zap import BROADCAST, PUBLISH, SUBSCRIBE, Zap
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring
from ..wire.messages import BEAT_SECONDS
from . import opening
from .answers import Answers
from .broadcast import Broadcast
from .catalog import Scanner
from .gate import Gate
from .intray import SOCKET_HWM, Intray
from .live import Live
from .peers import Address, Origin, Sent
from .renewal import RETRY_SECONDS as BIND_SECONDS
from .renewal import Renewal
from .sessions import Sessions
from .settings import RelaySettings
from .shelf import Repository, Shelf
from .state import FLUSH_SECONDS, State

Context = zmq.Context[zmq.Socket[bytes]]

POLL_SECONDS = 1.0
"""How often heads are looked at while somebody wants to know."""
SCAN_BUDGET = 0.005
RETRY_SECONDS = 0.05
"""When frames that a socket did not take are offered again."""
RECEIVE_SECONDS = 0.05
"""Time for emptying one socket."""
LISTEN_SECONDS = 0.02
"""Time for looking at messages before other work gets its turn: some take long to read."""
PUBLISH_HWM = 4000
"""Answers that wait for one hg; more are dropped, so that who never reads costs 16 MiB at most."""
BROADCAST_MAX = 4096
GOODBYE_MS = 500

_numbers = count(1)


class Relay:
    """A relay as an object: for zmq-relay, and inside zmq-subscriber.

        relay = Relay(settings, secret, keyring, context=context, counters=counters)
        relay.start()               # binds and reads everything once; raises ServiceError
        thread: relay.run(stop)     # until stop is set
        relay.close()               # after run has returned; safe at any time, also twice

    `inproc`: where the subscriber in this process connects a DEALER of the same `context`, without
    CURVE; it says HELLO like any other and its certificate is checked like any other's, but for
    the CURVE key.
    `secret`: the relay's own key; its CURVE half is the servers' key. It signs nothing.
    `context`: closed by who gave it, after `close`. Without one the relay makes and closes its own.
    """

    def __init__(
        self,
        settings: RelaySettings,
        secret: SecretKey,
        keyring: Keyring,
        *,
        context: Context | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.inproc = f"inproc://zmqhooks-relay-{next(_numbers)}"
        self.counters = counters or Counters()
        self._settings = settings
        self._secret = secret
        self._keyring = keyring
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._log = logging.getLogger(f"{ROOT}.relay")
        self._throttle = Throttle(self._log)
        self._shelf = Shelf(self.counters, self._throttle)
        self._scanner = Scanner(settings.repositories)
        self._renewal = Renewal(secret, self._bind, self._throttle)
        self._locks: dict[Endpoint, IpcLock] = {}
        self._sockets: list[zmq.Socket[bytes]] = []
        self._routers: list[zmq.Socket[bytes]] = []
        self._tray = Intray()
        self.gate = Gate(settings, keyring, self.counters, self._throttle)
        most = settings.limits.unfinished
        self._connections = Connections(self._context, most, self.gate.cut_off)
        self._zap: Zap | None = None
        self._state: State | None = None

    # Beginning and end

    def start(self) -> None:
        """Bind everything and look at all journals once. Raises ServiceError; then call `close`.

        Locks come first, so that a second relay changes nothing before it is refused.
        """
        opening.check_certificate(self._settings, self._secret, self._keyring)
        serves = [str(one) for one in self._settings.subscribe if one.transport == "ipc"]
        for endpoint in self._settings.endpoints():
            if endpoint.transport == "ipc":
                group = self._settings.group
                self._locks[endpoint] = ipc.lock_ipc(endpoint, group=group, serves=serves)
        self._state = State(self._settings.state)
        found = self._scanner.step(budget=float("inf"))
        self._shelf.update(found or [], time.monotonic())
        self._zap = self.gate.open(self._context)
        self._routers = [self._inproc_router(), *self._subscribe_router()]
        publish, limits = self._publish(), self._settings.limits
        self._broadcast = self._broadcaster()
        self._sessions = Sessions(
            self._secret.name,
            keyring=self._keyring,
            shelf=self._shelf,
            state=self._state,
            post=self._post,
            refresh=self._look_at_heads,
            counters=self.counters,
            throttle=self._throttle,
            limits=limits,
            excess=self._settings.excess,
        )
        answers = Answers(self._shelf, self._state, self._sessions)
        curve = self._settings.publish.transport == "tcp"
        self._live = Live(
            publish,
            self._keyring,
            self.counters,
            self._throttle,
            answers,
            curve,
            limits,
            self._connections.heard,
        )
        self._live.subscribe()
        self._log.info(
            "relay serves", extra=fields(**opening.description(self._settings, self._shelf))
        )

    def _socket(self, kind: int, max_message: int, *endpoints: Endpoint) -> "zmq.Socket[bytes]":
        """`endpoints`: where it is going to be bound, as far as others may connect."""
        socket = self._context.socket(kind)
        self._sockets.append(socket)
        sockets.limit(socket, max_message)
        socket.setsockopt(zmq.RCVHWM, SOCKET_HWM)
        if any(one.transport == "tcp" for one in endpoints):
            self._connections.watch(socket)
        return socket

    def _bind(self, socket: "zmq.Socket[bytes]", endpoint: Endpoint) -> None:
        if endpoint.transport == "ipc":
            ipc.bind_ipc(socket, self._locks[endpoint])
        else:
            sockets.bind_tcp(socket, endpoint)

    def _publish(self) -> "zmq.Socket[bytes]":
        given = self._settings
        socket = self._socket(zmq.XSUB, given.limits.cut, given.publish)
        socket.setsockopt(zmq.SNDHWM, PUBLISH_HWM)
        if self._settings.publish.transport == "tcp":
            sockets.curve_server(socket, self._secret, PUBLISH)
        self._renewal.serve(socket, self._settings.publish)
        return socket

    def _router(self, *endpoints: Endpoint) -> "zmq.Socket[bytes]":
        socket = self._socket(zmq.ROUTER, self._settings.limits.cut, *endpoints)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        return socket

    def _inproc_router(self) -> "zmq.Socket[bytes]":
        socket = self._router()
        socket.bind(self.inproc)
        return socket

    def _subscribe_router(self) -> "Iterator[zmq.Socket[bytes]]":
        if not self._settings.subscribe:
            return
        socket = self._router(*self._settings.subscribe)
        sockets.curve_server(socket, self._secret, SUBSCRIBE)
        for endpoint in self._settings.subscribe:
            self._renewal.serve(socket, endpoint, announce=True)
        yield socket

    def _broadcaster(self) -> Broadcast | None:
        if self._settings.broadcast is None:
            return None
        socket = self._socket(zmq.PUB, BROADCAST_MAX, self._settings.broadcast)
        socket.setsockopt(zmq.RCVHWM, 0)  # a peer must never find it full: see intray
        if self._settings.broadcast_readers:
            sockets.curve_server(socket, self._secret, BROADCAST)
        elif self._settings.broadcast.transport == "tcp":
            sockets.plain_server(socket, BROADCAST)
        self._renewal.serve(socket, self._settings.broadcast)
        broadcast = Broadcast(socket, self._keyring, self._shelf, self.counters, self._throttle)
        broadcast.begin(time.time())
        return broadcast

    def close(self) -> None:
        """Close the sockets, write the state, give up the locks, in this order.

        A new relay may bind as soon as the locks are free, so nothing of ours is bound then.
        """
        self._connections.close()
        for socket in self._sockets:
            socket.close(linger=GOODBYE_MS)
        self._sockets.clear()
        if self._zap is not None:
            self._zap.close()
            self._zap = None
        if self._state is not None:
            try:
                self._state.close()
            except ServiceError as error:  # disk full: what is left still has to be closed
                said = fields(reason=str(error))
                self._log.warning("acknowledgements not written", extra=said)
            self._state = None
        if self._own_context:
            self._context.term()
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()

    def renew(self, secret: SecretKey) -> bool:
        """Serve with this key of its own from now on; False if it does already. For any thread."""
        return self._renewal.offer(secret)

    # The loop

    def run(self, stop: Stop) -> None:
        """Serve until `stop` is set, then say goodbye to the sessions."""
        poller = zmq.Poller()
        poller.register(stop.fileno(), zmq.POLLIN)
        poller.register(self._renewal.bell.fileno(), zmq.POLLIN)
        # A PUB socket is never ready; to wait for it makes libzmq take what readers send.
        heard = [] if self._broadcast is None else [self._broadcast.socket]
        for socket in (self._live.socket, *self._routers, *heard, *self._connections.monitors):
            poller.register(socket, zmq.POLLIN)
        due = dict.fromkeys(("heads", "beat", "flush"), 0.0)
        while not stop.is_set():
            ready = dict(poller.poll(math.ceil(self._timeout(due) * 1000)))
            now, tick = time.time(), time.monotonic()
            self._renew()
            self._connections.look(tick)
            if self._live.socket in ready or self._live.busy:
                self._take_live(now, tick)
            for number, router in enumerate(self._routers):
                if router in ready:
                    self._collect(number, router, time.monotonic())
            self._listen(now, tick)
            self._on_time(due, now, tick)
            self._sessions.turn(tick)
            if self._broadcast is not None:
                self._broadcast.turn(now, tick)
        self._sessions.close()

    def _renew(self) -> None:
        """Take up a new key of our own, if there is one; see renewal."""
        secret = self._renewal.take()
        if secret is not None:
            self._sessions.close("it has a new key", private=False)
            self._renewal.leave()
            self._forget_unread()
            self._log.info("a new key of our own is in use", extra=fields(name=secret.name))
        self._renewal.come_back()

    def _forget_unread(self) -> None:
        """What came from those who were cut off belongs to no session any more."""
        for number, router in enumerate(self._routers[1:], 1):
            self._collect(number, router, time.monotonic())
            self._tray.drop_all(number)

    def _watched(self) -> bool:
        """Whether anybody wants to know of new events."""
        return bool(self._sessions) or self._broadcast is not None

    def _timeout(self, due: dict[str, float]) -> float:
        """Seconds for which nothing has to be done unless something comes."""
        if (
            self._tray
            or self._live.busy
            or self._sessions.busy
            or (self._broadcast is not None and self._broadcast.busy)
        ):
            return 0
        if self._sessions.blocked:
            return RETRY_SECONDS
        wake = self._scanner.due
        if self._connections:
            wake = min(wake, time.monotonic() + LOOK_SECONDS)
        if self._renewal.waits:
            wake = time.monotonic() + BIND_SECONDS
        if self._watched() or self._throttle.holds:
            wake = min(wake, *due.values())
        return max(0.0, wake - time.monotonic())

    def _on_time(self, due: dict[str, float], now: float, tick: float) -> None:
        found = self._scanner.step(SCAN_BUDGET)
        if found is not None:
            self._changed(self._shelf.update(found, tick))
        if tick >= due["heads"] and self._watched():
            due["heads"] = tick + POLL_SECONDS
            self._look_at_heads(tick)
        if tick >= due["beat"]:
            due["beat"] = tick + BEAT_SECONDS / 5
            self._sessions.beat(now, tick)
            if self._broadcast is not None and self.gate.readers_ended():
                self._connections.cut(self._broadcast.socket)
            self._throttle.tick()
        if tick >= due["flush"]:
            due["flush"] = tick + FLUSH_SECONDS
            self._flush()

    def _flush(self) -> None:
        assert self._state is not None
        try:
            self._state.flush()
        except ServiceError as error:  # disk full: only `status` suffers, it is tried again
            self._throttle.warning("state", "acknowledgements not written", reason=str(error))

    def _take_live(self, now: float, tick: float) -> None:
        """Live copies only say where to look; once per journal is enough."""
        for event in {event.journal: event for event in self._live.drain(now)}.values():
            if not self._watched():
                return
            change = self._shelf.hint(event, tick)
            self._changed(change.changed)
            if change.unknown:
                self._scanner.ask()

    def _look_at_heads(self, tick: float) -> None:
        self._changed(self._shelf.poll(tick))

    def _changed(self, repositories: tuple[Repository, ...]) -> None:
        if repositories:
            self._sessions.changed(repositories)
            if self._broadcast is not None:
                self._broadcast.changed(repositories)

    def _collect(self, number: int, router: "zmq.Socket[bytes]", tick: float) -> None:
        """Empty a socket into the tray; see there why at once."""
        end = tick + RECEIVE_SECONDS
        while time.monotonic() < end:
            try:
                route, *frames = router.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            address = Address(number, route.bytes)
            self._connections.heard(frames)
            known = self._sessions.knows(address)
            if not self._tray.put(address, frames, known=known):
                self._tray.drop(address)
                self._sessions.overrun(address)

    def _listen(self, now: float, tick: float) -> None:
        """Look at what was collected, as long as there is time."""
        end = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < end and (taken := self._tray.take()):
            address, frames = taken
            # The route is ROUTER's own; every other part carries the User-Id.
            private = address.listener == 0
            key = None if private or not frames else sockets.user_id(frames[0])
            parts = [frame.bytes for frame in frames]
            self._sessions.receive(address, Origin(key, private), parts, now, tick)

    def _post(self, address: Address, frames: list[bytes]) -> Sent:
        router = self._routers[address.listener]
        try:
            router.send_multipart([address.route, *frames], zmq.DONTWAIT)
        except zmq.Again:
            return Sent.LATER
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return Sent.GONE
        return Sent.YES
