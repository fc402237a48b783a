"""How hg asks a relay for its subscribers: frames, answers, their bounds, all that is refused."""

import json

import pytest
import wirekit

from hgext_zmqhooks.wire import keyfiles, question
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.question import Answer, Question, Row, read_answer, write_answer

NONCE = b"n" * 16
ASKED = Question(NONCE, wirekit.JOURNAL)


def row(name: str, *, seen: int = 5, connected: bool = False) -> Row:
    return Row(name, 3, seen, connected)


def test_a_question_survives_its_frames_and_is_no_topic() -> None:
    frames = ASKED.frames()

    assert question.read_question(frames) == ASKED
    assert frames[0].startswith(question.MARK)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"?"], "known is"),
        ([b"?everything", *ASKED.frames()[1:]], "asked for b'?everything'"),
        (ASKED.frames()[:3], "3 frames"),
        ([*ASKED.frames(), b""], "5 frames"),
        ([b"?subscribers", NONCE[1:], *ASKED.frames()[2:]], "a nonce of 15 bytes"),
        ([b"?subscribers", NONCE, b"team/app", b""], "no journal id"),
        ([b"?subscribers", NONCE, ASKED.frames()[2] + b"\n", b""], "no journal id"),
    ],
)
def test_what_is_no_question_is_refused(frames: list[bytes], words: str) -> None:
    with pytest.raises(Refused, match=r"^bad-question: ") as refused:
        question.read_question(frames)
    assert words in refused.value.detail


def test_an_answer_names_the_connected_first_and_then_who_was_heard_last() -> None:
    rows = [row("old", seen=1), row("new", seen=9), row("here", seen=2, connected=True)]

    answer = read_answer(NONCE, write_answer(NONCE, 42, 1, rows))

    assert answer == Answer(42, 1, (rows[2], rows[1], rows[0]))


def test_a_relay_may_not_know_the_journal() -> None:
    assert read_answer(NONCE, write_answer(NONCE, None, 3, [])) == Answer(None, 3, ())


def test_an_answer_to_another_question_is_passed_over() -> None:
    frame = write_answer(NONCE, 42, 0, [])

    assert read_answer(b"m" * 16, frame) is None
    assert read_answer(NONCE, b"A" + NONCE) is None
    assert read_answer(NONCE, b"") is None


def test_a_sealed_answer_is_for_one_key_only() -> None:
    mine, other = keyfiles.generate("mine"), keyfiles.generate("other")
    rows = [row("ci")]

    frame = write_answer(NONCE, 42, 1, rows, mine.curve_public)

    assert b"ci" not in frame
    assert read_answer(NONCE, frame, (mine.curve_public, mine.curve_secret)) == Answer(
        42, 1, (rows[0],)
    )
    for keys in ((other.curve_public, other.curve_secret), None):
        with pytest.raises(Refused, match="bad-answer"):
            read_answer(NONCE, frame, keys)
    with pytest.raises(Refused, match="bad-answer"):
        read_answer(NONCE, frame[:20], (mine.curve_public, mine.curve_secret))


@pytest.mark.parametrize(
    "key", [None, "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"], ids=["open", "sealed"]
)
@pytest.mark.parametrize("name", ["ci-{:03}", "ü{:0254}", '"{:03}'])
def test_an_answer_stays_within_its_bounds_and_says_what_it_leaves_out(
    name: str, key: str | None
) -> None:
    rows = [row(name.format(number), seen=2**40) for number in range(200)]

    frame = write_answer(NONCE, 2**62, 1000, rows, key)
    answer = read_answer(NONCE, write_answer(NONCE, 2**62, 1000, rows))

    assert len(frame) <= question.MAX_ANSWER
    assert answer is not None
    assert 0 < len(answer.rows) <= question.MAX_SUBSCRIBERS
    assert len(answer.rows) + answer.left_out == 200


def test_the_largest_number_of_subscribers_fits_with_usual_names() -> None:
    rows = [row(f"runner-{number:02}", seen=1_795_251_302) for number in range(64)]

    answer = read_answer(NONCE, write_answer(NONCE, 123_456, 64, rows))

    assert answer is not None
    assert answer.left_out == 0


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"head": "42", "sessions": 0, "left_out": 0},
        {"head": 42, "left_out": 0},
        {"head": 42, "sessions": 0, "subscribers": [["ci", 1, 2]], "left_out": 0},
        {"head": 42, "sessions": 0, "subscribers": [["ci", 1, 2, 1]], "left_out": 0},
        {"head": 42, "sessions": 0, "subscribers": ["ci"], "left_out": 0},
        {"head": 42, "sessions": 0, "subscribers": [], "left_out": -1},
    ],
)
def test_what_is_no_answer_is_refused(document: object) -> None:
    with pytest.raises(Refused, match="bad-answer"):
        read_answer(NONCE, b"S" + NONCE + json.dumps(document).encode())


def test_an_answer_that_is_no_json_is_refused() -> None:
    with pytest.raises(Refused, match="bad-answer"):
        read_answer(NONCE, b"S" + NONCE + b"{")
