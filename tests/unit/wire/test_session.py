"""The session: who may say what when, in which number, and within which credit."""

from dataclasses import replace

import pytest
import wirekit

from hgext_zmqhooks.wire import messages, session
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.session import (
    TRANSITIONS,
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Record,
    Role,
    Session,
    SessionRefused,
    State,
    Welcome,
)
from hgext_zmqhooks.wire.verbs import VERBS

J = wirekit.JOURNAL
S, R = Role.SUBSCRIBER, Role.RELAY
HELLO = Hello(b"a.b.c", "ci", "store", "instance")
WELCOME = Welcome("relay", ())
INFO = JournalInfo(J, "app", 1, 1)


def batch(size: int, sequence: int = 1) -> Events:
    return Events(J, sequence, (), (Record(sequence, "a" * 64, b"s" * 64, b"x" * size),))


def cost(size: int) -> int:
    """Of a batch with a number and a round of one digit."""
    return messages.cost(messages.encode(batch(size)))


def stamped(message: Message, **stamps: int) -> list[bytes]:
    """Frames that `Session.send` might not make."""
    return messages.encode(replace(message, **stamps))


class Pair:
    """A subscriber and a relay, and what is said between them."""

    def __init__(self) -> None:
        self.subscriber, self.relay = Session(S), Session(R)

    def say(self, speaker: Role, message: Message) -> Message:
        one, other = self.subscriber, self.relay
        if speaker is R:
            one, other = other, one
        return other.receive(one.send(message))


@pytest.fixture
def pair() -> Pair:
    """Following, with credit for a thousand bytes."""
    pair = Pair()
    pair.say(S, HELLO)
    pair.say(R, WELCOME)
    pair.say(S, Follow((), {}, credit=1000))
    return pair


def refusal(call, *arguments) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.kind


# The table


def test_every_state_is_reachable_and_the_end_is_the_end() -> None:
    reached, before = {State.OPENING}, set()
    while reached != before:
        before = set(reached)
        reached |= {after for (state, _, _), after in TRANSITIONS.items() if state in before}

    assert reached == set(State)
    assert not [key for key in TRANSITIONS if key[0] is State.ENDED]


def test_every_verb_can_be_said_and_every_living_state_can_end() -> None:
    assert {kind for _, _, kind in TRANSITIONS} == set(VERBS)
    ending = {state for (state, _, _), after in TRANSITIONS.items() if after is State.ENDED}
    assert ending == set(State) - {State.OPENING, State.ENDED}


SAMPLES = [HELLO, WELCOME, Follow((), {}, 1), Events(J, 1), Ack({}), Beat(), Bye(),
           SessionRefused("a", "")]  # fmt: skip


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("speaker", Role)
@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_the_table_alone_decides(state: State, speaker: Role, message: Message) -> None:
    # Given a session in a state, in a round with credit
    ours, theirs = Session(speaker), Session(R if speaker is S else S)
    for side in (ours, theirs):
        side.state, side.credit, side.granted = state, 1000, 2000
    after = TRANSITIONS.get((state, speaker, type(message)))

    # When one side says something
    # Then both go on as the table says, or refuse
    if after is None:
        assert refusal(ours.send, message) == "out-of-turn"
        assert ours.state is state
        assert refusal(theirs.receive, stamped(message)) == "out-of-turn"
        assert theirs.state is State.ENDED
    else:
        theirs.receive(ours.send(message))
        assert ours.state is theirs.state is after
        assert ours.ended is (after is State.ENDED)


def test_all_names_of_the_dialogue_are_here() -> None:
    assert all(hasattr(session, name) for name in session.__all__)


# Credit


def test_events_take_credit_and_acks_give_it_back(pair: Pair) -> None:
    # Given a batch of which six fit the credit
    size = cost(1)
    fitting = 1000 // size

    # When as many are sent
    for sequence in range(1, fitting + 1):
        pair.say(R, batch(1, sequence))

    # Then both sides know what is left, and that it is not enough
    assert pair.relay.credit == pair.subscriber.credit == 1000 - fitting * size
    assert not pair.relay.may_send(size)
    assert refusal(pair.relay.send, batch(1)) == "no-credit"

    # And an ack makes room again
    pair.say(S, Ack({J: 1}, credit=size))
    assert pair.relay.may_send(size)
    pair.say(R, batch(1))


def test_one_message_larger_than_the_credit_passes_alone(pair: Pair) -> None:
    pair.say(R, batch(2000))

    assert pair.relay.credit == pair.subscriber.credit == 1000 - cost(2000)
    assert not pair.relay.may_send(0)
    pair.say(S, Ack({}, credit=cost(2000)))
    assert pair.relay.may_send(5000)


def test_nothing_may_be_sent_before_a_follow_or_after_the_end(pair: Pair) -> None:
    pair.say(R, Bye())

    assert not Session(R).may_send(0)
    assert not pair.relay.may_send(0)


def test_events_beyond_the_credit_end_the_session(pair: Pair) -> None:
    pair.say(R, batch(600))

    assert (
        refusal(pair.subscriber.receive, stamped(batch(600, 2), number=3, round=1)) == "no-credit"
    )
    assert pair.subscriber.ended


def test_what_was_not_taken_cannot_be_given_back(pair: Pair) -> None:
    pair.say(R, batch(100))

    too_much = Ack({}, credit=cost(100) + 1)

    assert refusal(pair.subscriber.send, too_much) == "no-credit"
    assert refusal(pair.relay.receive, stamped(too_much, number=3, round=1)) == "no-credit"


# Numbers


SAID = [(R, batch(10)), (S, Ack({J: 1})), (S, Follow((), {}, 500)), (S, Beat()), (R, Beat((INFO,)))]


@pytest.mark.parametrize("withheld", SAID, ids=lambda said: type(said[1]).__name__)
def test_a_message_that_somebody_takes_out_is_missed_at_the_next_one(
    pair: Pair, withheld: tuple[Role, Message]
) -> None:
    # Given a message that never comes
    speaker, message = withheld
    one, other = (pair.subscriber, pair.relay) if speaker is S else (pair.relay, pair.subscriber)
    one.send(message)

    # When something is said after it, then the session is over
    assert refusal(other.receive, one.send(Beat())) == "lost-message"
    assert other.ended


@pytest.mark.parametrize("ending", [Bye(), SessionRefused("expired", "")])
def test_an_ending_is_numbered_too(pair: Pair, ending: Message) -> None:
    pair.relay.send(Beat())

    assert refusal(pair.subscriber.receive, pair.relay.send(ending)) == "lost-message"


@pytest.mark.parametrize("number", [0, 1, 2, 4, 2**62])
def test_numbers_go_on_by_one(pair: Pair, number: int) -> None:
    # Given that HELLO and FOLLOW were said
    with pytest.raises(Refused) as caught:
        pair.relay.receive(stamped(Beat(), number=number))

    assert caught.value.kind == "lost-message"
    assert f"said BEAT as number {number}, 3 was next" in caught.value.detail


def test_each_side_counts_its_own(pair: Pair) -> None:
    for _ in range(12):
        pair.say(R, Beat())

    assert messages.decode(pair.subscriber.send(Beat())).number == 3
    assert messages.decode(pair.relay.send(Beat())).number == 14


def test_what_could_not_be_said_has_no_number(pair: Pair) -> None:
    pair.say(R, batch(2000))
    assert refusal(pair.relay.send, batch(1)) == "no-credit"
    assert refusal(pair.relay.send, WELCOME) == "out-of-turn"

    assert pair.say(R, Beat()) == Beat()


def test_who_refuses_what_he_heard_says_so_in_the_next_message(pair: Pair) -> None:
    assert refusal(pair.relay.receive, [b"garbage"]) == "bad-frames"

    said = pair.subscriber.receive(pair.relay.refuse("bad-frames", "no message"))

    assert said == SessionRefused("bad-frames", "no message")
    assert (said.number, pair.subscriber.ended) == (2, True)


def test_who_never_had_a_session_refuses_in_the_first_message() -> None:
    assert messages.decode(Session(R).refuse("out-of-turn", "")).number == 1


# Rounds


def test_what_crossed_a_new_follow_counts_as_a_sign_of_life(pair: Pair) -> None:
    # Given events under way
    under_way = pair.relay.send(batch(500))

    # When the subscriber begins a new round before it gets them
    follow = pair.subscriber.send(Follow((), {}, credit=800))
    crossed = pair.subscriber.receive(under_way)
    pair.relay.receive(follow)

    # Then they are dropped and take no credit of the new round
    assert crossed == Beat()
    assert pair.relay.credit == pair.subscriber.credit == 800
    assert pair.relay.round == pair.subscriber.round == 2


def test_an_ack_of_an_older_round_gives_nothing_back(pair: Pair) -> None:
    pair.say(R, batch(100))
    pair.say(S, Follow((), {}, credit=800))
    pair.say(R, batch(100))
    late = Ack({J: 1}, credit=10_000)

    assert pair.relay.receive(stamped(late, number=4, round=1)) == Beat()
    assert pair.relay.credit == 800 - cost(100)


@pytest.mark.parametrize("number", [1, 3, 2**62])
def test_rounds_go_on_by_one(pair: Pair, number: int) -> None:
    follow = Follow((), {})
    assert refusal(pair.relay.receive, stamped(follow, number=3, round=number)) == "out-of-turn"


def test_a_round_that_was_not_begun_is_refused(pair: Pair) -> None:
    assert refusal(pair.subscriber.receive, stamped(batch(1), number=2, round=2)) == "out-of-turn"


def test_after_a_refusal_nothing_is_looked_at(pair: Pair) -> None:
    assert refusal(pair.relay.receive, [b"garbage"]) == "bad-frames"
    assert pair.relay.ended
    assert refusal(pair.relay.receive, stamped(Beat(), number=3)) == "out-of-turn"


def test_our_own_message_over_the_limit_is_not_made(pair: Pair) -> None:
    many = Beat((JournalInfo(J, "x" * 100_000, 1, 1),) * 30)

    assert refusal(pair.relay.send, many) == "too-large"
    pair.say(R, Beat())
