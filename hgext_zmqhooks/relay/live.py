"""Live copies: what hg sends at once after a commit, on an XSUB socket that we bind.

    hg's XPUB -> topic | event | signature | certificate
    hg's XPUB <- "A" + first 16 bytes of the event's SHA-256

    hg's XPUB -> ?subscribers | nonce | journal | certificate    how far is who follows it?
    hg's XPUB <- "S" + nonce + JSON                              see wire/question.py

A live copy wakes the relay; it is never served. It is checked like any message, so that nobody
can make us scan, and so that the sender is told only about what would be accepted. The answer goes
to all who are connected at that moment; only who sent that event knows it. A question is answered
from memory, to whoever may publish: it never makes us scan, read a journal or write.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from ..service.life import Throttle
from ..service.metrics import Counters
from ..service.sockets import descriptor, user_id
from ..wire import question
from ..wire.certificates import Certificate
from ..wire.envelope import Message
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from ..wire.question import Question
from ..wire.values import Event
from .intray import Intray
from .limits import Limits
from .peers import Address

PER_TURN = 256
"""Live copies looked at before the sessions get their turn."""
RECEIVE_SECONDS = 0.05
"""Time for emptying the socket."""
WAITING_BYTES = 16 << 20
"""Of one connection, of what has not been looked at yet; more is dropped: copies are hints."""
ALL_WAITING_BYTES = 64 << 20
"""Of all connections together."""
SUBSCRIBE_ALL = b"\x01"
ACK = b"A"


def acknowledgement(event: bytes) -> bytes:
    """What tells hg that this live copy arrived.

    >>> len(acknowledgement(b"{}")), acknowledgement(b"{}")[:1]
    (17, b'A')
    """
    return ACK + hashlib.sha256(event).digest()[:16]


@dataclass(slots=True)
class Live:
    """The receiving end; `socket` is bound by who makes it. `answer`: what a question gets.

    `limits`: of frames and bytes of a message. `curve`: the endpoint is one where a question needs
    a certificate, and a copy comes from no other peer than its signer. `heard`: is told of each
    message.
    """

    socket: "zmq.Socket[bytes]"
    keyring: Keyring
    counters: Counters
    throttle: Throttle
    answer: Callable[[Question, Certificate | None], bytes]
    curve: bool
    limits: Limits
    heard: Callable[[Sequence[zmq.Frame]], None]
    tray: Intray = field(default_factory=lambda: Intray(WAITING_BYTES, ALL_WAITING_BYTES))

    def subscribe(self) -> None:
        """Let every publisher send; a socket that is not polled would never say so again."""
        self.socket.send(SUBSCRIBE_ALL, zmq.DONTWAIT)

    @property
    def busy(self) -> bool:
        """Whether something that came has not been looked at yet."""
        return bool(self.tray)

    def drain(self, now: float) -> list[Event]:
        """The events of the copies that came and are what they claim. `now`: unix seconds."""
        self._collect()
        events: list[Event] = []
        for _ in range(PER_TURN):
            if (taken := self.tray.take()) is None:
                break
            if event := self._checked(taken[1], now):
                events.append(event)
        return events

    def _collect(self) -> None:
        """Empty the socket into the tray; see there why at once."""
        end = time.monotonic() + RECEIVE_SECONDS
        while time.monotonic() < end:
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            self.heard(frames)
            connection = Address(0, b"%d" % (descriptor(frames[0]) or 0))
            if not self.tray.put(connection, frames, known=False):
                self.counters.add("refused", "too-much")
                self.throttle.warning("live-too-much", "live copies dropped: too many at once")

    def _checked(self, received: list[zmq.Frame], now: float) -> Event | None:
        key = user_id(received[0])
        try:
            frames = self._opened(received)
            if frames[0].startswith(question.MARK):
                self._say("questions", self._answered(question.read_question(frames), key, now))
                return None
            message = Message.from_frames(frames)
            event = self._authentic(message, key, now)
        except Refused as refused:
            self.counters.add("refused", refused.kind)
            self.throttle.warning(
                f"live-{refused.kind}", "live copy refused", reason=refused.detail[:300]
            )
            return None
        self._say("live", acknowledgement(message.event))
        return event

    def _opened(self, received: list[zmq.Frame]) -> list[bytes]:
        self.limits.check([len(frame) for frame in received])
        return [frame.bytes for frame in received]

    def _authentic(self, message: Message, key: str | None, now: float) -> Event:
        """The event; over tcp only its signer may bring it, not who found a copy somewhere."""
        authentic = self.keyring.authenticate(message, now)
        if self.curve and authentic.certificate.curve != key:
            name = authentic.certificate.sub
            raise Refused("wrong-key", f"the CURVE key is not that of {name!r}, who signed it")
        return authentic.event

    def _answered(self, asked: Question, key: str | None, now: float) -> bytes:
        """The answer, for who may publish: the ipc socket's group, over tcp a certified key."""
        if not self.curve:
            return self.answer(asked, None)
        certificate = self.keyring.peer(asked.certificate, "publisher", now)
        if certificate.curve != key:
            raise Refused("wrong-key", f"the CURVE key is not that of {certificate.sub!r}")
        return self.answer(asked, certificate)

    def _say(self, counted: str, answer: bytes) -> None:
        self.counters.add(counted)
        try:
            self.socket.send(answer, zmq.DONTWAIT)
        except zmq.Again:  # hg waits until its live-timeout, then goes on
            self.counters.add(f"{counted}-unanswered")
