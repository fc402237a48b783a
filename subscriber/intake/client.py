"""One session after another with one relay: the socket, the clock, and when to try again.

    connect → HELLO → WELCOME → FOLLOW → EVENTS … ACK …     BEAT both ways; 15 s of silence ends it

Every attempt has a socket of its own, which never reconnects by itself: a DEALER that libzmq
reconnects would speak to a relay that has forgotten it, and one whose handshake was refused for
good would never try again. The socket's monitor tells at once when a connection fails or ends.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.life import ROOT, Bell, Stop, fields
from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.messages import BEAT_SECONDS, MAX_MESSAGE, SILENCE_SECONDS
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
from hgext_zmqhooks.wire.verbs import CREDIT, VERBS
from subscriber.intake.backoff import Backoff
from subscriber.intake.connect import ENDS, Context, Lost, Remote, check_relay, secure, why
from subscriber.intake.current import Current, Identity
from subscriber.intake.inbox import Inbox, Tools
from subscriber.intake.journals import Alarm, Journals, Start
from subscriber.intake.shares import EVERY, Shares
from subscriber.intake.verify import Pending
from subscriber.store.base import OtherScope, StoreError

MESSAGES_PER_TURN = 32
AHEAD = 1
"""Batches that may be verified while an earlier one is judged and stored."""
GOODBYE_MS = 500
STORE_PAUSE = 5.0
"""Seconds between two tries, at most, while it is our own store that fails."""

EVENTS = VERBS[Events]


class Client:
    """Follows one relay until it is told to stop. `on_welcome` is called at each WELCOME."""

    def __init__(
        self,
        context: Context,
        remote: Remote,
        current: Current,
        *,
        start: Start,
        on_welcome: Callable[[], None],
    ) -> None:
        self._context = context
        self._remote = remote
        self._current = current
        self._bell = current.bell()
        self._start = start
        self._backoff = Backoff()
        self._log = logging.getLogger(f"{ROOT}.intake")
        self._on_welcome = on_welcome

    def run(self, stop: Stop) -> None:
        """Sessions, one after another; returns when `stop` is set."""
        while not stop.is_set():
            try:
                with self._current.session() as (identity, tools):
                    self._attempt(stop, identity, tools)
            except Lost as lost:
                self._lost(stop, lost.kind, str(lost))
            except OtherScope as error:
                self._lost(stop, "scope", f"{error}: {error.hint}")
            except StoreError as error:
                # Nothing of the batch was stored or acked: the next session gets it again.
                self._lost(stop, "store", f"the store failed: {error}")
            except zmq.ZMQError as error:  # no descriptor is left: others may use them up
                self._lost(stop, "socket", f"no socket could be had: {error.strerror}")
        tools = self._current.tools
        Shares(tools.store, tools.owner, tools.scope).release()

    def _lost(self, stop: Stop, kind: str, reason: str) -> None:
        """Say so, and wait; not any longer once something changed that may help."""
        tools = self._current.tools
        tools.counters.add("sessions-lost", kind)
        if stop.is_set():  # the relay inside may leave a moment before us
            return
        with contextlib.suppress(StoreError):  # a store that fails is told of elsewhere
            tools.store.failed(self._remote.name, reason[:1000], tools.clock())
        delay = self._backoff.next()
        if kind == "store":
            delay = min(delay, STORE_PAUSE)
        said = fields(relay=self._remote.name, reason=reason, retry=f"{delay:.1f}s")
        self._log.warning("no session with the relay", extra=said)
        if self._bell.wait(stop, delay):
            self._backoff.reset()

    def _attempt(self, stop: Stop, identity: Identity, tools: Tools) -> None:
        """One session; returns when `stop` is set or who we are changes."""
        with contextlib.ExitStack() as stack:
            socket = self._context.socket(zmq.DEALER)
            stack.callback(socket.close)
            sockets.limit(socket, MAX_MESSAGE)
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
            try:
                token = secure(socket, self._remote, identity.secret, tools.keyring)
            except Lost as lost:
                tools.counters.add("refused", lost.kind)
                raise
            monitor = socket.get_monitor_socket(sum(ENDS))
            stack.callback(monitor.close, linger=0)
            stack.callback(socket.disable_monitor)
            try:
                socket.connect(self._remote.address)
            except zmq.ZMQError as error:
                raise Lost("unreachable", str(error.strerror)) from None
            link = _Link(socket, monitor, token)
            _Dialogue(self, link, identity, tools).run(stop)

    # What a dialogue needs of us

    @property
    def remote(self) -> Remote:
        """Whom we speak to."""
        return self._remote

    @property
    def start(self) -> Start:
        """Where reading begins at the first contact."""
        return self._start

    @property
    def bell(self) -> Bell:
        """Rung when something changed; see `changing`."""
        return self._bell

    @property
    def changing(self) -> bool:
        """Whether the session is to end, since who we are or what we may read changes."""
        return self._current.changing

    def greeted(self, name: str, journals: int) -> None:
        """The relay took us."""
        self._backoff.reset()
        self._log.info(
            "session began", extra=fields(relay=self._remote.name, name=name, journals=journals)
        )
        self._on_welcome()


@dataclass(frozen=True, slots=True)
class _Link:
    """A connection; `token`: the relay's certificate, None for one in this process."""

    socket: "zmq.Socket[bytes]"
    monitor: "zmq.Socket[bytes]"
    token: bytes | None


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A batch that came and is not taken yet: its signatures are verified meanwhile."""

    batch: Events
    cost: int
    pending: Pending


class _Dialogue:
    """One session on one socket."""

    def __init__(self, client: Client, link: _Link, identity: Identity, tools: Tools) -> None:
        self._client = client
        self._tools = tools
        self._socket = link.socket
        self._monitor = link.monitor
        self._token = link.token
        self._identity = identity
        self._journals = Journals(tools.store, client.remote.name, client.start)
        self._inbox = Inbox(tools, client.remote.name, self._journals)
        self._shares = Shares(tools.store, tools.owner, tools.scope)
        self._shared_at = 0.0
        self._session = Session(Role.SUBSCRIBER)
        self._heard = self._said = self._looked = self._tools.tick()
        self._follow_at: float | None = None
        self._ahead: deque[_Ahead] = deque()
        self._decisions = tools.decisions.count
        self._log = logging.getLogger(f"{ROOT}.intake")

    def run(self, stop: Stop) -> None:
        """Until `stop` or a change of who we are, or Lost."""
        poller = zmq.Poller()
        bell = self._client.bell
        for each in (self._socket, self._monitor, stop.fileno(), bell.fileno()):
            poller.register(each, zmq.POLLIN)
        me = self._identity
        self._say(Hello(me.secret.certificate or b"", me.name, me.store, me.instance))
        while not stop.is_set() and not self._client.changing:
            ready = dict(poller.poll(int(self._timeout() * 1000) + 1))
            if self._socket in ready or self._ahead:
                self._listen()
            elif self._monitor in ready:
                self._look()
            self._on_time(rung=bell.hush())
        if self._session.round:
            self._socket.setsockopt(zmq.LINGER, GOODBYE_MS)
            self._say(Bye("stopping" if stop.is_set() else "another key or other rules"))

    def _timeout(self) -> float:
        if self._ahead:
            return 0.0
        due = [self._heard + SILENCE_SECONDS, self._said + BEAT_SECONDS]
        if self._follow_at is not None:
            due.append(self._follow_at)
        if self._session.round:
            due.append(self._shared_at + EVERY)
        return max(0.0, min(due) - self._tools.tick())

    def _on_time(self, *, rung: bool) -> None:
        """`rung`: whom we trust has changed, so that stopped journals may go on."""
        tick = self._tools.tick()
        if tick - self._heard >= SILENCE_SECONDS:
            raise Lost("silence", f"nothing was heard for {SILENCE_SECONDS:g} s")
        if self._session.round and tick - self._said >= BEAT_SECONDS:
            self._say(Beat())
        if rung or tick - self._looked >= BEAT_SECONDS:
            self._looked = tick
            check_relay(self._token, self._tools.keyring, self._tools.clock())
        hurried = rung and self._journals.hurry(tick)
        due = self._follow_at is not None and tick >= self._follow_at
        if self._session.round and (due or hurried or self._is_decided() or self._is_shared(tick)):
            self._follow()
        self._inbox.throttle.tick()

    def _is_shared(self, tick: float) -> bool:
        """Whether we follow other journals than before, or a decision was made on another host.

        Looked at every `EVERY` s.
        """
        if tick - self._shared_at < EVERY:
            return False
        changed = self._share()
        return (self._tools.store.shared and self._journals.decided()) or changed

    def _share(self) -> bool:
        self._shared_at = self._tools.tick()
        return self._journals.share(self._shares.look(self._journals.told))

    def _is_decided(self) -> bool:
        """Whether a decision that came to this daemon lets a stopped journal go on."""
        before, self._decisions = self._decisions, self._tools.decisions.count
        return before != self._decisions and self._journals.decided()

    def _listen(self) -> None:
        """Take what came, a bounded number of messages, so that the clock is looked at too."""
        for _ in range(MESSAGES_PER_TURN):
            frames = self._next()
            if frames is None and not self._ahead:
                return
            try:
                if frames is None:
                    self._take_first()
                else:
                    self._receive(frames)
            except Refused as error:
                self._tools.counters.add("refused", error.kind)
                raise Lost(error.kind, f"the relay broke the rules: {error}") from None

    def _next(self) -> list[bytes] | None:
        try:
            frames = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        self._heard = self._tools.tick()
        return frames

    def _receive(self, frames: list[bytes]) -> None:
        """Whatever is no EVENTS finds all batches taken that came before it."""
        if frames[1:2] != [EVENTS]:
            self._take_ahead(0)
        try:
            message = self._session.receive(frames)
        except Refused:
            for each in self._ahead:  # only their ack cannot be said any more
                self._inbox.take(each.batch, each.pending)
            raise
        self._handle(message, messages.cost(frames))

    def _handle(self, message: Message, cost: int) -> None:
        match message:
            case Welcome():
                self._heard_of()
                self._client.greeted(message.name, len(message.journals))
                self._alarm(self._journals.welcome(message.journals, self._tools.clock()))
                self._tell_where_it_begins()
                self._share()
                self._follow()
            case Beat():
                self._heard_of()
                self._alarm(self._journals.heads(message.heads, self._tools.clock()))
                if message.heads and self._share():
                    self._follow()
            case Events():
                self._ahead.append(_Ahead(message, cost, self._inbox.begin(message)))
                self._take_ahead(AHEAD)
            case Bye():
                raise Lost("bye", f"the relay left: {message.reason}")
            case SessionRefused():
                self._tools.counters.add("session-refused", message.kind)
                raise Lost("refused", f"the relay refused us: {message.kind}: {message.detail}")

    def _heard_of(self) -> None:
        """The relay gave a sign of life: `status` shows the last one."""
        with contextlib.suppress(StoreError):
            self._tools.store.heard(self._client.remote.name, self._tools.clock())

    def _take_ahead(self, left: int) -> None:
        while len(self._ahead) > left:
            self._take_first()

    def _take_first(self) -> None:
        """Store, then ack; see inbox for the order of effects."""
        first = self._ahead.popleft()
        position = self._inbox.take(first.batch, first.pending)
        if position is None:
            self._follow()
        else:
            self._say(Ack({first.batch.journal: position}, first.cost))

    def _follow(self) -> None:
        """Say where we stand in each journal; comes again when a stopped one is to be retried.

        What came before it belongs to an older round, and comes again.
        """
        self._ahead.clear()
        tick = self._tools.tick()
        patterns = tuple(pattern.text for pattern in self._tools.patterns)
        self._say(Follow(patterns, self._journals.positions(tick), CREDIT))
        self._follow_at = self._journals.next_retry(tick)

    def _tell_where_it_begins(self) -> None:
        if passed_over := self._journals.passed_over:
            said = fields(events=passed_over, key="start")
            self._log.info("seen for the first time: what is there is not read", extra=said)

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
        """What the connection itself tells; the last word of a relay is read before it.

        That one may have come after the poll, but before this.
        """
        event = zmq.Event(parse_monitor_message(self._monitor.recv_multipart())["event"])
        self._listen()
        raise Lost("unreachable", why(event, self._client.remote))
