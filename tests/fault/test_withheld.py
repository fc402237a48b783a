"""Somebody on the way takes one message out of a session: it ends, and nothing is lost.

A real relay and a real intake over tcp with CURVE, with fault/thief.py between them.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator

import pytest
import relaykit
from fault.proxy import DOWN, UP
from fault.thief import Thief
from relaykit import EVERYTHING, Place
from support.waiting import wait_for

from hgext_zmqhooks.relay import server, sessions
from hgext_zmqhooks.service.life import ROOT, Stop
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake import client as intake
from subscriber.intake.connect import Remote
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Tools
from subscriber.store.memory import MemoryStore


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where beats come soon."""
    for module in (intake, sessions, server):
        monkeypatch.setattr(module, "BEAT_SECONDS", 0.3)
    with relaykit.place() as here:
        yield here


class Follower:
    """An intake with its store and its counters."""

    def __init__(self, place: Place) -> None:
        self.store, self.counters = MemoryStore(), Counters()
        patterns = (Pattern.parse(EVERYTHING),)
        self._tools = Tools(
            store=self.store,
            keyring=place.keys.keyring,
            patterns=patterns,
            allowed=patterns,
            match=lambda _parts, _created: (),
            counters=self.counters,
            notify=lambda: None,
        )
        self._place = place

    @contextlib.contextmanager
    def following(self, port: int) -> Iterator[None]:
        """Follow the relay through this port."""
        key, token = self._place.keys.subscriber, self._place.keys.relay.certificate
        client = intake.Client(
            self._place.context,
            Remote("hg1", f"tcp://127.0.0.1:{port}", lambda: token),
            Current(new_identity(key, key.name, "store-1"), self._tools),
            start="earliest",
            on_welcome=lambda: None,
        )
        stop = Stop()
        thread = threading.Thread(target=client.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(relaykit.DEADLINE)
            assert not thread.is_alive()

    def stored(self) -> list[bytes]:
        return [one.record.event for one in self.store.events(0, 100)]


@pytest.mark.parametrize(
    ("direction", "verb"),
    [(UP, "FOLLOW"), (UP, "ACK"), (UP, "BEAT"), (DOWN, "EVENTS"), (DOWN, "BEAT")],
)
def test_a_message_is_taken_out_and_all_events_arrive(
    place: Place, caplog: pytest.LogCaptureFixture, direction: str, verb: str
) -> None:
    caplog.set_level(logging.INFO, f"{ROOT}.relay")
    repo, follower, tcp = place.repo(), Follower(place), place.tcp()
    told = [one.event for one in repo.commit()]
    with (
        place.relay(subscribe=(tcp,)) as relay,
        Thief(("127.0.0.1", tcp.port)) as thief,
    ):
        # When somebody on the way takes one message out of the session
        thief.withhold(direction, verb)
        with follower.following(thief.port):
            wait_for(lambda: relay.counters.get("sessions") == 2, "another session")
            told += [one.event for one in repo.commit()]

            # Then another session brings all events, each once
            wait_for(lambda: len(follower.stored()) >= len(told), "all events")
            assert follower.stored() == told

            # And it is counted, by who noticed it, and logged; the relay's session has ended
            noticed = relay.counters if direction == UP else follower.counters
            assert noticed.get("refused", "lost-message") == 1
            ending = "refused" if direction == UP else "lost-message"
            assert follower.counters.get("sessions-lost", ending) == 1
            assert follower.counters.get("session-refused", "lost-message") == (direction == UP)
            (line,) = said(caplog, "no session with the relay")
            assert "lost-message" in line
            wait_for(lambda: len(said(caplog, "session ended")) == 1, "the relay's end of it")
        assert thief.count["withheld"] == 1


@pytest.mark.parametrize(
    ("direction", "verb", "why"), [(UP, "HELLO", "silence"), (DOWN, "WELCOME", "out-of-turn")]
)
def test_a_greeting_is_taken_out_and_the_next_try_is_one_more(
    place: Place, monkeypatch: pytest.MonkeyPatch, direction: str, verb: str, why: str
) -> None:
    monkeypatch.setattr(intake, "SILENCE_SECONDS", 3.0)
    repo, follower, tcp = place.repo(), Follower(place), place.tcp()
    told = [one.event for one in repo.commit()]
    with place.relay(subscribe=(tcp,)), Thief(("127.0.0.1", tcp.port)) as thief:
        thief.withhold(direction, verb)
        with follower.following(thief.port):
            wait_for(lambda: follower.stored() == told, "all events")
        assert thief.count["withheld"] == 1
    assert follower.counters.get("sessions-lost", why) == 1


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[str]:
    """What lines of the log with this message tell."""
    return [str(vars(one)) for one in caplog.records if one.getMessage() == message]
