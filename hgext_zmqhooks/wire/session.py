"""The session: which side may say what when, and how many bytes may be under way.

All that affects a transition stands in TRANSITIONS; the picture in the docs is drawn from it. The
same class serves both sides. It does no I/O and knows no time: who holds it sends the frames,
watches the clock (BEAT every 5 s, 15 s of silence ends a session) and closes.

A subscriber grants credit in bytes with FOLLOW and gives back with ACK what it has stored. A relay
sends EVENTS only within it, so that a slow subscriber holds its credit and nothing else. Each
FOLLOW begins a new round; EVENTS and ACKs of an older one, which crossed it on the way, count as
signs of life only.

Each side numbers what it says: 1, 2, 3. CURVE asks for growing nonces, not for dense ones, so that
who stands on the way could take out a whole message. The next one then ends the session, and a new
one begins at the positions that are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum

from . import messages
from .errors import Refused
from .messages import MAX_MESSAGE
from .verbs import (
    VERBS,
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Position,
    Record,
    SessionRefused,
    Since,
    Welcome,
)

__all__ = [
    "TRANSITIONS",
    "Ack",
    "Beat",
    "Bye",
    "Events",
    "Follow",
    "Hello",
    "JournalInfo",
    "Message",
    "Position",
    "Record",
    "Role",
    "Session",
    "SessionRefused",
    "Since",
    "State",
    "Welcome",
]


class Role(Enum):
    """The two sides."""

    SUBSCRIBER = "subscriber"
    RELAY = "relay"


class State(Enum):
    """Where the dialogue stands."""

    OPENING = "opening"
    GREETED = "greeted"
    WELCOMED = "welcomed"
    FOLLOWING = "following"
    ENDED = "ended"


S, R = Role.SUBSCRIBER, Role.RELAY

TRANSITIONS: Mapping[tuple[State, Role, type], State] = {
    (State.OPENING, S, Hello): State.GREETED,
    (State.GREETED, R, Welcome): State.WELCOMED,
    (State.GREETED, R, SessionRefused): State.ENDED,
    (State.GREETED, S, Bye): State.ENDED,
    (State.GREETED, R, Bye): State.ENDED,
    (State.WELCOMED, S, Follow): State.FOLLOWING,
    (State.WELCOMED, S, Beat): State.WELCOMED,
    (State.WELCOMED, R, Beat): State.WELCOMED,
    (State.WELCOMED, S, Bye): State.ENDED,
    (State.WELCOMED, R, Bye): State.ENDED,
    (State.WELCOMED, R, SessionRefused): State.ENDED,
    (State.FOLLOWING, S, Follow): State.FOLLOWING,
    (State.FOLLOWING, R, Events): State.FOLLOWING,
    (State.FOLLOWING, S, Ack): State.FOLLOWING,
    (State.FOLLOWING, S, Beat): State.FOLLOWING,
    (State.FOLLOWING, R, Beat): State.FOLLOWING,
    (State.FOLLOWING, S, Bye): State.ENDED,
    (State.FOLLOWING, R, Bye): State.ENDED,
    (State.FOLLOWING, R, SessionRefused): State.ENDED,
}
"""(state, who speaks, what) -> next state; everything else is refused as "out-of-turn"."""


class Session:
    """One side's view of one session.

    `credit`: bytes of EVENTS that the relay may still send, of those `granted` by the last FOLLOW.
    `round`: the FOLLOWs so far.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.OPENING
        self.credit = 0
        self.round = 0
        self.granted = 0
        self._said = dict.fromkeys(Role, 0)

    @property
    def ended(self) -> bool:
        """Nothing may be said any more."""
        return self.state is State.ENDED

    def send(self, message: Message) -> list[bytes]:
        """The frames of a message of ours, stamped with its number and round; the state moves on.

        Refused "out-of-turn", "no-credit" or "too-large" is a fault of our own; nothing changed.
        """
        message = self._stamped(message)
        frames = messages.encode(message)
        if messages.cost(frames) > MAX_MESSAGE:
            raise Refused("too-large", f"{messages.cost(frames)} bytes, at most {MAX_MESSAGE}")
        self._advance(self.role, message, messages.cost(frames))
        return frames

    def refuse(self, kind: str, detail: str) -> list[bytes]:
        """REFUSED as the next message of ours, wherever the dialogue stands: it has ended."""
        self.state = State.ENDED
        return messages.encode(self._stamped(SessionRefused(kind, detail)))

    def receive(self, frames: Sequence[bytes]) -> Message:
        """The peer's message; a Beat in place of EVENTS or an ACK of an older round.

        After Refused the session has ended: nothing later is looked at.
        """
        try:
            message = messages.decode(frames)
            self._advance(_other(self.role), message, messages.cost(frames))
        except Refused:
            self.state = State.ENDED
            raise
        if isinstance(message, Events | Ack) and message.round != self.round:
            return Beat()
        return message

    def may_send(self, cost: int) -> bool:
        """Whether the credit allows EVENTS of this many bytes now.

        An untouched credit allows any one message, so that one larger than the credit passes.
        """
        untouched = self.credit == self.granted
        return self.state is State.FOLLOWING and (untouched or cost <= self.credit)

    def _stamped(self, message: Message) -> Message:
        number = self._said[self.role] + 1
        match message:
            case Follow():
                return replace(message, number=number, round=self.round + 1)
            case Events() | Ack():
                return replace(message, number=number, round=self.round)
            case _:
                return replace(message, number=number)

    def _advance(self, speaker: Role, message: Message, cost: int) -> None:
        after = TRANSITIONS.get((self.state, speaker, type(message)))
        if after is None:
            raise Refused(
                "out-of-turn",
                f"{speaker.value} said {VERBS[type(message)].decode()} while {self.state.value}",
            )
        self._check_number(speaker, message)
        self._account(message, cost)
        self._said[speaker] = message.number
        self.state = after

    def _check_number(self, speaker: Role, message: Message) -> None:
        expected = self._said[speaker] + 1
        if message.number != expected:
            raise Refused(
                "lost-message",
                f"{speaker.value} said {VERBS[type(message)].decode()} as number {message.number},"
                f" {expected} was next: something was lost on the way",
            )

    def _account(self, message: Message, cost: int) -> None:
        match message:
            case Follow(credit=credit, round=number):
                if number != self.round + 1:
                    raise Refused("out-of-turn", f"round {number} after {self.round}")
                self.round = number
                self.credit = self.granted = credit
            case Events(round=number) | Ack(round=number) if number > self.round:
                raise Refused("out-of-turn", f"round {number} was not begun")
            case Events(round=number) if number == self.round:
                if not self.may_send(cost):
                    raise Refused("no-credit", f"{cost} bytes of EVENTS, {self.credit} allowed")
                self.credit -= cost
            case Ack(round=number, credit=credit) if number == self.round:
                # What was never taken cannot come back: the two sides would count differently.
                if self.credit + credit > self.granted:
                    raise Refused(
                        "no-credit", f"{credit} bytes given back, {self.granted - self.credit} out"
                    )
                self.credit += credit


def _other(role: Role) -> Role:
    return Role.RELAY if role is Role.SUBSCRIBER else Role.SUBSCRIBER
