"""The live copy: offer events to a relay, within a deadline, from a process that soon ends.

    XPUB --connect--> XSUB of the relay
      <- 0x01                   the relay subscribes: only now does anything arrive
      -> topic|event|signature|certificate
      <- "A" + first 16 bytes of the event's SHA-256: only this is sure

The same way goes a question, how far the relay's subscribers are (see `wire/question.py`).

A live copy is a hint. Whatever is not confirmed in time comes from the journal, so nothing here
waits longer than it was told, raises, or blocks the end of the process: sockets are closed with
LINGER 0, and the context is never terminated (libzmq waits for a name server in `term`). zmq is
imported by whoever imports this module, so the extension does that at first use.
"""

import abc
import contextlib
import enum
import hashlib
import math
import os
import re
import secrets
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from .settings import Curve
from .wire import question
from .wire.errors import Refused
from .wire.question import Answer, Question

MAX_MESSAGES = 1000
MAX_BYTES = 1 << 20
PAUSE = 30.0
"""Seconds without live copies after one timeout of this process."""

USUAL = 0.25
"""Seconds to wait for an answer where `live-timeout` allows none for live copies."""

_LONGEST_ANSWER = question.MAX_ANSWER
_LOST = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_TCP = re.compile(r"tcp://(\[[^\]]+\]|[^:]+):(\d+)")

Frames = Sequence[bytes]

# By process id, and for ever: to collect a context is to terminate it, which may block.
_contexts: "dict[int, zmq.Context[zmq.Socket[bytes]]]" = {}


class Ending(enum.Enum):
    """How a live copy ended."""

    CONFIRMED = "confirmed"
    NOBODY = "nobody listens"
    TIMEOUT = "no answer in time"
    PAUSED = "skipped after a timeout"
    NOTHING = "nothing to send"


@dataclass(frozen=True, slots=True)
class PublishResult:
    """`confirmed` of `offered` messages were acknowledged, after `seconds`."""

    ending: Ending
    confirmed: int
    offered: int
    seconds: float


class Publisher:
    """One per process; threads may share it.

    The ZeroMQ context is made at first use, and again in a forked child: one inherited from the
    parent accepts messages and loses them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def publish(
        self, endpoint: str, messages: Sequence[Frames], timeout: float, curve: Curve | None = None
    ) -> PublishResult:
        """Offer the first messages, at most MAX_MESSAGES and MAX_BYTES, for `timeout` seconds."""
        start = self._clock()
        chosen = _first(messages)
        copy = _Copy(chosen)
        ending = Ending.NOTHING
        if chosen:
            paused = start < self._paused_until
            ending = Ending.PAUSED if paused else self._talk(endpoint, copy, start + timeout, curve)
        if ending is Ending.TIMEOUT:
            self._paused_until = self._clock() + PAUSE
        return PublishResult(ending, copy.confirmed, len(chosen), self._clock() - start)

    def probe(self, endpoint: str, timeout: float, curve: Curve | None = None) -> Ending:
        """CONFIRMED if a relay subscribes within `timeout` seconds."""
        return self._talk(endpoint, _Copy([]), self._clock() + timeout, curve)

    def ask(
        self, endpoint: str, journal: str, timeout: float, curve: Curve | None = None
    ) -> tuple[Ending, Answer | None]:
        """How far the subscribers of a journal are; CONFIRMED with an answer, else None."""
        asking = _Asking(journal, curve)
        ending = self._talk(endpoint, asking, self._clock() + timeout, curve)
        return ending, asking.answer

    def _talk(self, endpoint: str, talk: "_Talk", end: float, curve: Curve | None) -> Ending:
        try:
            address = resolve(endpoint, end - self._clock())
        except TimeoutError:
            return Ending.TIMEOUT
        except OSError:
            return Ending.NOBODY
        socket = _socket(self._context(), curve)
        try:
            return talk.run(socket, address, end, self._clock)
        except zmq.ZMQError:
            return Ending.NOBODY
        finally:
            socket.close(linger=0)

    def _context(self) -> "zmq.Context[zmq.Socket[bytes]]":
        with self._lock:
            context = _contexts.get(os.getpid())
            if context is None:
                context = _contexts[os.getpid()] = zmq.Context()
            return context


def _first(messages: Sequence[Frames]) -> list[Frames]:
    chosen: list[Frames] = []
    size = 0
    for message in messages[:MAX_MESSAGES]:
        size += sum(map(len, message))
        if size > MAX_BYTES and chosen:
            break
        chosen.append(message)
    return chosen


def _socket(context: "zmq.Context[zmq.Socket[bytes]]", curve: Curve | None) -> "zmq.Socket[bytes]":
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    socket.setsockopt(zmq.XPUB_NODROP, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_ANSWER)
    socket.setsockopt(zmq.IPV6, 1)
    if curve is not None:
        socket.curve_publickey = curve.public.encode()
        socket.curve_secretkey = curve.secret.encode()
        socket.curve_serverkey = curve.server.encode()
    return socket


class _Talk(abc.ABC):
    """One socket's conversation: wait for the subscription, send, wait for what comes back."""

    def __init__(self, messages: Sequence[Frames]) -> None:
        self._messages = messages
        self._sent = 0
        self._subscribed = False

    def run(
        self, socket: "zmq.Socket[bytes]", address: str, end: float, clock: Callable[[], float]
    ) -> Ending:
        """Talk until all is said and heard, or until `end`."""
        monitor = socket.get_monitor_socket(_LOST)
        try:
            socket.connect(address)
            return self._loop(socket, monitor, end, clock)
        finally:
            socket.disable_monitor()
            monitor.close(linger=0)

    def _loop(
        self,
        socket: "zmq.Socket[bytes]",
        monitor: "zmq.Socket[bytes]",
        end: float,
        clock: Callable[[], float],
    ) -> Ending:
        poller = zmq.Poller()
        poller.register(monitor, zmq.POLLIN)
        while not self._done():
            left = end - clock()
            sending = self._subscribed and self._sent < len(self._messages)
            poller.register(socket, zmq.POLLIN | (zmq.POLLOUT if sending else 0))
            ready = dict(poller.poll(math.ceil(left * 1000))) if left > 0 else {}
            if not ready:
                return Ending.TIMEOUT
            if ready.get(socket, 0) & zmq.POLLIN:
                self._receive(socket)
            if ready.get(socket, 0) & zmq.POLLOUT:
                self._send(socket)
            if monitor in ready and _lost(monitor) and not self._done():
                return Ending.NOBODY
        return Ending.CONFIRMED

    def _done(self) -> bool:
        return self._subscribed and self._heard_all()

    @abc.abstractmethod
    def _heard_all(self) -> bool:
        """Whether nothing more is waited for."""

    @abc.abstractmethod
    def _hear(self, frame: bytes) -> None:
        """Take what the relay said."""

    def _receive(self, socket: "zmq.Socket[bytes]") -> None:
        while True:
            try:
                frame = socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            if frame[:1] == b"\x01":
                self._subscribed = True
            else:
                self._hear(frame)

    def _send(self, socket: "zmq.Socket[bytes]") -> None:
        while self._sent < len(self._messages):
            try:
                socket.send_multipart(self._messages[self._sent], zmq.DONTWAIT)
            except zmq.Again:
                return
            self._sent += 1


class _Copy(_Talk):
    """Live copies; without any it ends when a relay has subscribed."""

    def __init__(self, messages: Sequence[Frames]) -> None:
        super().__init__(messages)
        self._missing = {hashlib.sha256(frames[1]).digest()[:16] for frames in messages}
        self._expected = len(self._missing)

    @property
    def confirmed(self) -> int:
        """How many messages were confirmed."""
        return self._expected - len(self._missing)

    def _heard_all(self) -> bool:
        return not self._missing

    def _hear(self, frame: bytes) -> None:
        if frame[:1] == b"A":
            self._missing.discard(frame[1:])


class _Asking(_Talk):
    """One question."""

    def __init__(self, journal: str, curve: Curve | None) -> None:
        nonce = secrets.token_bytes(question.NONCE_LENGTH)
        asked = Question(nonce, journal, curve.certificate if curve else b"")
        super().__init__([asked.frames()])
        self._nonce = nonce
        self._keys = (curve.public, curve.secret) if curve else None
        self.answer: Answer | None = None

    def _heard_all(self) -> bool:
        return self.answer is not None

    def _hear(self, frame: bytes) -> None:
        with contextlib.suppress(Refused):  # no answer that we understand is none
            self.answer = question.read_answer(self._nonce, frame, self._keys) or self.answer


def _lost(monitor: "zmq.Socket[bytes]") -> bool:
    """Whether the monitor says that there is no relay at the other end."""
    while True:
        try:
            frames = monitor.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        (event,) = struct.unpack_from("=H", frames[0])
        if event & _LOST:
            return True


def resolve(endpoint: str, timeout: float) -> str:
    """The address with a number for its host: libzmq would wait for a silent name server.

    The name is asked for in a thread that nobody waits for longer than `timeout` seconds. Raises
    TimeoutError, or OSError if there is no such host.
    """
    match = _TCP.fullmatch(endpoint)
    if match is None or match[1].startswith("[") or _is_number(match[1]):
        return endpoint
    answers: list[str | OSError] = []

    def ask() -> None:
        try:
            found = sockets.getaddrinfo(match[1], int(match[2]), type=sockets.SOCK_STREAM)
            answers.append(str(found[0][4][0]))
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(max(0.0, timeout))
    if not answers:
        raise TimeoutError(endpoint)
    if isinstance(answers[0], OSError):
        raise answers[0]
    host = f"[{answers[0]}]" if ":" in answers[0] else answers[0]
    return f"tcp://{host}:{match[2]}"


def _is_number(host: str) -> bool:
    try:
        sockets.inet_pton(sockets.AF_INET, host)
    except OSError:
        return False
    return True
