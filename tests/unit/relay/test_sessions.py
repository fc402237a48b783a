"""What a session does in time and on a bad connection; the rest is shown over sockets."""

import logging
import time

import pytest
import relaykit

from hgext_zmqhooks.relay import sessions as module
from hgext_zmqhooks.relay import state
from hgext_zmqhooks.relay.catalog import scan
from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.relay.peers import Address, Origin, Sent
from hgext_zmqhooks.relay.sessions import Sessions
from hgext_zmqhooks.relay.shelf import Shelf
from hgext_zmqhooks.relay.state import State
from hgext_zmqhooks.service.life import Throttle
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import keyfiles, messages, revocations
from hgext_zmqhooks.wire.messages import MAX_RECORDS
from hgext_zmqhooks.wire.revocations import Revoked
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    Role,
    Session,
    SessionRefused,
    Since,
    Welcome,
)

NOW = time.time()


class Bench:
    """Sessions whose socket is this object: `sent` is what went out, `answer` what it says."""

    def __init__(self, place, **settings):
        self.place = place
        self.counters = Counters()
        throttle = Throttle(logging.getLogger("zmqhooks.relay"))
        self.shelf = Shelf(self.counters, throttle)
        self.look(0)
        self.file = place.folder / "relay.db"
        self.state = State(self.file)
        self.answer = Sent.YES
        self.sent = []
        self.sessions = Sessions(
            "relay",
            keyring=place.keys.keyring,
            shelf=self.shelf,
            state=self.state,
            post=self.post,
            refresh=lambda _: None,
            counters=self.counters,
            throttle=throttle,
            **settings,
        )

    def look(self, tick):
        found = [one for one in scan((f"{self.place.hg}/**",)) if one]
        return self.shelf.update(found, tick)

    def post(self, address, frames):
        if self.answer is Sent.YES:
            self.sent.append((address.route, messages.decode(frames)))
        return self.answer

    def said(self, route=b"a"):
        """What was sent to a connection since the last call."""
        out = [message for to, message in self.sent if to == route]
        self.sent = [(to, message) for to, message in self.sent if to != route]
        return out

    def peer(self, route=b"a", **changes):
        return Subscriber(self, route, **changes)


class Subscriber:
    def __init__(self, bench, route, *, instance="i", store="s", key=None):
        self.bench, self.route = bench, route
        self.key = key or bench.place.keys.subscriber
        self.origin = Origin(self.key.curve_public)
        self.session = Session(Role.SUBSCRIBER)
        self.hello = Hello(self.key.certificate, self.key.name, store, instance)

    def say(self, message, *, tick=0.0, origin=None):
        frames = self.session.send(message)
        self.bench.sessions.receive(
            Address(0, self.route), origin or self.origin, frames, NOW, tick
        )
        said = self.bench.said(self.route)
        for one in said:
            self.session.receive(messages.encode(one))
        return said

    def follow(self, **changes):
        assert isinstance(self.say(self.hello)[0], Welcome)
        return self.say(Follow((relaykit.EVERYTHING,), {}, **changes))


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


@pytest.fixture
def bench(place):
    place.repo().commit()
    bench = Bench(place)
    yield bench
    bench.state.close()


def test_a_silent_peer_is_told_goodbye_after_fifteen_seconds(bench):
    bench.peer().follow()
    bench.sessions.beat(NOW, 15.0)
    assert all(isinstance(one, Beat) for one in bench.said())
    bench.sessions.beat(NOW, 15.1)
    assert bench.said() == [Bye("silence")]
    assert len(bench.sessions) == 0
    # and an operator finds out why there is none
    bench.state.flush()
    (row,) = state.read(bench.file)
    assert (row.failed, row.error) == (NOW, "silent for 15 s")


def test_a_beat_keeps_a_session_alive(bench):
    peer = bench.peer()
    peer.follow()
    peer.say(Beat(), tick=14.0)
    bench.sessions.beat(NOW, 28.0)
    assert len(bench.sessions) == 1


def test_beats_go_out_every_five_seconds(bench):
    bench.peer().follow()
    for tick in range(11):
        bench.sessions.beat(NOW, float(tick))
    assert bench.said() == [Beat(), Beat()]


def test_an_expired_certificate_ends_the_session(bench):
    bench.peer().follow()
    bench.sessions.beat(NOW + 7200, 1.0)
    (last,) = bench.said()
    assert isinstance(last, SessionRefused)
    assert last.kind == "expired"
    assert len(bench.sessions) == 0


def test_a_certificate_that_is_revoked_ends_the_session(bench):
    root, keyring = bench.place.keys.root, bench.place.keys.keyring
    bench.peer().follow()
    bench.peer(b"b", key=bench.place.keys.make("other", read=(relaykit.EVERYTHING,))).follow()
    revoked = [Revoked(int(NOW), jti="jti-ci")]
    keyring.replace([root.public], [revocations.issue(root, 1, revoked, int(NOW))])

    bench.sessions.beat(NOW, 1.0)

    (last,) = bench.said()
    assert (type(last), last.kind) == (SessionRefused, "revoked")
    assert "jti-ci of 'ci' was revoked" in last.detail
    assert bench.said(b"b") == []
    assert len(bench.sessions) == 1


def test_sessions_end_with_the_root_of_their_certificates(bench):
    bench.peer().follow()
    bench.place.keys.keyring.replace([keyfiles.generate("other").public], ())
    bench.sessions.beat(NOW, 1.0)
    (last,) = bench.said()
    assert (type(last), last.kind) == (SessionRefused, "unknown-root")
    assert len(bench.sessions) == 0


def test_goodbye_to_all_but_the_one_in_this_process(bench):
    bench.peer(b"a").follow()
    inside = bench.peer(b"i", instance="inside")
    inside.origin = Origin(None, private=True)
    inside.follow()

    bench.sessions.close("it has a new key", private=False)

    assert bench.said(b"a") == [Bye("it has a new key")]
    assert bench.said(b"i") == []
    assert len(bench.sessions) == 1


def test_a_reconnected_instance_replaces_its_old_session(bench):
    bench.peer(b"a").follow()
    bench.peer(b"b").follow()
    assert len(bench.sessions) == 1
    bench.peer(b"c", instance="other").follow()
    assert len(bench.sessions) == 2


def test_another_key_on_the_same_connection_gets_nothing(bench):
    peer = bench.peer()
    peer.follow()
    frames = messages.encode(Ack({}, 0, 1))
    bench.sessions.receive(Address(0, b"a"), Origin("x" * 40), frames, NOW, 0.0)
    (answer,) = bench.said()
    assert answer.kind == "not-allowed"
    bench.sessions.turn(0.0)
    assert [type(one) for one in bench.said()] == [Events], "the session itself goes on"


def test_what_a_socket_does_not_take_is_offered_again_in_order(bench):
    bench.peer().follow()
    bench.answer = Sent.LATER
    bench.sessions.turn(0.0)
    assert bench.sessions.blocked
    assert not bench.sessions.busy
    bench.answer = Sent.YES
    bench.sessions.turn(0.0)
    assert [type(one) for one in bench.said()] == [Events]
    assert not bench.sessions.blocked


def test_a_connection_that_is_gone_ends_the_session(bench):
    bench.peer().follow()
    bench.answer = Sent.GONE
    bench.sessions.turn(0.0)
    assert len(bench.sessions) == 0


def test_a_batch_waits_for_credit_and_goes_out_with_the_ack(place):
    repo = place.repo()
    for _ in range(2):
        repo.commit(relaykit.draft(removed=[b'"%040d"' % n for n in range(2500)]))
    bench = Bench(place)
    peer = bench.peer()
    peer.follow(credit=150_000)
    bench.sessions.turn(0.0)
    (first,) = bench.said()
    peer.session.receive(messages.encode(first))
    assert not bench.sessions.busy, "it waits"
    (second,) = peer.say(Ack({first.journal: 1}, 150_000 - peer.session.credit))
    assert [record.sequence for record in second.records] == [2]
    bench.state.close()


def test_a_slow_subscriber_is_not_sent_ever_smaller_batches(place):
    # Given a journal of a few batches, and a credit for little more than one
    repo = place.repo()
    repo.commit(*[relaykit.draft(f"b{n}") for n in range(3 * MAX_RECORDS)])
    bench = Bench(place)
    peer = bench.peer()
    peer.follow(credit=1_000_000)

    # When what came is acked again and again
    came = []
    while sum(len(each.records) for each in came) < 3 * MAX_RECORDS:
        bench.sessions.turn(0.0)
        for each in (fresh := bench.said()):
            peer.session.receive(messages.encode(each))
        came += fresh
        back = 1_000_000 - peer.session.credit
        came += peer.say(Ack({came[-1].journal: came[-1].scanned}, back))

    # Then the batches stay as large as they can be
    assert [len(each.records) for each in came] == [MAX_RECORDS] * 3
    bench.state.close()


def test_at_most_sixteen_messages_to_one_peer_per_turn(place):
    for number in range(40):
        place.repo(f"r{number}").commit()
    bench = Bench(place)
    bench.sessions._clock = lambda: 0.0  # no turn is cut short by a slow machine
    bench.peer(b"a").follow()
    bench.peer(b"b", instance="other").follow()
    bench.sessions.turn(0.0)
    for route in (b"a", b"b"):
        assert len(bench.said(route)) == module.PER_TURN
    while bench.sessions.busy:
        bench.sessions.turn(0.0)
    assert len({one.journal for one in bench.said(b"a")}) == 40 - module.PER_TURN
    bench.state.close()


def test_the_number_of_sessions_is_bounded(bench, monkeypatch):
    monkeypatch.setattr(module, "MAX_SESSIONS", 1)
    bench.peer(b"a").follow()
    (answer,) = bench.peer(b"b", instance="other").say(bench.peer().hello)
    assert answer.kind == "too-many"


def test_a_position_beyond_the_head_is_counted(bench):
    peer = bench.peer()
    (welcome,) = peer.say(peer.hello)
    journal = welcome.journals[0].journal
    peer.say(Follow((relaykit.EVERYTHING,), {journal: 99}))
    assert bench.counters.get("beyond-head") == 1
    bench.sessions.turn(0.0)
    assert bench.said() == []


def test_a_position_by_time_in_a_journal_with_a_bad_event_stops_that_journal(place):
    place.repo().commit(relaykit.draft(time="2026-02-30T09:15:00.000000Z"))
    bench = Bench(place)
    peer = bench.peer()
    (welcome,) = peer.say(peer.hello)
    peer.say(Follow((relaykit.EVERYTHING,), {welcome.journals[0].journal: Since(1.0)}))

    bench.sessions.turn(0.0)

    assert bench.counters.get("journal-stopped", "torn") == 1
    assert bench.said() == []
    assert len(bench.sessions) == 1
    bench.state.close()


def test_acks_never_reach_beyond_the_head_or_to_unknown_journals(bench):
    peer = bench.peer()
    peer.follow()
    (info,) = bench.shelf.journals(lambda _: True)
    peer.say(Ack({info.journal: 99, "ab" * 16: 5}, 0))
    bench.state.flush()
    rows = bench.state._db.execute("SELECT journal, sequence FROM position").fetchall()
    assert rows == [(info.journal, 1)]


def test_an_ack_that_a_process_says_late_takes_nothing_back_from_the_next_one(bench):
    slow = bench.peer(instance="slow")
    slow.follow()
    (info,) = bench.shelf.journals(lambda _: True)
    next_one = bench.peer(b"b", instance="next")
    next_one.follow()
    next_one.say(Ack({info.journal: 1}, 0))
    slow.say(Ack({info.journal: 0}, 0))
    assert bench.state.reached(info.journal) == {"ci": 1}


def test_who_sends_more_than_can_be_read_loses_the_session(bench):
    subscriber = bench.peer()
    subscriber.follow()

    bench.sessions.overrun(Address(0, b"a"))
    bench.sessions.overrun(Address(0, b"stranger"))

    (said,) = bench.said(b"a")
    assert (said.kind, len(bench.sessions)) == ("too-much", 0)
    assert bench.counters.get("refused", "too-much") == 2
    assert bench.sent == [], "a stranger gets no answer"


def test_a_turn_ends_in_time_and_the_next_one_begins_with_the_others(place, bench):
    """However much there is to send, what comes in does not wait for all of it."""
    for number in range(4):
        place.repo(f"r{number}").commit()
    bench.look(0)
    ticks = iter(range(1000))
    bench.sessions._clock = lambda: next(ticks) * module.TURN_SECONDS  # each message takes it all
    other = place.keys.make("other", read=(relaykit.EVERYTHING,))
    bench.peer(b"a").follow()
    bench.peer(b"b", key=other).follow()

    turns = []
    for _ in range(4):
        bench.sessions.turn(0.0)
        turns += [route for route, message in bench.sent if isinstance(message, Events)]
        bench.sent.clear()

    assert turns == [b"a", b"b", b"a", b"b"]


class TestLimits:
    def refusal(self, said):
        (one,) = said
        assert isinstance(one, SessionRefused)
        return one.kind, one.detail

    def open(self, peer):
        assert isinstance(peer.say(peer.hello)[0], Welcome)
        return peer

    def test_sessions_of_one_name(self, place):
        bench = Bench(place, limits=Limits(sessions=2))
        for number in range(2):
            bench.peer(b"%d" % number, instance=str(number)).follow()

        third = bench.peer(b"2", instance="2")
        assert self.refusal(third.say(third.hello)) == (
            "sessions", "'ci' has 2 sessions; `limits.sessions` is 2"
        )  # fmt: skip
        assert bench.counters.get("refused", "sessions") == 1
        # An instance that comes again replaces its own, and others have their own count.
        bench.peer(b"3", instance="1").follow()
        other = place.keys.make("other", read=(relaykit.EVERYTHING,))
        bench.peer(b"4", key=other).follow()
        assert len(bench.sessions) == 3
        bench.state.close()

    def test_patterns_of_one_session(self, place):
        bench = Bench(place, limits=Limits(patterns=2))
        peer = self.open(bench.peer())
        assert peer.say(Follow((relaykit.EVERYTHING,) * 2, {})) == []
        assert self.refusal(peer.say(Follow((relaykit.EVERYTHING,) * 3, {}))) == (
            "patterns", "3 patterns; `limits.patterns` is 2"
        )  # fmt: skip
        assert bench.counters.get("refused", "patterns") == 1
        bench.state.close()

    def test_frames_of_one_message(self, place):
        bench = Bench(place, limits=Limits(frames=4))
        peer = self.open(bench.peer())
        frames = [*messages.encode(Beat()), b""]
        bench.sessions.receive(Address(0, b"a"), peer.origin, frames, NOW, 0.0)
        assert self.refusal(bench.said()) == ("frames", "5 frames; `limits.frames` is 4")
        assert (bench.counters.get("refused", "frames"), len(bench.sessions)) == (1, 0)
        bench.state.close()

    def test_bytes_of_one_frame(self, place):
        bench = Bench(place, limits=Limits(message=65_536))
        peer = self.open(bench.peer())
        frames = [*messages.encode(Beat())[:3], bytes(65_537)]
        bench.sessions.receive(Address(0, b"a"), peer.origin, frames, NOW, 0.0)
        assert self.refusal(bench.said()) == (
            "message", "a frame of 65537 bytes; `limits.message` is 65536"
        )  # fmt: skip
        assert (bench.counters.get("refused", "message"), len(bench.sessions)) == (1, 0)
        bench.state.close()


class TestExcess:
    """A session that asks for more than its certificate lets it read."""

    WANTED = ("hg:team/b:default:", "hg:team/**:**:", "hg:other:**:")

    @pytest.fixture
    def key(self, place):
        for name in ("team/a", "team/b", "other"):
            place.repo(name).commit()
        return place.keys.make("team", read=("hg:team/**:default:",))

    def test_narrow_gives_it_the_part_that_it_may_read(self, place, key):
        bench = Bench(place)
        peer = bench.peer(key=key)
        (welcome,) = peer.say(peer.hello)
        assert {one.repo for one in welcome.journals} == {"team/a", "team/b"}
        assert peer.say(Follow(self.WANTED, {})) == []
        while bench.sessions.busy:
            bench.sessions.turn(0.0)
        sent = [one.journal for one in bench.said() if isinstance(one, Events)]
        assert {bench.shelf.info(journal).repo for journal in sent} == {"team/a", "team/b"}
        bench.state.close()

    def test_refuse_names_the_first_pattern_that_goes_beyond(self, place, key):
        bench = Bench(place, excess="refuse")
        peer = bench.peer(key=key)
        assert isinstance(peer.say(peer.hello)[0], Welcome)
        (said,) = peer.say(Follow(self.WANTED, {}))
        assert said == SessionRefused("not-allowed", "'team' may not read all of 'hg:team/**:**:'")
        assert len(bench.sessions) == 0
        bench.sessions.turn(0.0)
        assert bench.said() == []

        again = bench.peer(b"b", key=key)
        assert isinstance(again.say(again.hello)[0], Welcome)
        assert again.say(Follow(("hg:team/b:default:", "hg:team/*:default:"), {})) == []
        bench.state.close()
