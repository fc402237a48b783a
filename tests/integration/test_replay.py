"""What was genuine once is shown again, elsewhere or by somebody else: nothing of it counts twice.

    an old event again              a duplicate, dropped and counted, however old
    a message at another relay      refused, or a duplicate
    a message under another topic   refused: `wrong-topic`
    another subscriber's messages   refused: `wrong-key`
    to a first-time subscriber      old events are dropped where it begins with the latest, and who
                                    has not the relay's secret key is not spoken to

An event at another place of its own relay (`wrong-place`, `wrong-repo`, `fork`) is the matter of
tests/fault/test_lying_relay.py. Real sockets with CURVE; the subscriber runs in this process, so
that its counters can be read.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import relaykit
import zmq
from fault.liar import Liar
from relaykit import EVERYTHING, Keys, Place, draft, publish_live
from signing import Journal, batch
from support import attacks
from support.waiting import wait_for

from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.keyfiles import SecretKey, generate
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked, issue
from hgext_zmqhooks.wire.session import Ack, Events, Follow, Hello, Record, SessionRefused
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake.client import Client
from subscriber.intake.connect import Remote
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Tools
from subscriber.intake.verify import Verifier
from subscriber.store.sqlite import SqliteStore

APP, OTHER = "1" * 32, "2" * 32
COUNT = 300
"""Old events; more than the intake verifies itself."""


class Reader:
    """A subscriber: its store, its counters, and a client for each relay that it follows."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.keys = keys
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.store = SqliteStore.open(folder / "ci.db")
        self.counters = Counters()
        self.keyring = Keyring([keys.root.public])
        self.matched: list[int] = []
        self.late = 0.0
        self._verifier = Verifier()
        self._running: list[tuple[Stop, threading.Thread]] = []

    def follow(self, address: str, *, start: str = "earliest") -> None:
        """Follow the relay at this address, whose certificate is that of our relay's key."""
        tools = Tools(
            store=self.store,
            keyring=self.keyring,
            patterns=(Pattern.parse(EVERYTHING),),
            match=self._match,
            counters=self.counters,
            notify=lambda: None,
            verifier=self._verifier,
            clock=lambda: time.time() + self.late,
            allowed=(Pattern.parse(EVERYTHING),),
        )
        client = Client(
            self.context,
            Remote(address, address, lambda: self.keys.relay.certificate),
            Current(new_identity(self.keys.subscriber, "ci", self.store.identity()), tools),
            start=start,
            on_welcome=lambda: None,
        )
        stop = Stop()
        thread = threading.Thread(target=client.run, args=(stop,), daemon=True)
        self._running.append((stop, thread))
        thread.start()

    def _match(self, parts, _now):
        self.matched += [part.sequence for part in parts]
        return ()

    def stored(self, journal: str = APP) -> list[int]:
        found = [each.record for each in self.store.events(0, 1000)]
        return [record.sequence for record in found if record.journal == journal]

    def wait_stored(self, *sequences: int, journal: str = APP) -> None:
        wait_for(lambda: self.stored(journal)[-len(sequences) :] == [*sequences], "the events")

    def leave(self) -> None:
        """End the sessions; what was stored and counted stays."""
        for stop, thread in self._running:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()
        self._running.clear()

    def close(self) -> None:
        self.leave()
        self._verifier.close()
        self.context.term()
        self.store.close()


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def reader(keys: Keys, tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path, keys)
    yield made
    made.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with relaykit.place() as here:
        yield here


def at_once(_reader: Reader) -> None:
    pass


def after_a_restart(reader: Reader) -> None:
    reader.leave()


def when_its_certificate_has_expired(reader: Reader) -> None:
    reader.late = 2 * 3600


def when_its_certificate_is_revoked(reader: Reader) -> None:
    now = int(time.time())
    root = reader.keys.root
    token = issue(root, 1, [Revoked(now, jti="jti-publisher")], now)
    reader.keyring.replace([root.public], [token])


MOMENTS = [
    at_once,
    after_a_restart,
    when_its_certificate_has_expired,
    when_its_certificate_is_revoked,
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_an_old_event_again_is_a_duplicate(
    reader: Reader, keys: Keys, moment: Callable[[Reader], None]
) -> None:
    # Given many events that are stored
    journal = Journal(keys.publisher, journal=APP)
    records = [journal.record(f"b{number % 3}") for number in range(COUNT)]
    with Liar(keys.relay) as relay:
        app = relay.serve("app", APP)
        relay.tell(app, records, keys.publisher)
        reader.follow(relay.address)
        reader.wait_stored(COUNT)
        assert reader.counters.get("duplicates") == 0

        # When the relay sends all of them again, the first one once more, and then a new one
        moment(reader)
        fresh = keys.make("fresh", publish=(EVERYTHING,), lasts=10 * 3600.0)
        again = [batch(records, keys.publisher), batch(records[:1], keys.publisher)]
        app.twist = lambda new: [*again, new]
        relay.tell(app, [journal.record("b0", signer=fresh)], fresh)
        if moment is after_a_restart:
            reader.follow(relay.address)
        reader.wait_stored(COUNT, COUNT + 1)

        # Then each was dropped and counted, and the new one came through
        assert reader.counters.get("duplicates") == COUNT + 1
        assert reader.stored() == list(range(1, COUNT + 2))
        assert reader.matched == list(range(1, COUNT + 2))
        assert reader.counters.get("refused", "revoked") == 0
        assert [row.stopped for row in reader.store.journals()] == [None]


def test_events_of_one_relay_are_shown_at_another(reader: Reader, keys: Keys) -> None:
    # Given two relays with a journal each, and a copy of what the first one sends
    app, other = Journal(keys.publisher, journal=APP), Journal(keys.publisher, "other", OTHER)
    recorded = [app.record(), app.record()]
    with Liar(keys.relay) as first, Liar(keys.relay) as second:
        first_app, second_other = first.serve("app", APP), second.serve("other", OTHER)
        first.tell(first_app, recorded, keys.publisher)
        reader.follow(first.address)
        reader.wait_stored(1, 2)

        # When the second one sends it, in a journal that it did not name
        second_other.twist = lambda new: [batch(recorded, keys.publisher), new]
        second.tell(second_other, [other.record()], keys.publisher)
        reader.follow(second.address)

        # Then its session ends each time
        wait_for(lambda: reader.counters.get("refused", "unknown-journal") >= 2, "refusals")
        refused = reader.counters.get("refused", "unknown-journal")
        assert reader.counters.get("sessions-lost", "unknown-journal") >= refused - 1
        assert reader.stored(OTHER) == []

        # And when it names the journal as its own, they are duplicates
        second_app = second.serve("app", APP)
        second_other.twist = lambda new: [new]
        second.tell(second_app, recorded, keys.publisher)
        second_app.twist = lambda _new: [batch(recorded, keys.publisher)]
        reader.wait_stored(1, journal=OTHER)
        second.tell(second_app, [app.record()], keys.publisher)
        wait_for(lambda: reader.counters.get("duplicates") >= 2, "duplicates")

        # And the first one goes on
        first.tell(first_app, [second_app.records[-1]], keys.publisher)
        reader.wait_stored(1, 2, 3)
        assert reader.matched.count(2) == 1


def test_live_copies_are_shown_again_and_under_another_topic(place: Place) -> None:
    """Events are served from the journal: an old copy is a hint that tells nothing new."""
    # Given a relay with a session and a broadcast, which both had the events
    repo = place.repo()
    readers = place.endpoint("broadcast")
    with place.relay(broadcast=readers) as relay, listener(place, readers) as heard:
        client = place.client()
        client.follow()
        copies = [repo.commit(draft(f"b{number}"))[0] for number in range(3)]
        assert len(publish_live(place, [copy.frames() for copy in copies])) == 3
        wait_for(lambda: len(heard()) == 3, "the broadcast of three events")
        assert sequences(client, 3) == [1, 2, 3]

        # When they come again, and under the topic of another one
        again = [copy.frames() for copy in copies] * 20
        moved = [replace(copy, topic=copies[0].topic).frames() for copy in copies[1:]] * 20
        with attacks.publisher(readers.replace("broadcast", "publish")) as own:
            for frames in [*moved, *again]:
                own.send_multipart(frames)
            answers = [own.recv() for _ in again if own.poll(10_000)]
        following = repo.commit(draft("b0"))[0]
        publish_live(place, [following.frames()])

        # Then nobody gets them, those moved are refused, and what is new follows
        assert sequences(client, 1) == [4]
        wait_for(lambda: len(heard()) >= 4, "the broadcast of what followed")
        assert [message.event for message in heard()] == [
            copy.event for copy in (*copies, following)
        ]
        assert [answer[:1] for answer in answers] == [b"A"] * len(again)
        assert relay.counters.get("refused", "wrong-topic") == len(moved)
        assert relay.counters.get("live") == 3 + len(again) + 1
        assert relay.counters.get("broadcast") == 4


def sequences(client: relaykit.Client, count: int) -> list[int]:
    """The next events of a session."""
    found: list[Record] = []
    while len(found) < count:
        events = client.hear(Events)
        found += events.records
        client.say(Ack({events.journal: events.scanned}, messages.cost(messages.encode(events))))
    return [record.sequence for record in found]


@contextmanager
def listener(place: Place, endpoint: str) -> Iterator[Callable[[], list[Message]]]:
    """What a broadcast sent so far."""
    socket = place.context.socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(endpoint)
    found: list[Message] = []

    def heard() -> list[Message]:
        while socket.poll(0):
            found.append(Message.from_frames(socket.recv_multipart()))
        return found

    try:
        yield heard
    finally:
        socket.close(linger=0)


def test_the_messages_of_another_subscriber_are_refused(place: Place) -> None:
    # Given the messages of a subscriber's session, recorded by somebody with a certificate: a
    # further subscriber, or a relay that the first one spoke to
    repo = place.repo()
    repo.commit(draft())
    with place.relay() as relay:
        honest = place.client()
        honest.follow()
        assert sequences(honest, 1) == [1]
        token = place.keys.subscriber.certificate or b""
        recorded = [
            messages.encode(Hello(token, "ci", "store-1", "instance-9", number=1)),
            messages.encode(Follow((EVERYTHING,), {}, 1 << 20, 1, number=2)),
            messages.encode(Ack({repo_journal(repo): 1}, 0, 1, number=3)),
        ]
        thieves = [place.keys.make("thief", read=(EVERYTHING,)), place.keys.relay]

        # When each says them again, on a connection with its own CURVE key
        for thief in thieves:
            client = place.client(curve=thief)
            kinds = []
            for frames in recorded:
                client.send(frames)
                assert client.socket.poll(relaykit.DEADLINE * 1000)
                answer = messages.decode(client.socket.recv_multipart())
                assert isinstance(answer, SessionRefused), answer
                kinds.append(answer.kind)

            # Then the first is refused for its key, and the others as out of nowhere
            assert kinds == ["wrong-key", "out-of-turn", "out-of-turn"]
        assert relay.counters.get("refused", "wrong-key") == len(thieves)
        assert relay.counters.get("refused", "out-of-turn") == 2 * len(thieves)
        assert relay.counters.get("sessions") == 1

        # And the honest one goes on
        repo.commit(draft())
        assert sequences(honest, 1) == [2]


def repo_journal(repo: relaykit.Repo) -> str:
    head = repo.head()
    assert head is not None
    return str(head.journal)


def test_a_first_time_subscriber_begins_behind_what_is_old(reader: Reader, keys: Keys) -> None:
    # Given a subscriber that begins with the latest, and a relay that sends what is older
    journal = Journal(keys.publisher, journal=APP)
    old = [journal.record() for _ in range(5)]
    with Liar(keys.relay) as relay:
        app = relay.serve("app", APP)
        relay.tell(app, old, keys.publisher)
        app.twist = lambda new: [batch(old, keys.publisher), new]
        reader.follow(relay.address, start="latest")
        wait_for(lambda: app.follows, "it is followed")

        # When there is a new one
        relay.tell(app, [journal.record()], keys.publisher)

        # Then it is taken, and the old ones are dropped and counted
        reader.wait_stored(6)
        assert reader.stored() == reader.matched == [6]
        assert reader.counters.get("duplicates") == len(old)


def test_who_has_not_the_secret_key_of_the_relay_is_not_spoken_to(
    reader: Reader, keys: Keys
) -> None:
    # Given somebody at a relay's address with a recorded journal, and with its certificate only
    journal = Journal(keys.publisher, journal=APP)
    old = [journal.record(), journal.record()]
    thief = generate("relay")
    with Liar(SecretKey("relay", thief.seed, thief.curve_secret, keys.relay.certificate)) as liar:
        address = liar.address
        liar.tell(liar.serve("app", APP), old, keys.publisher)

        # When a subscriber comes for the first time
        reader.follow(address)

        # Then it says nothing there, and takes nothing
        wait_for(lambda: reader.counters.get("sessions-lost", "unreachable") >= 2, "attempts")
        assert liar._peers == {}
        assert reader.stored() == []
        assert reader.store.journals() == []

    # And once the relay itself is there, it begins
    with Liar(keys.relay, address) as relay:
        relay.tell(relay.serve("app", APP), old, keys.publisher)
        reader.wait_stored(1, 2)
