"""Who may read one topic gets no byte of another, whatever he and others say to the relay."""

import logging
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import privatekit
import pytest
import relaykit
import wirestrategies as draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from privatekit import CLOSED, MINE, OPEN, READ, SECRET, Secrets

from hgext_zmqhooks.relay import reading
from hgext_zmqhooks.relay.catalog import scan
from hgext_zmqhooks.relay.peers import Address, Origin, Sent
from hgext_zmqhooks.relay.sessions import Sessions
from hgext_zmqhooks.relay.settings import Excess
from hgext_zmqhooks.relay.shelf import Shelf
from hgext_zmqhooks.relay.state import State
from hgext_zmqhooks.service.life import Throttle
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.session import Ack, Beat, Bye, Events, Follow, Hello, Role, Since

NOW = time.time()
KEYS = relaykit.Keys()
STRANGE = relaykit.Keys()
SPY = KEYS.make("spy", read=(READ,))
WHO = {b"1": SPY, b"2": SPY, b"3": KEYS.subscriber, b"4": STRANGE.subscriber}
"""The key of each connection."""
CERTIFICATES = [SPY, KEYS.subscriber, STRANGE.subscriber, KEYS.publisher]
JOURNALS = (MINE, *SECRET, "former", "nobody")

routes = st.sampled_from(sorted(WHO))
patterns = st.lists(
    st.sampled_from(
        [
            *("hg:**:**:", "hg:*/*:*:", "hg:team/a:*:", "hg:team/a:**:", "hg:team/a?:**:"),
            *(f"hg:{name}:**:" for name in SECRET),
            *(f"hg:{MINE}:{CLOSED}:", "hg:**:feature/**:", "nonsense"),
        ]
    )
    | draw.patterns.map(lambda pattern: pattern.text),
    max_size=4,
)
positions = st.dictionaries(
    st.sampled_from(JOURNALS),
    st.none() | st.integers(0, 9) | st.sampled_from([Since(0.0), Since(NOW), Since(2.0**50)]),
    max_size=4,
)
follows = st.tuples(patterns, positions, st.sampled_from([1, 900, 5_000_000]))
acks = st.tuples(
    st.dictionaries(st.sampled_from(JOURNALS), st.integers(0, 9), max_size=3), st.integers(0, 900)
)
hellos = st.builds(
    Hello,
    st.sampled_from([key.certificate for key in CERTIFICATES]),
    st.sampled_from([key.name for key in CERTIFICATES]),
    st.sampled_from(["s", "t"]),
    st.sampled_from(["i", "j"]),
)
late = st.sampled_from([0, 0, 0, 0, -1, 1])
"""How far the round of a message is from the right one."""
steps = st.one_of(
    st.tuples(st.just("open"), routes, follows),
    st.tuples(st.just("follow"), routes, follows, late),
    st.tuples(st.just("ack"), routes, acks, late),
    st.tuples(st.just("say"), routes, hellos | st.sampled_from([Beat(), Bye("")])),
    st.tuples(st.just("frames"), routes, draw.session_frames),
    st.tuples(st.just("turn")),
    st.tuples(st.just("wait"), st.integers(1, 20)),
    st.tuples(st.just("commit"), st.sampled_from([MINE, *SECRET]), st.sampled_from([OPEN, CLOSED])),
)
begun = st.tuples(st.just("open"), st.sampled_from([b"1", b"3"]), follows)
dialogues = st.builds(lambda first, rest: [first, *rest], begun, st.lists(steps, max_size=25))


class World:
    """The sessions of a relay that serves these folders; `posted`: what each connection got."""

    def __init__(self, folder: Path, globs: tuple[str, ...], name: str, excess: Excess) -> None:
        self.counters, throttle = Counters(), Throttle(logging.getLogger("zmqhooks.relay"))
        self.shelf = Shelf(self.counters, throttle)
        self.shelf.update([one for one in scan(globs) if one], 0.0)
        self.state = State(folder / f"{name}.db")
        self.posted: dict[bytes, list[list[bytes]]] = {route: [] for route in WHO}
        self.tick = 0.0
        self.sessions = Sessions(
            "relay",
            keyring=KEYS.keyring,
            shelf=self.shelf,
            state=self.state,
            post=self._post,
            refresh=lambda tick: self.sessions.changed(self.shelf.poll(tick)),
            counters=self.counters,
            throttle=throttle,
            excess=excess,
            clock=lambda: 0.0,
        )

    def _post(self, address: Address, frames: list[bytes]) -> Sent:
        self.posted[address.route].append(frames)
        return Sent.YES

    def receive(self, route: bytes, frames: list[bytes]) -> None:
        origin = Origin(WHO[route].curve_public)
        self.sessions.receive(Address(0, route), origin, frames, NOW, self.tick)

    def round(self, route: bytes) -> int:
        """Of the session on this connection."""
        peer = self.sessions._peers.get(Address(0, route))
        return peer.session.round if peer else 0

    def number(self, route: bytes) -> int:
        """Of what comes next on this connection."""
        peer = self.sessions._peers.get(Address(0, route))
        return 1 + (peer.session._said[Role.SUBSCRIBER] if peer else 0)

    def wait(self, seconds: int) -> None:
        self.tick += seconds
        self.sessions.changed(self.shelf.poll(self.tick))
        self.sessions.beat(NOW, self.tick)


class Dialogue:
    """The same words in two worlds: in one of them there is nothing but the spy's repository."""

    def __init__(self, folder: Path, excess: Excess) -> None:
        hg = folder / "hg"
        self.secrets = Secrets(hg, KEYS.publisher)
        self.whole = World(folder, (f"{hg}/**",), "whole", excess)
        self.bare = World(folder, (f"{hg}/{MINE}",), "bare", excess)
        self.worlds = (self.whole, self.bare)
        self.said: list[bytes] = []

    def act(self, what: str, *details) -> None:
        match what, *details:
            case "turn", *_:
                for world in self.worlds:
                    world.sessions.turn(world.tick)
            case "wait", seconds:
                for world in self.worlds:
                    world.wait(seconds)
            case "commit", name, branch:
                self.secrets.commit(name, branch)
            case "open", route, follow:
                key = WHO[route]
                self.say(route, Hello(key.certificate, key.name, "s", route.decode()))
                self.act("follow", route, follow, 0)
                self.act("turn")
            case "follow", route, (wanted, at, credit), off:
                number = self.whole.round(route) + 1 + off
                self.say(route, Follow(tuple(wanted), self._ids(at), credit, max(0, number)))
            case "ack", route, (at, credit), off:
                number = self.whole.round(route) + off
                self.say(route, Ack(self._ids(at), credit, max(0, number)))
            case "say", route, message:
                self.say(route, message)
            case "frames", route, frames:
                self.hear(route, frames)

    def _ids(self, positions: dict) -> dict:
        """By the id of each journal; an attacker may know them all."""
        known = {**self.secrets.journals, "former": self.secrets.former, "nobody": "e" * 32}
        return {known[name]: position for name, position in positions.items()}

    def say(self, route: bytes, message) -> None:
        numbered = replace(message, number=self.whole.number(route))
        self.hear(route, messages.encode(numbered))

    def hear(self, route: bytes, frames: list[bytes]) -> None:
        if WHO[route] is SPY:
            self.said += frames
        for world in self.worlds:
            world.receive(route, frames)

    def check(self) -> None:
        for route in (route for route, key in WHO.items() if key is SPY):
            for frames in self.whole.posted[route]:
                self.secrets.check(frames, self.said)
            assert self.whole.posted[route] == self.bare.posted[route]

    def close(self) -> None:
        for world in self.worlds:
            world.state.close()


def play(steps, excess: Excess = "narrow") -> Dialogue:
    """The dialogue to its end, with a last beat and a last turn; its files are gone then."""
    folder = Path(tempfile.mkdtemp(prefix="zh", dir="/tmp"))
    try:
        dialogue = Dialogue(folder, excess)
        for step in [*steps, ("wait", 5), ("turn",)]:
            dialogue.act(*step)
        dialogue.close()
        return dialogue
    finally:
        shutil.rmtree(folder)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(dialogues, st.sampled_from(["narrow", "narrow", "refuse"]))
def test_an_identity_gets_no_byte_of_a_topic_that_it_may_not_read(steps, excess) -> None:
    """What it is told is the same as if nothing secret were served, and it holds no secret byte.

    Of a repository of which it may read some branches only, it does learn from sequences, heads
    and `scanned` how many events the closed ones have, and when; that it may not read them does
    not hide that they are there. Not looked at either: how long an answer takes; whether the relay
    is full; what a publisher wrote into events that may be read, and the patterns in its
    certificate, which goes with them; and the publish and broadcast endpoints, whose ipc sockets
    are for members of a group.
    """
    play(steps, excess).check()


HONEST = [("open", route, (["hg:**:**:"], {}, 5_000_000)) for route in (b"1", b"3")]


def events_of(dialogue: Dialogue, route: bytes) -> list[Events]:
    heard = map(messages.decode, dialogue.whole.posted[route])
    return [message for message in heard if isinstance(message, Events)]


def test_each_gets_what_it_may_read_and_the_marks_are_there() -> None:
    """The property would be empty if nobody got anything."""
    dialogue = play(HONEST)

    (mine,) = events_of(dialogue, b"1")
    assert [record.sequence for record in mine.records] == [1, 3]
    assert len(events_of(dialogue, b"3")) == len((MINE, *SECRET))
    everything = b"".join(b"".join(frames) for frames in dialogue.whole.posted[b"3"])
    assert all(name.encode() in everything for name in (privatekit.MARK, CLOSED, *SECRET))
    assert privatekit.FORMER.encode() not in everything, "only under its present name"


@pytest.mark.parametrize(
    ("hole", "put"),
    [("passes", lambda _scope, _topic: True), ("may_read", lambda *_: True)],
    ids=["every event passes", "every repository is told"],
)
def test_a_hole_in_the_filter_is_seen(monkeypatch, hole: str, put) -> None:
    """The check bites where the relay does not."""
    if hole == "passes":
        monkeypatch.setattr(reading.Scope, hole, put)
    else:
        for module in ("sessions", "peers", "reading"):
            monkeypatch.setattr(f"hgext_zmqhooks.relay.{module}.{hole}", put)
    dialogue = play(HONEST)

    with pytest.raises(AssertionError):
        dialogue.check()
