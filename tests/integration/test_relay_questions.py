"""hg asks a relay how far its subscribers are: the answer, and who asks what is no question."""

import logging
import socket

import pytest
import relaykit
import zmq
from relaykit import publish_live
from support.waiting import wait_for

from hgext_zmqhooks.publish import Ending, Publisher
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.settings import Curve
from hgext_zmqhooks.wire import certificates, keyfiles, question
from hgext_zmqhooks.wire.question import Answer, Question
from hgext_zmqhooks.wire.session import Ack, Bye, Events

AMPLE = 20.0
NOBODY_KNOWS = "e" * 32


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def ask(place, journal) -> Answer:
    ending, answer = Publisher().ask(place.endpoint("publish"), journal, AMPLE)
    assert ending is Ending.CONFIRMED
    assert answer is not None
    return answer


def told(answer: Answer):
    return [(row.name, row.sequence, row.connected) for row in answer.rows]


def test_each_subscriber_of_a_journal_with_what_it_acknowledged(place):
    # Given a journal of two events, and two subscribers of which one acknowledged the first
    repo = place.repo()
    repo.commit()
    journal = repo.head().journal
    with place.relay():
        ci = place.client()
        ci.follow()
        ci.hear(Events)
        other = place.client(key=place.keys.make("mirror", read=("hg:team/**:*:",)))
        other.follow(positions={journal: 1})
        ci.say(Ack({journal: 1}, 1))
        wait_for(lambda: told(ask(place, journal))[0][1] == 1, "the acknowledgement")
        publish_live(place, [one.frames() for one in repo.commit()])
        # When hg asks, then both stand there, and how far they are
        answer = ask(place, journal)
        assert (answer.head, answer.sessions) == (2, 2)
        assert sorted(told(answer)) == [("ci", 1, True), ("mirror", 1, True)]
        assert all(row.seen > 0 for row in answer.rows)
        # When one goes, then it is known still, behind the other one
        ci.say(Bye("done"))
        wait_for(lambda: ask(place, journal).sessions == 1, "the session ended")
        assert told(ask(place, journal)) == [("mirror", 1, True), ("ci", 1, False)]
    # When the relay is started again, then it has forgotten nobody
    with place.relay():
        answer = ask(place, journal)
        assert sorted(told(answer)) == [("ci", 1, False), ("mirror", 1, False)]


def test_who_may_not_read_the_repository_is_not_among_them(place):
    repo = place.repo()
    repo.commit()
    with place.relay():
        place.client(key=place.keys.make("other", read=("hg:other/**:*:",))).follow()
        answer = ask(place, repo.head().journal)
        assert (answer.rows, answer.sessions) == ((), 1)


def test_a_journal_that_the_relay_does_not_know(place):
    place.repo().commit()
    with place.relay():
        assert ask(place, NOBODY_KNOWS) == Answer(None, 0, ())


def publisher(place):
    own = place.context.socket(zmq.XPUB)
    sockets.limit(own, question.MAX_ANSWER)
    own.connect(place.endpoint("publish"))
    assert own.poll(AMPLE * 1000)
    assert own.recv() == b"\x01"
    return own


def test_garbage_questions_are_refused_counted_and_logged_a_little(place, caplog):
    repo = place.repo()
    repo.commit()
    good = Question(b"n" * 16, repo.head().journal).frames()
    bad = [[b"?"], [b"?everything", *good[1:]], good[:3], [*good, b""], [good[0], b"n", *good[2:]]]
    caplog.set_level(logging.WARNING)
    with place.relay() as relay, publisher(place) as own:
        for _ in range(40):
            for frames in bad:
                own.send_multipart(frames)
        wait_for(lambda: relay.counters.get("refused", "bad-question") == 200, "refusals")
        assert relay.counters.get("questions") == 0
        assert not own.poll(0), "none is answered"
        lines = [one for one in caplog.records if one.fields.get("kind") == "live-bad-question"]
        assert 1 <= len(lines) < 20
        assert told(ask(place, repo.head().journal)) == []


def test_who_asks_and_never_reads_costs_the_others_nothing(place):
    # Given somebody who asks 20,000 times and takes no answer
    repo = place.repo()
    repo.commit()
    journal = repo.head().journal
    with place.relay() as relay, publisher(place) as own:
        own.setsockopt(zmq.XPUB_NODROP, 1)
        own.setsockopt(zmq.SNDTIMEO, int(AMPLE * 1000))
        for _ in range(20_000):
            own.send_multipart(Question(b"n" * 16, journal).frames())
        # When another one asks and publishes, then it gets its answers
        assert ask(place, journal).head == 1
        (message,) = repo.commit()
        assert len(publish_live(place, [message.frames()])) == 1
        wait_for(lambda: relay.counters.get("questions") > 20_000, "all are heard")


class TestTcp:
    """There everybody who knows the relay's certificate can connect: who asks must be certified."""

    @pytest.fixture
    def tcp(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return Endpoint.parse(f"tcp://127.0.0.1:{probe.getsockname()[1]}")

    def curve(self, place, key, certificate=None):
        server = certificates.decode(place.keys.relay.certificate or b"").curve
        token = key.certificate if certificate is None else certificate
        return Curve(key.curve_public, key.curve_secret, server, token)

    def test_a_publisher_is_answered_and_nobody_else_can_read_it(self, place, tcp):
        # Given a relay on tcp with a subscriber, and a stranger who knows its certificate
        repo = place.repo()
        repo.commit()
        journal = repo.head().journal
        stranger = keyfiles.generate("stranger")
        with place.relay(publish=tcp), place.context.socket(zmq.XPUB) as listening:
            sockets.limit(listening, question.MAX_ANSWER)
            sockets.curve_client(listening, stranger, self.curve(place, stranger, b"").server)
            listening.connect(tcp)
            assert listening.poll(AMPLE * 1000)
            assert listening.recv() == b"\x01"
            place.client().follow()
            # When a publisher asks, then it is answered
            ours = self.curve(place, place.keys.publisher)

            def told():
                _ending, answer = Publisher().ask(tcp, journal, AMPLE, ours)
                return [row.name for row in answer.rows]

            wait_for(lambda: told() == ["ci"], "the relay knows what is followed")
            # and the stranger, who hears the answer too, cannot read it
            assert listening.poll(AMPLE * 1000)
            heard = listening.recv()
            assert heard.startswith(question.ANSWER)
            assert b"ci" not in heard
            assert b"head" not in heard

    def test_who_may_not_publish_gets_no_answer(self, place, tcp):
        repo = place.repo()
        repo.commit()
        stranger = keyfiles.generate("stranger")
        other = place.keys.make("other", publish=("hg:other/**:*:",))
        tries = {
            "bad-certificate": self.curve(place, stranger, b""),
            "wrong-key": self.curve(place, stranger, place.keys.publisher.certificate),
            "not-allowed": self.curve(place, other),
        }
        with place.relay(publish=tcp) as relay:
            for kind, curve in tries.items():
                assert Publisher().ask(tcp, repo.head().journal, 0.5, curve)[1] is None
                wait_for(lambda kind=kind: relay.counters.get("refused", kind) > 0, kind)
            assert relay.counters.get("questions") == 0
            # A journal that the relay does not know tells nothing but that.
            answer = Publisher().ask(tcp, NOBODY_KNOWS, AMPLE, tries["not-allowed"])[1]
            assert answer == Answer(None, 0, ())
