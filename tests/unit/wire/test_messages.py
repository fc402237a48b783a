"""The messages of a session: frames out, typed values in, and all that is refused."""

import json
from dataclasses import replace

import pytest
import wirekit

from hgext_zmqhooks.wire import events, messages
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.verbs import (
    VERBS,
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Record,
    SessionRefused,
    Since,
    Welcome,
)

J, K = wirekit.JOURNAL, "f" * 32
SHA = "a" * 64
INFO = JournalInfo(J, "team/ä", 1, 42, closed=True)
BATCH = Events(
    J,
    12,
    (b"x.y.z",),
    (Record(10, SHA, b"s" * 64, b"{}"), Record(12, SHA, b"t" * 64, b'{"a":"\xc3\xa9"}')),
    round=3,
)
MESSAGES = [
    Hello(b"a.b.c", "ci", "store_1", "i-1"),
    Welcome("relay", (INFO,)),
    Welcome("relay", ()),
    Follow(("hg:**:**:",), {J: 3, K: None, "0" * 32: Since(1.5)}, 1000, 2),
    BATCH,
    Events(J, 0),
    Ack({J: 12}, 500, 3),
    Beat((INFO,)),
    Beat(),
    Bye("stopping"),
    Bye(),
    SessionRefused("not-allowed", "nö"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_its_frames(message: Message) -> None:
    frames = messages.encode(replace(message, number=7))

    assert messages.decode(frames) == message
    assert messages.decode(frames).number == 7
    assert messages.cost(frames) == len(frames[2]) + len(frames[3])


def test_every_message_has_a_verb_and_a_reader() -> None:
    assert {type(message) for message in MESSAGES} == set(VERBS)
    assert set(VERBS.values()) == set(messages._READERS)


def refusal(frames: list[bytes]) -> str:
    with pytest.raises(Refused) as caught:
        messages.decode(frames)
    return caught.value.kind


V = messages.VERSION


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([], "bad-frames"),
        ([V, b"BEAT", b"{}"], "bad-frames"),
        ([V, b"BEAT", b"{}", b"", b""], "bad-frames"),
        ([b"zmqhooks/2", b"BEAT", b"{}", b""], "bad-version"),
        ([b"x" * 1_000_000, b"BEAT", b"{}", b""], "bad-version"),
        ([V, b"beat", b"{}", b""], "bad-message"),
        ([V, b"\xff" * 1_000_000, b"{}", b""], "bad-message"),
        ([V, b"BEAT", b"", b""], "bad-message"),
        ([V, b"BEAT", b"[]", b""], "bad-message"),
        ([V, b"BEAT", b"[" * 100_000, b""], "bad-message"),
        ([V, b"BEAT", b'{"heads":[],"heads":[]}', b""], "bad-message"),
        ([V, b"BEAT", b"{}", b"x"], "bad-message"),
        ([V, b"BEAT", b"{}", bytes(messages.MAX_MESSAGE)], "bad-message"),
    ],
)
def test_what_is_no_message_is_refused(frames: list[bytes], kind: str) -> None:
    assert refusal(frames) == kind


def changed(message: Message, key: str, value: object) -> list[bytes]:
    frames = messages.encode(message)
    header = json.loads(frames[2]) | {key: value}
    return [*frames[:2], events.dumps(header), frames[3]]


HELLO, WELCOME, FOLLOW = MESSAGES[0], MESSAGES[1], MESSAGES[3]
ROWS = [[10, SHA, 2], [12, SHA, 10]]


def test_the_rows_used_below_are_right() -> None:
    assert messages.decode(changed(BATCH, "records", ROWS)) == BATCH


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        (HELLO, "certificate", None),
        (HELLO, "number", None),
        (HELLO, "number", -1),
        (HELLO, "number", True),
        (HELLO, "number", 2**63),
        (HELLO, "name", ""),
        (HELLO, "name", "x" * 1025),
        (HELLO, "store", "a b"),
        (HELLO, "store", "x" * 65),
        (HELLO, "instance", "x\n"),
        (WELCOME, "journals", [{}]),
        (WELCOME, "journals", [[J]]),
        (WELCOME, "journals", {"journal": J}),
        (FOLLOW, "patterns", "hg:**:**:"),
        (FOLLOW, "patterns", ["x"] * (messages.MAX_PATTERNS + 1)),
        (FOLLOW, "patterns", ["x" * 4096] * 17),
        (FOLLOW, "positions", [J]),
        (FOLLOW, "positions", {"x": 1}),
        (FOLLOW, "positions", {J: -1}),
        (FOLLOW, "positions", {J: True}),
        (FOLLOW, "positions", {J: 1.0}),
        (FOLLOW, "positions", {J: 2**63}),
        (FOLLOW, "positions", {J: "1"}),
        (FOLLOW, "positions", {J: {}}),
        (FOLLOW, "positions", {J: {"since": "1"}}),
        (FOLLOW, "positions", {J: {"since": False}}),
        (FOLLOW, "positions", {J: {"since": -1}}),
        (FOLLOW, "positions", {J: {"since": 10**400}}),
        (FOLLOW, "credit", 0),
        (FOLLOW, "credit", 2**63),
        (FOLLOW, "round", -1),
        (BATCH, "journal", "x"),
        (BATCH, "scanned", 11),
        (BATCH, "scanned", -1),
        (BATCH, "certificates", [1]),
        (BATCH, "round", None),
        (BATCH, "records", {}),
        (BATCH, "records", []),
        (BATCH, "records", ROWS[:1]),
        (BATCH, "records", [[n, SHA, 1] for n in range(1, messages.MAX_RECORDS + 2)]),
        (BATCH, "records", [ROWS[1], ROWS[0]]),
        (BATCH, "records", [ROWS[0], [10, SHA, 10]]),
        (BATCH, "records", [ROWS[0], [12, SHA, 11]]),
        (BATCH, "records", [ROWS[0], [12, SHA, 9]]),
        (BATCH, "records", [[True, SHA, 2], ROWS[1]]),
        (BATCH, "records", [[0, SHA, 2], ROWS[1]]),
        (BATCH, "records", [[10, SHA.upper(), 2], ROWS[1]]),
        (BATCH, "records", [[10, SHA, 0], ROWS[1]]),
        (BATCH, "records", [[10, SHA, -64], ROWS[1]]),
        (BATCH, "records", [[10, SHA, 2.0], ROWS[1]]),
        (BATCH, "records", [[10, SHA, 2, 0], ROWS[1]]),
        (BATCH, "records", [10, 12]),
        (Ack({J: 1}), "positions", {J: None}),
        (Ack({J: 1}), "positions", {J: True}),
        (Ack({J: 1}), "positions", {J: -1}),
        (Ack({J: 1}), "positions", {"x": 1}),
        (Ack({J: 1}), "credit", -1),
        (Bye(), "reason", None),
        (SessionRefused("a", ""), "kind", "two words"),
        (SessionRefused("a", ""), "kind", ""),
        (SessionRefused("a", ""), "detail", 1),
    ],
)
def test_one_wrong_value_is_refused(message: Message, key: str, value: object) -> None:
    assert refusal(changed(message, key, value)) == "bad-message"


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999"])
def test_no_time_is_not_a_number(constant: str) -> None:
    position = f'{{"{J}":{{"since":{constant}}}}}'
    header = f'{{"number":1,"patterns":[],"positions":{position},"credit":1,"round":1}}'

    assert refusal([V, b"FOLLOW", header.encode(), b""]) == "bad-message"


def test_a_length_of_true_is_none() -> None:
    batch = Events(J, 1, (), (Record(1, SHA, b"s" * 64, b"x"),))

    assert messages.decode(changed(batch, "records", [[1, SHA, 1]])) == batch
    assert refusal(changed(batch, "records", [[1, SHA, True]])) == "bad-message"
