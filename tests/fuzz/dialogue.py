"""Targets of what a relay and its peers say: frames, the state machine, questions."""

import json
from itertools import count

import wirekit
from fuzz import mutate, seeds
from fuzz.target import Target, lines, value_or_refused

from hgext_zmqhooks.wire import messages, question
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.events import dumps
from hgext_zmqhooks.wire.question import Question, Row
from hgext_zmqhooks.wire.session import Role, Session, State

NONCE = b"n" * question.NONCE_LENGTH
KEY = wirekit.key("publisher")
MOST_STEPS = 40


def frames(data: bytes) -> None:
    """Frames are refused, or a message that is read again as itself from what it encodes to."""
    given = lines(data, 4)
    if found := value_or_refused(messages.decode, given):
        again = messages.decode(messages.encode(found))
        assert (again, again.number) == (found, found.number)
        assert messages.encode(found)[1] == given[1]


def session(data: bytes) -> None:
    """Whatever two sides hear and say, only Refused is raised, the end is final, and what a relay has under way is within the credit."""  # noqa: E501
    try:
        steps = json.loads(data)
    except (ValueError, RecursionError):
        return
    sides = {"s": Session(Role.SUBSCRIBER), "r": Session(Role.RELAY)}
    for step in steps[:MOST_STEPS] if isinstance(steps, list) else ():
        match step:
            case ["s" | "r" as side, bool(says), str(verb), dict(header), str(payload)]:
                _step(sides[side], says, _frames(verb, header, payload))


def _frames(verb: str, header: object, payload: str) -> list[bytes]:
    parts = (messages.VERSION.decode(), verb, json.dumps(header), payload)
    return [part.encode(errors="surrogatepass") for part in parts]


def _step(side: Session, says: bool, given: list[bytes]) -> None:
    before = side.state, side.round, side.credit, side.granted
    try:
        if says:
            message = messages.decode(given)
            side.send(message)
        else:
            side.receive(given)
    except Refused:
        after = side.state, side.round, side.credit, side.granted
        assert after == (before if says else (State.ENDED, *before[1:]))
    assert side.state is State.ENDED or before[0] is not State.ENDED
    assert side.round in {before[1], before[1] + 1}
    assert side.credit <= side.granted
    untouched = before[2] == before[3] and side.round == before[1]
    assert side.credit >= 0 or untouched or before[2] == side.credit
    assert not side.may_send(0) or side.state is State.FOLLOWING


def asked(data: bytes) -> None:
    """A question is refused or its frames are those it was read from; an answer that is read is read again from what is written of it."""  # noqa: E501
    given = lines(data, 4)
    if found := value_or_refused(question.read_question, given):
        assert isinstance(found, Question)
        assert found.frames() == given
    frame = question.ANSWER + NONCE + data
    value_or_refused(question.read_answer, NONCE, frame, (KEY.curve_public, KEY.curve_secret))
    other = value_or_refused(question.read_answer, NONCE, data)
    assert other is None or data.startswith(question.ANSWER + NONCE)
    if answer := value_or_refused(question.read_answer, NONCE, frame):
        written = question.write_answer(NONCE, answer.head, answer.sessions, answer.rows)
        assert len(written) <= question.MAX_ANSWER
        again = question.read_answer(NONCE, written)
        assert again is not None
        assert set(again.rows) <= set(answer.rows)
        assert len(again.rows) + again.left_out == len(answer.rows)


def _dialogue() -> list[bytes]:
    """The vectors, said by one side and heard by the other; and a talk that goes on."""
    said = [
        [verb.decode(), json.loads(header), payload.decode("latin-1")]
        for _, verb, header, payload in seeds.frames()
    ]
    first = {step[0]: step for step in reversed(said)}
    hello, welcome, follow = first["HELLO"], first["WELCOME"], first["FOLLOW"]
    events = ["EVENTS", {"round": 1, "journal": "f" * 32, "scanned": 9}, ""]
    ack = ["ACK", {"round": 1, "positions": {"f" * 32: 9}, "credit": 50}, ""]
    order = [("s", hello), ("r", welcome), ("s", follow), ("r", events), ("s", ack)]
    order += [("r", events), ("s", first["BEAT"]), ("r", first["BEAT"]), ("s", follow)]
    other = {"s": "r", "r": "s"}
    numbers = {"s": count(1), "r": count(1)}
    steps = []
    for side, (verb, header, payload) in order:
        message = [verb, header | {"number": next(numbers[side])}, payload]
        steps += [[side, True, *message], [other[side], False, *message]]
    endings = [["s", True, *first["BYE"]], ["r", True, *first["REFUSED"]]]
    return [dumps(steps), *[dumps([*steps, ending]) for ending in endings], dumps(steps[:8])]


ANSWER = question.write_answer(
    NONCE, 42, 2, [Row("ci", 42, 1_795_251_302, True), Row("audit", 0, 0, False)]
)
TARGETS = (
    Target("frames", frames, [b"\n".join(one) for one in seeds.frames()], mutate.a_line),
    Target("session", session, _dialogue(), mutate.json_bytes, size=8192),
    Target(
        "question",
        asked,
        [
            b"\n".join(Question(NONCE, wirekit.JOURNAL, wirekit.token()).frames()),
            ANSWER[1 + len(NONCE) :],
            ANSWER,
        ],
        mutate.a_line,
    ),
)
