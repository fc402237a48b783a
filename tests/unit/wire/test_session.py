"""The session: who may say what when, and within which credit."""

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

J = wirekit.JOURNAL
S, R = Role.SUBSCRIBER, Role.RELAY
HELLO = Hello(b"a.b.c", "ci", "store", "instance")
WELCOME = Welcome("relay", ())


def batch(size: int, sequence: int = 1) -> Events:
    return Events(J, sequence, (), (Record(sequence, "a" * 64, b"s" * 64, b"x" * size),))


def cost(size: int) -> int:
    return messages.cost(messages.encode(batch(size)))


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
    assert {kind for _, _, kind in TRANSITIONS} == set(messages.VERBS)
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
        assert refusal(theirs.receive, messages.encode(message)) == "out-of-turn"
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

    assert refusal(pair.subscriber.receive, stamped(batch(600, 2), 1)) == "no-credit"
    assert pair.subscriber.ended


def stamped(message: Events | Ack | Follow, number: int) -> list[bytes]:
    from dataclasses import replace

    return messages.encode(replace(message, round=number))


def test_what_was_not_taken_cannot_be_given_back(pair: Pair) -> None:
    pair.say(R, batch(100))

    too_much = Ack({}, credit=cost(100) + 1)

    assert refusal(pair.subscriber.send, too_much) == "no-credit"
    assert refusal(pair.relay.receive, stamped(too_much, 1)) == "no-credit"


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

    assert pair.relay.receive(stamped(Ack({J: 1}, credit=10_000), 1)) == Beat()
    assert pair.relay.credit == 800 - cost(100)


@pytest.mark.parametrize("number", [1, 3, 2**62])
def test_rounds_go_on_by_one(pair: Pair, number: int) -> None:
    assert refusal(pair.relay.receive, stamped(Follow((), {}), number)) == "out-of-turn"


def test_a_round_that_was_not_begun_is_refused(pair: Pair) -> None:
    assert refusal(pair.subscriber.receive, stamped(batch(1), 2)) == "out-of-turn"


def test_after_a_refusal_nothing_is_looked_at(pair: Pair) -> None:
    assert refusal(pair.relay.receive, [b"garbage"]) == "bad-frames"
    assert pair.relay.ended
    assert refusal(pair.relay.receive, messages.encode(Beat())) == "out-of-turn"


def test_our_own_message_over_the_limit_is_not_made(pair: Pair) -> None:
    many = Beat((JournalInfo(J, "x" * 100_000, 1, 1),) * 30)

    assert refusal(pair.relay.send, many) == "too-large"
    pair.say(R, Beat())
