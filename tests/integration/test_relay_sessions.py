"""Sessions with a running relay, over real sockets with CURVE."""

import os
import socket
import stat
import time

import pytest
import relaykit
import zmq
from relaykit import draft, publish_live
from support.waiting import wait_for

from hgext_zmqhooks.journal.format import EVENTS
from hgext_zmqhooks.relay import state
from hgext_zmqhooks.service import ipc
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.wire import envelope, messages
from hgext_zmqhooks.wire.events import digest
from hgext_zmqhooks.wire.messages import MAX_RECORDS
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    SessionRefused,
    Since,
    Welcome,
)

COUNT = MAX_RECORDS + 250
"""Events of a journal of more than one batch."""


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def collect(client, count):
    """The (journal, sequence) of the next `count` events, acknowledging each batch."""
    seen = []
    while len(seen) < count:
        events = client.hear(Events)
        seen += [(events.journal, record.sequence) for record in events.records]
        cost = sum(64 + len(record.event) for record in events.records)
        client.say(Ack({events.journal: events.scanned}, credit=cost))
    return seen


def test_events_already_journalled_are_served_in_order_and_verify(place):
    repo = place.repo()
    repo.commit(*[draft(f"b{n % 9}") for n in range(COUNT)])
    with place.relay():
        client = place.client()
        welcome = client.follow()
        assert [(one.repo, one.first, one.sequence) for one in welcome.journals] == [
            ("team/app", 1, COUNT)
        ]
        sequences = []
        while len(sequences) < COUNT:
            events = client.hear(Events)
            assert len(events.records) <= MAX_RECORDS
            for record in events.records:
                authentic = place.keys.keyring.attest(
                    record.event, record.signature, events.certificates[0], time.time()
                )
                assert authentic.event.sequence == record.sequence
                sequences.append(record.sequence)
        assert sequences == list(range(1, COUNT + 1))
        assert events.scanned == COUNT


def test_a_live_copy_is_answered_and_wakes_the_sessions(place):
    repo = place.repo()
    repo.commit()
    with place.relay():
        client = place.client()
        client.follow()
        collect(client, 1)
        copies = repo.commit()
        started = time.monotonic()
        answers = publish_live(place, [one.frames() for one in copies])
        assert answers == [b"A" + bytes.fromhex(digest(copies[0].event))[:16]]
        assert collect(client, 1) == [(repo.head().journal, 2)]
        assert time.monotonic() - started < 5


def test_without_live_copies_a_poll_finds_new_events(place):
    repo = place.repo()
    with place.relay():
        client = place.client()
        assert client.follow().journals == ()
        repo.commit()
        told = client.hear(Beat)
        assert [(one.repo, one.first) for one in told.heads] == [("team/app", 1)]
        assert collect(client, 1) == [(repo.head().journal, 1)]


def test_the_welcome_is_up_to_date_although_nobody_watched(place):
    repo = place.repo()
    repo.commit()
    with place.relay():
        for _ in range(3):
            repo.commit()
        welcome = place.client().hello()
        assert [one.sequence for one in welcome.journals] == [4]


def test_a_live_copy_of_an_unknown_repository_makes_the_relay_look_for_it(place):
    with place.relay():
        client = place.client()
        client.follow()
        repo = place.repo("team/new")
        publish_live(place, [one.frames() for one in repo.commit()])
        assert collect(client, 1) == [(repo.head().journal, 1)]


def test_positions_are_taken_up_where_they_were(place):
    repo = place.repo()
    for _ in range(5):
        repo.commit()
    journal = repo.head().journal
    with place.relay():
        client = place.client()
        client.follow(positions={journal: 3})
        assert collect(client, 2) == [(journal, 4), (journal, 5)]


def test_a_position_by_time_begins_with_the_first_event_that_is_not_older(place):
    repo = place.repo()
    for minute in range(10):
        repo.commit(draft(time=f"2026-11-21T09:{minute:02}:00.000000Z"))
    journal = repo.head().journal
    moment = 1795252020.0  # 2026-11-21T09:07:00Z
    with place.relay():
        client = place.client()
        client.follow(positions={journal: Since(moment)})
        assert [number for _, number in collect(client, 3)] == [8, 9, 10]


def test_a_journal_that_is_not_wanted_is_not_sent_and_others_are(place):
    held, other = place.repo("held"), place.repo("other")
    held.commit()
    other.commit()
    with place.relay():
        client = place.client()
        client.follow(positions={held.head().journal: None})
        held.commit()
        other.commit()
        assert {journal for journal, _ in collect(client, 2)} == {other.head().journal}


def test_only_what_both_patterns_and_certificate_allow_is_sent(place):
    allowed, secret = place.repo("team/app"), place.repo("secret/app")
    for repo in (allowed, secret):
        repo.commit(draft("default"), draft("stable"), draft("private"))
    key = place.keys.make("narrow", read=("hg:team/*:default:", "hg:team/*:stable:"))
    with place.relay():
        client = place.client(key=key)
        welcome = client.follow("hg:**:private:", "hg:**:stable:")
        assert [one.repo for one in welcome.journals] == ["team/app"]
        events = client.hear(Events)
        assert [record.sequence for record in events.records] == [2]
        assert events.scanned == 3


def test_scanned_advances_without_a_single_match(place):
    repo = place.repo()
    for _ in range(3):
        repo.commit()
    with place.relay():
        client = place.client()
        client.follow("hg:**:never:")
        events = client.hear(Events)
        assert (events.scanned, events.records) == (3, ())


def test_no_more_is_under_way_than_the_credit(place):
    repo = place.repo()
    for _ in range(40):
        repo.commit(draft(removed=[b'"%040d"' % n for n in range(2500)]))  # about 100 kB each
    with place.relay():
        client = place.client()
        client.follow(credit=300_000)
        received = []
        while client.socket.poll(1000):
            message = client.hear()
            received += [message] if isinstance(message, Events) else []
        under_way = sum(len(record.event) for events in received for record in events.records)
        assert 0 < under_way <= 300_000
        taken = 300_000 - client.session.credit
        client.say(Ack({received[-1].journal: received[-1].scanned}, credit=taken))
        assert client.hear(Events).records[0].sequence == received[-1].scanned + 1


def test_follow_may_be_repeated_and_replaces_the_former_one(place):
    repo = place.repo()
    for _ in range(3):
        repo.commit()
    journal = repo.head().journal
    with place.relay():
        client = place.client()
        client.follow(positions={journal: 3})
        client.say(Follow((relaykit.EVERYTHING,), {journal: 1}))
        assert collect(client, 2) == [(journal, 2), (journal, 3)]


def test_an_ended_journal_comes_before_its_successor(place):
    repo = place.repo()
    repo.commit()
    first = repo.head().journal
    (repo.store / EVENTS).rename(repo.store / "saved")
    (repo.store / EVENTS).write_bytes((repo.store / "saved").read_bytes())  # another inode
    repo.commit()
    second = repo.head().journal
    assert second != first
    with place.relay():
        client = place.client()
        welcome = client.follow()
        assert [(one.journal, one.closed) for one in welcome.journals] == [
            (first, True),
            (second, False),
        ]
        assert collect(client, 2) == [(first, 1), (second, 1)]


def test_a_torn_record_stops_its_journal_and_no_other(place, caplog):
    torn, sound = place.repo("torn"), place.repo("sound")
    for repo in (torn, sound):
        for _ in range(3):
            repo.commit()
    journal = torn.head().journal
    path = torn.store / EVENTS
    content = bytearray(path.read_bytes())
    content[content.rindex(b'"sequence":3')] ^= 1
    path.write_bytes(content)
    with place.relay() as relay:
        client = place.client()
        client.follow()
        seen = collect(client, 5)
        assert [number for one, number in seen if one == journal] == [1, 2]
        assert [number for one, number in seen if one != journal] == [1, 2, 3]
        sound.commit()
        assert collect(client, 1) == [(sound.head().journal, 4)]
        assert relay.counters.get("journal-stopped", "torn") >= 1
    assert "a journal cannot be read" in caplog.text


def test_acks_are_kept_for_status(place):
    repo = place.repo()
    for _ in range(3):
        repo.commit()
    with place.relay():
        client = place.client()
        client.follow(positions={repo.head().journal: 1})
        rows = wait_for(lambda: list(_rows(place)), "the position at the beginning")
        assert [(row.name, row.repo, row.sequence) for row in rows] == [("ci", "team/app", 1)]
        collect(client, 2)
        wait_for(lambda: [row.sequence for row in _rows(place)] == [3], "the ack")


def _rows(place):
    return state.read(place.folder / "relay.db") if (place.folder / "relay.db").exists() else ()


def test_beats_tell_of_changed_heads_only(place):
    repo, quiet = place.repo("app"), place.repo("quiet")
    repo.commit()
    quiet.commit()
    with place.relay():
        # Given a reader of no journal: batches tell of the heads of those that are read
        client = place.client()
        welcome = client.hello()
        client.say(
            Follow((relaykit.EVERYTHING,), {info.journal: None for info in welcome.journals})
        )
        repo.commit()
        heads = ()
        while not heads:
            client.say(Beat())
            heads = client.hear(Beat).heads
        assert [(one.repo, one.sequence) for one in heads] == [("app", 2)]


def test_a_relay_that_stops_says_goodbye(place):
    with place.relay():
        client = place.client()
        client.follow()
    assert client.hear(Bye) == Bye("stopping")


def test_a_peer_without_a_session_is_told_to_begin_again(place):
    with place.relay():
        client = place.client()
        client.follow()
        client.hear(Beat)
    with place.relay():
        client.send(messages.encode(Ack({}, 0, 1, number=3)))
        said = [messages.decode(client.socket.recv_multipart())]
        while not isinstance(said[-1], SessionRefused):
            assert client.socket.poll(relaykit.DEADLINE * 1000), said
            said.append(messages.decode(client.socket.recv_multipart()))
        assert (said[-1].kind, said[-1].number) == ("out-of-turn", 1)


class TestRefusals:
    def refused(self, client, **changes):
        answer = client.hello(**changes)
        assert isinstance(answer, SessionRefused), answer
        return answer.kind

    def test_the_certificate_of_another_curve_key(self, place):
        stranger = place.keys.make("stranger", read=(relaykit.EVERYTHING,))
        with place.relay() as relay:
            assert self.refused(place.client(curve=stranger)) == "wrong-key"
            assert relay.counters.get("refused", "wrong-key") == 1

    def test_a_name_that_is_not_the_certificates(self, place):
        with place.relay():
            assert self.refused(place.client(), name="other") == "wrong-name"

    def test_a_certificate_without_the_role(self, place):
        with place.relay():
            assert self.refused(place.client(key=place.keys.publisher)) == "not-allowed"

    def test_an_expired_certificate(self, place):
        key = place.keys.make("old", read=(relaykit.EVERYTHING,), nbf=-600, lasts=-60)
        with place.relay():
            assert self.refused(place.client(key=key)) == "expired"

    def test_a_certificate_of_an_unknown_root(self, place):
        other = relaykit.Keys()
        key = other.make("foreign", read=(relaykit.EVERYTHING,))
        with place.relay():
            assert self.refused(place.client(key=key)) == "unknown-root"

    def test_a_known_name_with_another_store(self, place):
        with place.relay():
            assert isinstance(place.client().hello(), Welcome)
            assert self.refused(place.client(), store="store-2") == "other-store"
        with place.relay():
            assert self.refused(place.client(), store="store-2") == "other-store"

    def test_a_malformed_pattern(self, place):
        with place.relay():
            client = place.client()
            client.follow("hg:no-end")
            assert client.hear(SessionRefused).kind == "bad-pattern"


def test_a_session_ends_when_its_certificate_does(place):
    key = place.keys.make("brief", read=(relaykit.EVERYTHING,), lasts=3)
    with place.relay():
        client = place.client(key=key)
        client.follow()
        assert client.hear(SessionRefused).kind == "expired"


def test_the_subscriber_in_the_same_process_needs_no_curve(place):
    repo = place.repo()
    repo.commit()
    with place.relay(subscribe=()) as relay:
        client = place.client(relay=relay)
        client.follow()
        assert collect(client, 1) == [(repo.head().journal, 1)]
        again = place.client(relay=relay)
        assert isinstance(again.hello(store="store-2"), Welcome), "its own store may change"


def test_two_subscribers_get_everything_each(place):
    repo = place.repo()
    for _ in range(20):
        repo.commit()
    key = place.keys.make("second", read=(relaykit.EVERYTHING,))
    with place.relay():
        clients = [place.client(), place.client(key=key)]
        for client in clients:
            client.follow()
        for client in clients:
            assert [number for _, number in collect(client, 20)] == list(range(1, 21))


class TestEndpoints:
    def test_modes_and_certificate_of_ipc_sockets(self, place):
        with place.relay(broadcast=place.endpoint("broadcast")):
            run = place.folder / "run"
            assert stat.S_IMODE(run.stat().st_mode) == 0o2750
            for name in ("publish", "subscribe", "broadcast"):
                assert stat.S_IMODE((run / name).stat().st_mode) == 0o660
                pid = (run / f"{name}.lock").read_text().splitlines()[0]
                assert pid == str(os.getpid())
            token = ipc.read_certificate(place.endpoint("subscribe"))
            assert token == place.keys.relay.certificate

    def test_a_second_relay_on_the_same_path_is_refused_with_the_lines_to_use(self, place):
        with place.relay():
            with pytest.raises(ipc.AlreadyServed) as caught, place.relay():
                pass
            assert str(caught.value) == (
                f"{place.endpoint('publish')} is already served by pid {os.getpid()}"
            )
            assert f"relays:\n  - {{address: {place.endpoint('subscribe')}}}" in caught.value.hint
            client = place.client()
            client.follow()  # the first one still serves

    def test_the_path_is_free_again_when_the_relay_is_gone(self, place):
        for _ in range(3):
            with place.relay():
                place.client(key=place.keys.subscriber).follow()

    def test_sessions_over_tcp(self, place):
        port = _free_port()
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{port}")
        with place.relay(subscribe=(endpoint, place.endpoint("subscribe"))):
            for one in (endpoint, place.endpoint("subscribe")):
                client = place.client(endpoint=one)
                client.follow()
                client.say(Bye())

    def test_a_plain_peer_gets_nothing_from_a_curve_endpoint(self, place):
        with place.relay():
            plain = place.context.socket(zmq.DEALER)
            try:
                plain.connect(place.endpoint("subscribe"))
                plain.send(b"hello", zmq.DONTWAIT)
                assert not plain.poll(500)
            finally:
                plain.close(linger=0)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestBroadcast:
    def listen(self, place, prefix=b""):
        listener = place.context.socket(zmq.SUB)
        listener.connect(place.endpoint("broadcast"))
        listener.subscribe(prefix)
        return listener

    def test_new_events_go_out_once_with_all_that_is_needed_to_check_them(self, place):
        repo = place.repo()
        repo.commit()  # old: not broadcast
        with place.relay(broadcast=place.endpoint("broadcast")):
            listener = self.listen(place)
            try:
                received = []

                def more():
                    repo.commit(draft("default"), draft("stable"))
                    while listener.poll(300):
                        received.append(listener.recv_multipart())
                    return len(received) >= 4

                wait_for(more, "broadcast events")
            finally:
                listener.close(linger=0)
        events = [
            place.keys.keyring.authenticate(envelope.Message.from_frames(frames), time.time()).event
            for frames in received
        ]
        sequences = [event.sequence for event in events]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        assert sequences[0] > 1

    def test_what_an_expired_certificate_signed_is_not_sent(self, place):
        # Given a publisher whose certificate has expired, and one whose has not
        old = place.keys.make("old", publish=(relaykit.EVERYTHING,), nbf=-600, lasts=-1)
        late, good = relaykit.Repo(place.hg, "team/late", old), place.repo("team/good")
        with place.relay(broadcast=place.endpoint("broadcast")) as relay:
            late.commit()
            # Then its event is refused, and the other's goes out
            wait_for(lambda: relay.counters.get("refused", "expired"), "the refusal")
            good.commit()
            wait_for(lambda: relay.counters.get("broadcast"), "the other's event")
            assert relay.counters.get("broadcast") == 1
