"""One session after another with one relay: the socket, the clock, and when to try again.

    connect → HELLO → WELCOME → FOLLOW → EVENTS … ACK …     BEAT both ways; 15 s of silence ends it

Every attempt has a socket of its own, which never reconnects by itself: a DEALER that libzmq
reconnects would speak to a relay that has forgotten it, and one whose handshake was refused for
good would never try again. The socket's monitor tells at once when a connection fails or ends.
"""

import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, Stop, fields
from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.messages import BEAT_SECONDS, CREDIT, MAX_MESSAGE, SILENCE_SECONDS
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    Message,
    Role,
    Session,
    SessionRefused,
    Welcome,
)
from subscriber.intake.inbox import Inbox, Tools
from subscriber.intake.journals import Alarm, Journals, Start
from subscriber.store.values import StoreError

FIRST_DELAY = 0.2
LAST_DELAY = 30.0
MESSAGES_PER_TURN = 32
GOODBYE_MS = 500

Context = zmq.Context[zmq.Socket[bytes]]

_ENDS = {
    zmq.EVENT_DISCONNECTED: "the connection was lost",
    zmq.EVENT_CLOSED: "nobody listens there",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed: is it the relay's certificate?",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: no relay listens there",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the relay refused our key",
}


class Lost(Exception):  # noqa: N818 - what happened to the session
    """The session is over; `kind` for counters, str() for people."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Remote:
    """A relay to follow. `name`: under which the store knows it.

    `token`: gives its certificate at each attempt (None while there is none), and is None itself
    for a relay in this process, which needs no CURVE.
    """

    name: str
    address: str
    token: Callable[[], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to every relay."""

    secret: SecretKey
    name: str
    store: str
    instance: str


class Backoff:
    """Growing delays with jitter: 0.2 s doubling to 30 s, each cut by up to a half at random."""

    def __init__(self, rand: Callable[[], float] = random.random) -> None:
        self._rand = rand
        self._next = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._next * (0.5 + self._rand() / 2)
        self._next = min(self._next * 2, LAST_DELAY)
        return delay

    def reset(self) -> None:
        """An attempt went well."""
        self._next = FIRST_DELAY


def new_identity(secret: SecretKey, name: str, store: str) -> Identity:
    """An identity whose instance is this process."""
    return Identity(secret, name, store, secrets.token_hex(8))


def secure(
    socket: "zmq.Socket[bytes]", remote: Remote, secret: SecretKey, keyring: Keyring
) -> None:
    """CURVE to the key in the relay's certificate, if a root of ours vouches for it; else Lost."""
    if remote.token is None:
        return
    try:
        token = remote.token()
    except ServiceError as error:
        raise Lost("bad-certificate", f"{error} ({error.hint})") from None
    if token is None:
        raise Lost("unreachable", "nobody listens there: no certificate beside the socket")
    try:
        certificate = keyring.peer(token, "relay", time.time())
    except Refused as error:
        raise Lost(error.kind, f"the relay's certificate is refused: {error.detail}") from None
    sockets.curve_client(socket, secret, certificate.curve)


def probe(remote: Remote, secret: SecretKey, keyring: Keyring, seconds: float) -> str:
    """Try the connection and its CURVE handshake; returns why it failed, or nothing.

    No HELLO is said: that would bind our name to a store.
    """
    context: Context = zmq.Context()
    with contextlib.ExitStack() as stack:
        stack.callback(context.term)
        socket = context.socket(zmq.DEALER)
        stack.callback(socket.close)
        sockets.limit(socket, MAX_MESSAGE)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = socket.get_monitor_socket(sum(_ENDS) + zmq.EVENT_HANDSHAKE_SUCCEEDED)
        stack.callback(monitor.close, linger=0)
        stack.callback(socket.disable_monitor)
        try:
            secure(socket, remote, secret, keyring)
            socket.connect(remote.address)
        except Lost as lost:
            return str(lost)
        except zmq.ZMQError as error:
            return str(error.strerror)
        if not monitor.poll(int(seconds * 1000)):
            return f"it does not answer within {seconds:g} s"
        event = zmq.Event(parse_monitor_message(monitor.recv_multipart())["event"])
        return _ENDS.get(event, "")


class Client:
    """Follows one relay until it is told to stop. `on_welcome` is called at each WELCOME."""

    def __init__(
        self,
        context: Context,
        remote: Remote,
        identity: Identity,
        tools: Tools,
        *,
        start: Start,
        on_welcome: Callable[[], None],
    ) -> None:
        self._context = context
        self._remote = remote
        self._identity = identity
        self._tools = tools
        self._start = start
        self._backoff = Backoff()
        self._log = logging.getLogger(f"{ROOT}.intake")
        self._on_welcome = on_welcome

    def run(self, stop: Stop) -> None:
        """Sessions, one after another; returns when `stop` is set."""
        while not stop.is_set():
            try:
                self._attempt(stop)
            except Lost as lost:
                self._tools.counters.add("sessions-lost", lost.kind)
                self._wait(stop, str(lost))
            except StoreError as error:
                # Nothing of the batch was stored or acked: the next session gets it again.
                self._tools.counters.add("sessions-lost", "store")
                self._wait(stop, f"the store failed: {error}")
            except zmq.ZMQError as error:  # no descriptor is left: others may use them up
                self._tools.counters.add("sessions-lost", "socket")
                self._wait(stop, f"no socket could be had: {error.strerror}")

    def _wait(self, stop: Stop, reason: str) -> None:
        if stop.is_set():  # the relay inside may leave a moment before us
            return
        with contextlib.suppress(StoreError):  # a store that fails is told of elsewhere
            self._tools.store.failed(self._remote.name, reason[:1000], self._tools.clock())
        delay = self._backoff.next()
        said = fields(relay=self._remote.name, reason=reason, retry=f"{delay:.1f}s")
        self._log.warning("no session with the relay", extra=said)
        stop.wait(delay)

    def _attempt(self, stop: Stop) -> None:
        journals = Journals(self._tools.store, self._remote.name, self._start)
        inbox = Inbox(self._tools, self._remote.name, journals)
        with contextlib.ExitStack() as stack:
            socket = self._context.socket(zmq.DEALER)
            stack.callback(socket.close)
            sockets.limit(socket, MAX_MESSAGE)
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
            try:
                secure(socket, self._remote, self._identity.secret, self._tools.keyring)
            except Lost as lost:
                self._tools.counters.add("refused", lost.kind)
                raise
            monitor = socket.get_monitor_socket(sum(_ENDS))
            stack.callback(monitor.close, linger=0)
            stack.callback(socket.disable_monitor)
            try:
                socket.connect(self._remote.address)
            except zmq.ZMQError as error:
                raise Lost("unreachable", str(error.strerror)) from None
            _Dialogue(self, socket, monitor, journals, inbox).run(stop)

    # What a dialogue needs of us

    def hello(self) -> Hello:
        """Who we are."""
        me = self._identity
        return Hello(me.secret.certificate or b"", me.name, me.store, me.instance)

    def greeted(self, name: str, journals: int) -> None:
        """The relay took us."""
        self._backoff.reset()
        self._log.info(
            "session began", extra=fields(relay=self._remote.name, name=name, journals=journals)
        )
        self._on_welcome()

    def heard(self) -> None:
        """The relay gave a sign of life: `status` shows the last one."""
        with contextlib.suppress(StoreError):
            self._tools.store.heard(self._remote.name, self._tools.clock())

    @property
    def tools(self) -> Tools:
        """Shared with the other clients."""
        return self._tools


class _Dialogue:
    """One session on one socket."""

    def __init__(
        self,
        client: Client,
        socket: "zmq.Socket[bytes]",
        monitor: "zmq.Socket[bytes]",
        journals: Journals,
        inbox: Inbox,
    ) -> None:
        self._client = client
        self._tools = client.tools
        self._socket = socket
        self._monitor = monitor
        self._journals = journals
        self._inbox = inbox
        self._session = Session(Role.SUBSCRIBER)
        self._heard = self._said = self._tools.tick()
        self._follow_at: float | None = None
        self._decisions = client.tools.decisions.count
        self._log = logging.getLogger(f"{ROOT}.intake")

    def run(self, stop: Stop) -> None:
        """Until `stop`, or Lost."""
        poller = zmq.Poller()
        for each in (self._socket, self._monitor, stop.fileno()):
            poller.register(each, zmq.POLLIN)
        self._say(self._client.hello())
        while not stop.is_set():
            ready = dict(poller.poll(int(self._timeout() * 1000) + 1))
            if self._socket in ready:
                self._listen()
            elif self._monitor in ready:
                self._look()
            self._on_time()
        if self._session.round:
            self._socket.setsockopt(zmq.LINGER, GOODBYE_MS)
            self._say(Bye("stopping"))

    def _timeout(self) -> float:
        due = [self._heard + SILENCE_SECONDS, self._said + BEAT_SECONDS]
        if self._follow_at is not None:
            due.append(self._follow_at)
        return max(0.0, min(due) - self._tools.tick())

    def _on_time(self) -> None:
        tick = self._tools.tick()
        if tick - self._heard >= SILENCE_SECONDS:
            raise Lost("silence", f"nothing was heard for {SILENCE_SECONDS:g} s")
        if self._session.round and tick - self._said >= BEAT_SECONDS:
            self._say(Beat())
        due = self._follow_at is not None and tick >= self._follow_at
        if self._session.round and (due or self._is_decided()):
            self._follow()
        self._inbox.throttle.tick()

    def _is_decided(self) -> bool:
        """Whether an operator's decision lets a stopped journal go on; looked at every 5 s."""
        before, self._decisions = self._decisions, self._tools.decisions.count
        return before != self._decisions and self._journals.decided()

    def _listen(self) -> None:
        """Take what came, a bounded number of messages, so that the clock is looked at too."""
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._heard = self._tools.tick()
            try:
                self._handle(self._session.receive(frames), messages.cost(frames))
            except Refused as error:
                self._tools.counters.add("refused", error.kind)
                raise Lost(error.kind, f"the relay broke the rules: {error}") from None

    def _handle(self, message: Message, cost: int) -> None:
        match message:
            case Welcome():
                self._client.heard()
                self._client.greeted(message.name, len(message.journals))
                self._alarm(self._journals.welcome(message.journals, self._tools.clock()))
                self._follow()
            case Beat():
                self._client.heard()
                self._alarm(self._journals.heads(message.heads, self._tools.clock()))
            case Events():
                self._take(message, cost)
            case Bye():
                raise Lost("bye", f"the relay left: {message.reason}")
            case SessionRefused():
                self._tools.counters.add("session-refused", message.kind)
                raise Lost("refused", f"the relay refused us: {message.kind}: {message.detail}")

    def _take(self, batch: Events, cost: int) -> None:
        """Store, then ack; see inbox for the order of effects."""
        position = self._inbox.take(batch)
        if position is None:
            self._follow()
        else:
            self._say(Ack({batch.journal: position}, cost))

    def _follow(self) -> None:
        """Say where we stand in each journal; comes again when a stopped one is to be retried."""
        tick = self._tools.tick()
        patterns = tuple(pattern.text for pattern in self._tools.patterns)
        self._say(Follow(patterns, self._journals.positions(tick), CREDIT))
        self._follow_at = self._journals.next_retry(tick)

    def _alarm(self, alarms: list[Alarm]) -> None:
        for one in alarms:
            self._tools.counters.add("alarms", one.kind)
            said = {"repo": one.repo, "journal": one.journal, "next": one.next}
            self._inbox.throttle.warning(one.kind, one.text, **said)

    def _say(self, message: Message) -> None:
        try:
            self._socket.send_multipart(self._session.send(message), zmq.DONTWAIT)
        except zmq.Again:
            raise Lost("stalled", "the relay does not read") from None
        except Refused as error:
            raise Lost(error.kind, f"we cannot say what we have to: {error}") from None
        self._said = self._tools.tick()

    def _look(self) -> None:
        """What the connection itself tells; the last word of a relay is read before it."""
        event = zmq.Event(parse_monitor_message(self._monitor.recv_multipart())["event"])
        raise Lost("unreachable", _ENDS[event])
