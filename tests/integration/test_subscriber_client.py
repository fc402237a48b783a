"""The client's side of a session against a relay that is played by the test, also badly."""

import contextlib
import threading
import time
from dataclasses import replace

import pytest
import zmq
from relaykit import Keys, draft, place
from signing import NOW, ROOT, Journal, batch, certified
from support.waiting import wait_for

from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import keyfiles, revocations
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Follow,
    Hello,
    JournalInfo,
    Role,
    Session,
    SessionRefused,
    Welcome,
)
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake import backoff
from subscriber.intake import client as client_module
from subscriber.intake.backoff import Backoff
from subscriber.intake.client import Client
from subscriber.intake.connect import Remote, probe
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Tools
from subscriber.store.base import StoreError
from subscriber.store.memory import MemoryStore

DEADLINE = 20_000
SIGNER = certified("publisher")
ME = certified("ci", roles=["subscriber"], publish=[], read=["hg:**:**:"])
ONE = "1" * 32


class Stage:
    """A client in a thread, and the ROUTER that it speaks to."""

    def __init__(self, store=None) -> None:
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.bind("inproc://relay")
        self.store = store or MemoryStore()
        self.counters = Counters()
        self.stop = Stop()
        self.route = b""
        self.session = Session(Role.RELAY)
        tools = Tools(
            store=self.store,
            keyring=Keyring([ROOT.public]),
            patterns=(Pattern.parse("hg:**:**:"),),
            match=lambda _parts, _created: (),
            counters=self.counters,
            notify=lambda: None,
            clock=lambda: NOW,
        )
        self.welcomes = 0
        self.current = Current(new_identity(ME, "ci", "store-1"), tools)
        self.client = Client(
            self.context,
            Remote("hg1", "inproc://relay"),
            self.current,
            start="earliest",
            on_welcome=self.welcomed,
        )
        self.thread = threading.Thread(target=self.client.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def welcomed(self) -> None:
        self.welcomes += 1

    def frames(self) -> list[bytes]:
        assert self.router.poll(DEADLINE), "the client says nothing"
        self.route, *frames = self.router.recv_multipart()
        return frames

    def hear(self, *kinds):
        """What the client says next, beats aside."""
        while True:
            message = self.session.receive(self.frames())
            if not isinstance(message, Beat):
                assert isinstance(message, kinds), message
                return message

    def greet(self) -> Hello:
        """The HELLO of the next attempt; what is left of an older one is passed over."""
        while True:
            frames = self.frames()
            if frames[1] == b"HELLO":
                self.session = Session(Role.RELAY)
                return self.session.receive(frames)

    def say(self, message) -> None:
        self.send(self.session.send(message))

    def send(self, frames) -> None:
        self.router.send_multipart([self.route, *frames])

    def begin(self, *infos: JournalInfo) -> Follow:
        self.greet()
        self.say(Welcome("hg1", infos))
        return self.hear(Follow)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.router.close(linger=0)
        self.context.term()


@contextlib.contextmanager
def stage(store=None):
    made = Stage(store)
    try:
        yield made
    finally:
        made.close()


def one(sequence: int = 1) -> JournalInfo:
    return JournalInfo(ONE, "app", 1, sequence)


def test_an_event_is_on_disk_before_its_ack_is_said() -> None:
    with stage() as relay:
        hello = relay.greet()
        relay.say(Welcome("hg1", (one(),)))
        follow = relay.hear(Follow)
        relay.say(batch([Journal(SIGNER).record()], SIGNER))
        ack = relay.hear(Ack)

        assert (hello.name, hello.store, hello.certificate) == ("ci", "store-1", ME.certificate)
        assert (follow.patterns, follow.positions) == (("hg:**:**:",), {ONE: 0})
        assert ack.positions == {ONE: 1}
        assert ack.credit > 0
        assert len(relay.store.events(0, 10)) == 1


def stops(relay: Stage) -> dict[str, str | None]:
    return {row.journal: row.stopped for row in relay.store.journals()}


def test_batches_that_come_at_once_are_stored_and_acked_in_their_order() -> None:
    journal = Journal(SIGNER)
    records = [journal.record(f"b{n % 3}") for n in range(40)]
    with stage() as relay:
        follow = relay.begin(one(40))
        for at in range(0, 40, 4):
            relay.say(batch(records[at : at + 4], SIGNER))
        acked = [relay.hear(Ack).positions[ONE] for _ in range(10)]

        assert acked == list(range(4, 41, 4))
        assert [each.record.sequence for each in relay.store.events(0, 100)] == list(range(1, 41))
        assert relay.session.credit == follow.credit


def test_what_was_read_ahead_of_a_bad_event_is_dropped() -> None:
    journal = Journal(SIGNER)
    records = [journal.record() for _ in range(9)]
    bad = replace(records[4], event=records[4].event.replace(b"alice", b"carol"))
    with stage() as relay:
        relay.begin(one(9))
        for some in ([*records[:3]], [records[3], bad, records[5]], records[6:]):
            relay.say(batch(some, SIGNER))
        assert relay.hear(Ack).positions == {ONE: 3}
        again = relay.hear(Follow)

        # It stands right before the bad one, and waits; what was behind it is not stored
        assert again.positions == {ONE: None}
        assert [each.record.sequence for each in relay.store.events(0, 10)] == [1, 2, 3, 4]
        assert (stops(relay)[ONE] or "").startswith("bad-signature at sequence 5")
        # Asked for again, and told the truth, it goes on there
        assert relay.hear(Follow).positions == {ONE: 4}
        relay.say(batch(records[4:], SIGNER))
        assert relay.hear(Ack).positions == {ONE: 9}


def test_events_before_a_goodbye_are_stored_and_acked() -> None:
    with stage() as relay:
        relay.begin(one())
        relay.say(batch([Journal(SIGNER).record()], SIGNER))
        relay.say(Bye("stopping"))

        assert relay.frames()[1] == b"ACK"
        assert len(relay.store.events(0, 10)) == 1
        wait_for(lambda: relay.counters.get("sessions-lost", "bye"), "the goodbye")


def test_the_client_says_goodbye_when_it_is_stopped() -> None:
    with stage() as relay:
        relay.begin(one())

        relay.stop.set()

        assert relay.hear(Bye).reason == "stopping"


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([b"junk"], "bad-frames"),
        ([b"zmqhooks/2", b"BEAT", b"{}", b""], "bad-version"),
        ([b"zmqhooks/1", b"SING", b"{}", b""], "bad-message"),
        ([b"zmqhooks/1", b"EVENTS", b"\xff" * 1000, b""], "bad-message"),
        ([b"zmqhooks/1", b"WELCOME", b'{"number":2,"name":"x","journals":[]}', b""], "out-of-turn"),
    ],
)
def test_a_relay_that_breaks_the_rules_loses_the_session_and_gets_another(
    frames: list[bytes], kind: str
) -> None:
    with stage() as relay:
        relay.begin(one())

        relay.send(frames)
        relay.begin(one())
        relay.say(batch([Journal(SIGNER).record()], SIGNER))

        assert relay.hear(Ack).positions == {ONE: 1}
        assert relay.counters.get("refused", kind) == 1
        assert relay.counters.get("sessions-lost", kind) == 1


def test_a_refusal_is_counted_and_tried_again() -> None:
    with stage() as relay:
        relay.greet()
        relay.say(SessionRefused("expired", "the certificate of 'ci' is expired"))
        relay.begin()

        assert relay.counters.get("session-refused", "expired") == 1
        assert relay.welcomes == 1


def test_silence_ends_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(client_module, "BEAT_SECONDS", 0.1)
    with stage() as relay:
        relay.begin(one())
        assert relay.frames()[1] == b"BEAT"

        relay.begin(one())

        assert relay.counters.get("sessions-lost", "silence") == 1


class Broken(MemoryStore):
    """A store whose disk is full for a while."""

    failures = 2

    def accept(self, batch):
        if self.failures:
            self.failures -= 1
            raise StoreError("ci.db", "database or disk is full", "make room")
        return super().accept(batch)


def test_what_the_store_did_not_take_is_not_acked_and_comes_again() -> None:
    with stage(Broken()) as relay:
        record = Journal(SIGNER).record()
        for _ in range(Broken.failures):
            relay.begin(one())
            relay.say(batch([record], SIGNER))
        follow = relay.begin(one())
        relay.say(batch([record], SIGNER))

        assert follow.positions == {ONE: 0}
        assert relay.hear(Ack).positions == {ONE: 1}
        assert relay.counters.get("sessions-lost", "store") == 2


def test_a_stopped_journal_is_left_out_and_then_asked_for_again() -> None:
    with stage() as relay:
        record = Journal(SIGNER).record()
        relay.begin(one(), JournalInfo("2" * 32, "other", 1, 0))

        relay.say(batch([record]))  # without its certificate
        without = relay.hear(Follow)
        again = relay.hear(Follow)
        relay.say(batch([record], SIGNER))

        assert without.positions == {ONE: None, "2" * 32: 0}
        assert again.positions == {ONE: 0, "2" * 32: 0}
        assert relay.hear(Ack).positions == {ONE: 1}


def test_a_new_key_ends_the_session_in_order_and_the_next_begins_with_it() -> None:
    fresh = certified("ci", roles=["subscriber"], publish=[], read=["hg:app:**:"])
    allowed = (Pattern.parse("hg:app:**:"),)
    with stage() as relay:
        relay.begin(one(2))
        relay.say(batch([Journal(SIGNER).record()], SIGNER))
        relay.hear(Ack)
        before = relay.current
        told: list[int] = []

        # When who we are changes, nobody reads while the store is told
        change = threading.Thread(
            target=lambda: before.change(
                replace(before.identity, secret=fresh),
                replace(before.tools, allowed=allowed),
                lambda: told.append(len(relay.store.events(0, 10))),
            )
        )
        change.start()
        assert relay.hear(Bye) == Bye("another key or other rules")
        change.join(20)

        # Then the next session has the new key and goes on where the last one stood, at once
        assert told == [1]
        hello = relay.greet()
        assert hello.certificate == fresh.certificate
        assert hello.instance == before.identity.instance
        relay.say(Welcome("hg1", (one(2),)))
        assert relay.hear(Follow).positions == {ONE: 1}
        assert relay.client.changing is False
        assert not [key for key in relay.counters.snapshot() if key[0] == "sessions-lost"]


def test_a_change_that_fails_leaves_the_old_key_and_goes_on() -> None:
    def fail() -> None:
        raise StoreError("ci.db", "disk full")

    with stage() as relay:
        relay.begin(one())
        before = relay.current.identity
        with pytest.raises(StoreError):
            relay.current.change(replace(before, name="other"), relay.current.tools, fail)
        assert relay.current.identity is before
        assert relay.greet().name == "ci"


def test_a_new_key_is_tried_at_once_by_who_waits_for_the_next_attempt(monkeypatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_DELAY", 30.0)
    with stage() as relay:
        # Given a client that was refused and waits for long
        relay.greet()
        relay.say(SessionRefused("expired", "the certificate is expired"))
        wait_for(lambda: relay.counters.get("sessions-lost", "refused"), "the refusal")

        begin = time.monotonic()
        relay.current.change(relay.current.identity, relay.current.tools)

        relay.greet()
        assert time.monotonic() - begin < 10


def test_a_stopped_journal_is_asked_for_again_as_soon_as_other_roots_are_trusted() -> None:
    root = keyfiles.generate("root-2")
    other = certified("publisher", root=root)
    with stage() as relay:
        # Given a journal that is stopped, and that was tried for long
        relay.begin(one())
        relay.say(batch([Journal(other).record()], other))
        assert relay.hear(Follow).positions == {ONE: None}
        assert (stops(relay)[ONE] or "").startswith("unknown-root")
        # When its root is trusted
        relay.current.tools.keyring.replace([ROOT.public, root.public], ())
        relay.current.ring()
        # Then it is asked for again, and taken
        assert relay.hear(Follow).positions == {ONE: 0}
        relay.say(batch([Journal(other).record()], other))
        assert relay.hear(Ack).positions == {ONE: 1}
        assert stops(relay) == {ONE: None}


def test_delays_grow_and_are_never_equal() -> None:
    low, high = Backoff(lambda: 0.0), Backoff(lambda: 1.0)

    least, most = [low.next() for _ in range(12)], [high.next() for _ in range(12)]

    assert most[:4] == [0.2, 0.4, 0.8, 1.6]
    assert most[-1] == 30
    assert [value / 2 for value in most] == least
    high.reset()
    assert high.next() == 0.2


def test_a_probe_tells_a_relay_from_a_stranger_and_from_nothing() -> None:
    with place() as here, here.relay():
        here.repo().commit(draft())
        address = here.endpoint("subscribe")
        good = Remote("r", address, lambda: here.keys.relay.certificate)
        stranger = Remote("r", address, lambda: Keys().relay.certificate)
        nobody = Remote("r", here.endpoint("none"), lambda: here.keys.relay.certificate)
        no_certificate = Remote("r", address, lambda: None)
        wrong_key = Remote(
            "r", address, lambda: here.keys.make("other", roles=("relay",)).certificate
        )
        me, ring = here.keys.subscriber, here.keys.keyring

        assert probe(good, me, ring, 10) == ""
        assert "refused" in probe(stranger, me, ring, 10)
        assert "nobody listens" in probe(nobody, me, ring, 10)
        assert "no certificate" in probe(no_certificate, me, ring, 10)
        assert probe(wrong_key, me, ring, 10) != ""


@pytest.mark.parametrize("how", ["expired", "revoked"])
def test_a_session_ends_when_the_relays_certificate_does(how: str) -> None:
    with place() as here, contextlib.ExitStack() as stack:
        # Given a session with a relay that has a certificate for some seconds, or for long
        lasts = 6.0 if how == "expired" else 3600.0
        here.keys.relay = here.keys.make("relay", roles=("relay",), lasts=lasts)
        counters, stop, welcomes = Counters(), Stop(), []
        root = here.keys.root
        tools = Tools(
            store=MemoryStore(),
            keyring=Keyring([root.public]),
            patterns=(Pattern.parse("hg:**:**:"),),
            match=lambda _parts, _created: (),
            counters=counters,
            notify=lambda: None,
        )
        current = Current(new_identity(here.keys.subscriber, "ci", "store-1"), tools)
        token = here.keys.relay.certificate
        remote = Remote("r", here.endpoint("subscribe"), lambda: token)
        client = Client(
            here.context,
            remote,
            current,
            start="earliest",
            on_welcome=lambda: welcomes.append(1),
        )
        stack.enter_context(here.relay())
        thread = threading.Thread(target=client.run, args=(stop,), daemon=True)
        thread.start()
        wait_for(lambda: welcomes, "the session")
        # When its time is over, or the root takes it back
        if how == "revoked":
            entries = [Revoked(int(time.time()), jti="jti-relay")]
            listed = revocations.issue(root, 1, entries, int(time.time()))
            tools.keyring.replace([root.public], [listed])
            current.ring()
        # Then the session ends, though the relay would go on
        wait_for(lambda: counters.get("sessions-lost", how), "the end of the session")
        assert len(welcomes) == 1
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_a_lost_connection_is_noticed_at_once_and_made_again() -> None:
    with place() as here:
        here.repo().commit(draft())
        counters, stop, welcomes = Counters(), Stop(), []
        tools = Tools(
            store=MemoryStore(),
            keyring=here.keys.keyring,
            patterns=(Pattern.parse("hg:**:**:"),),
            match=lambda _parts, _created: (),
            counters=counters,
            notify=lambda: None,
        )
        remote = Remote("r", here.endpoint("subscribe"), lambda: here.keys.relay.certificate)
        client = Client(
            here.context,
            remote,
            Current(new_identity(here.keys.subscriber, "ci", "store-1"), tools),
            start="earliest",
            on_welcome=lambda: welcomes.append(time.monotonic()),
        )
        thread = threading.Thread(target=client.run, args=(stop,), daemon=True)
        thread.start()
        for count in (1, 2):
            with here.relay():
                wait_for(lambda count=count: len(welcomes) >= count)
                wait_for(lambda: tools.store.events(0, 10))
        stop.set()
        thread.join(20)

        assert not thread.is_alive()
        assert counters.get("stored") == 1
