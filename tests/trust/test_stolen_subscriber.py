"""Who has a subscriber's key: he may read what it may read, and nothing more."""

import pytest
from relaykit import EVERYTHING, Client, Place, draft
from trust import kit, scenes
from trust.cells import stops
from trust.kit import ELSEWHERE, SOON
from trust.scenes import APP

from hgext_zmqhooks.relay import server, sessions, state
from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.service.addresses import Network
from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.question import NONCE_LENGTH, Question
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Events,
    Follow,
    SessionRefused,
    Welcome,
)

MAY = "hg:team/**:default:"


@pytest.fixture
def stolen(place: Place) -> SecretKey:
    """The key of `ci`, which may read the branch default below team."""
    place.keys.subscriber = place.keys.make("ci", read=(MAY,))
    return place.keys.subscriber


def told(client: Client) -> set[str]:
    """Repositories that a WELCOME names."""
    welcome = client.hello()
    assert isinstance(welcome, Welcome), welcome
    return {one.repo for one in welcome.journals}


@stops(
    "forge",
    "hgext_zmqhooks/wire/keyring.py",
    'if "publisher" not in certificate.roles or not matches_any(certificate.publish, topic):',
)
def test_an_event_signed_with_it(place: Place, stolen: SecretKey) -> None:
    repo, tcp = place.repo(), place.tcp()
    with place.relay(publish=tcp) as relay:
        kit.reach(place, kit.foreign(place, "team/app", stolen), endpoint=tcp, key=stolen)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "not-allowed") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops(
    "alter",
    "hgext_zmqhooks/relay/sessions.py",
    "if info is not None and peer.may_read(info.repo):",
    "if info is not None:",
)
def test_an_acknowledgement_for_a_journal_that_it_may_not_read(
    place: Place, stolen: SecretKey
) -> None:
    """Nothing to count: it is passed over, and `zmq-relay status` does not show it."""
    secret, repo = place.repo("secret"), place.repo()
    secret.commit()
    with place.relay():
        client = place.client()
        client.follow(MAY)
        client.say(Ack({secret.head().journal: 1}, 0))
        made = repo.commit()[-1].event
        assert made in kit.events_of(client.hear(Events, seconds=SOON))
        client.say(Ack({repo.head().journal: 1}, 0))
    rows = {row.repo for row in state.read(place.folder / "relay.db")}
    assert rows == {"team/app"}


@stops("replay", "hgext_zmqhooks/wire/session.py", "if number != self.round + 1:")
def test_a_request_of_an_earlier_round_again(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay() as relay:
        client = place.client()
        assert isinstance(client.hello(), Welcome)
        client.say(Follow((MAY,), {}))
        client.send(messages.encode(Follow((MAY,), {}, round=1, number=3)))
        said = client.hear(SessionRefused, Beat, Events)
        assert isinstance(said, SessionRefused)
        assert relay.counters.get("refused", "out-of-turn") == 1
        kit.reads(place.client(), repo, MAY)


@stops(
    "read",
    "hgext_zmqhooks/relay/reading.py",
    "return matches_any(self.wanted, topic) and matches_any(self.allowed, topic)",
    "return matches_any(self.wanted, topic)",
)
def test_branches_beyond_its_patterns(place: Place, stolen: SecretKey) -> None:
    """Nothing to count: `excess: narrow` gives the part that it may read."""
    repo = place.repo()
    repo.commit(draft("secret"), draft("default"))
    with place.relay():
        thief = place.client()
        thief.follow(EVERYTHING)
        made = repo.commit(draft("secret"), draft("default"))[-1].event
        heard: list[bytes] = []
        while made not in heard:
            heard += kit.events_of(thief.hear(Events, seconds=SOON))
        assert [kit.data_of(event)["branch"] for event in heard] == ["default", "default"]


@stops(
    "read",
    "hgext_zmqhooks/relay/reading.py",
    "if info.journal in self._never or not may_read(self._scope.allowed, info.repo):",
    "if info.journal in self._never:",
)
def test_how_far_a_repository_is_that_it_may_not_read(place: Place, stolen: SecretKey) -> None:
    """Nothing to count. Its events would be left out anyway; that there are any is not said."""
    secret, repo = place.repo("secret"), place.repo()
    secret.commit(*(draft() for _ in range(3)))
    repo.commit()
    with place.relay():
        thief = place.client()
        thief.follow(EVERYTHING)
        made = repo.commit()[-1].event
        heard: list[Events] = []
        while not heard or made not in kit.events_of(heard[-1]):
            heard.append(thief.hear(Events, seconds=SOON))
        assert {one.journal for one in heard} == {repo.head().journal}


@stops("read", "hgext_zmqhooks/relay/admission.py", 'if self._excess == "refuse":')
def test_more_than_its_patterns_where_that_is_to_be_refused(
    place: Place, stolen: SecretKey
) -> None:
    repo = place.repo()
    with place.relay(excess="refuse") as relay:
        thief = place.client()
        thief.follow(EVERYTHING)
        repo.commit()
        said = thief.hear(SessionRefused, Events, seconds=SOON)
        assert said == SessionRefused("not-allowed", f"'ci' may not read all of '{EVERYTHING}'")
        assert relay.counters.get("refused", "not-allowed") == 1
        kit.reads(place.client(), repo, MAY)


@stops(
    "read",
    "hgext_zmqhooks/relay/sessions.py",
    "lambda repo: may_read(certificate.read, repo)",
    "lambda _: True",
)
def test_names_of_repositories_in_the_welcome(place: Place, stolen: SecretKey) -> None:
    """Nothing to count: the others are not named."""
    place.repo("secret").commit()
    repo = place.repo()
    repo.commit()
    with place.relay():
        assert told(place.client()) == {"team/app"}
        kit.reads(place.client(), repo, MAY)


@stops(
    "read",
    "hgext_zmqhooks/relay/sessions.py",
    "for info in self._shelf.journals(peer.may_read):",
    "for info in self._shelf.journals(lambda _: True):",
)
def test_heads_of_repositories_in_the_beat(
    place: Place, stolen: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to count: the others are not named."""
    for module in (server, sessions):
        monkeypatch.setattr(module, "BEAT_SECONDS", 0.3)
    secret, repo = place.repo("secret"), place.repo()
    secret.commit()
    repo.commit()
    with place.relay():
        thief = place.client()
        told(thief)
        secret.commit()
        repo.commit()
        heads: set[str] = set()
        while "team/app" not in heads:
            heads |= {one.repo for one in thief.hear(Beat, seconds=SOON).heads}
        assert heads == {"team/app"}


@stops("read", "hgext_zmqhooks/relay/live.py", "if certificate.curve != key:")
def test_who_else_subscribes_asked_in_the_name_of_a_publisher(
    place: Place, stolen: SecretKey
) -> None:
    """He has the publisher's certificate, which is no secret, and not its key."""
    repo, tcp = place.repo(), place.tcp()
    repo.commit()
    question = Question(b"n" * NONCE_LENGTH, repo.head().journal, repo.key.certificate)
    with place.relay(publish=tcp) as relay:
        kit.reach(place, [question.frames()], endpoint=tcp, key=stolen)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "wrong-key") == 1
        kit.publishes(place, repo, endpoint=tcp)


@stops(
    "read",
    "hgext_zmqhooks/relay/gate.py",
    "if allow and not any(network.holds(peer) for network in allow):",
)
def test_used_from_an_address_that_is_not_allowed(place: Place, stolen: SecretKey) -> None:
    repo, tcp = place.repo(), place.tcp()
    here = (Network.parse("127.0.0.1/32"),)
    with place.relay(subscribe=(tcp,), allow=here) as relay:
        thief = place.client(endpoint=kit.through(tcp, ELSEWHERE))
        thief.send(thief.session.send(kit.greeting(thief)))
        kit.soon(lambda: thief.socket.poll(0) or kit.refusals(relay), "it was tried")
        assert relay.counters.get("refused", "address") >= 1
        assert not thief.socket.poll(0)
        kit.reads(place.client(endpoint=tcp), repo, MAY)


@stops(
    "read",
    "hgext_zmqhooks/wire/keyring.py",
    "        _check_revoked(certificate, trust)\n        return certificate",
    "        return certificate",
)
def test_a_session_after_it_was_revoked(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    fresh = place.keys.make("ci-2", read=(MAY,))
    with place.relay() as relay:
        place.keys.revoke(stolen.name)
        assert kit.refusal(place.client(key=stolen)) == "revoked"
        assert relay.counters.get("refused", "revoked") == 1
        kit.reads(place.client(key=fresh), repo, MAY)


@stops(
    "read",
    "hgext_zmqhooks/relay/admission.py",
    '            self._keyring.peer(hello.certificate, "subscriber", now)\n        except',
    "            pass\n        except",
)
def test_a_session_that_is_open_when_it_is_revoked(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay() as relay:
        thief = place.client()
        kit.reads(thief, repo, MAY)
        place.keys.revoke(stolen.name)
        said = thief.hear(SessionRefused, seconds=SOON)
        assert said.kind == "revoked"
        assert relay.counters.get("refused", "revoked") == 1
        kit.reads(place.client(key=place.keys.make("ci-2", read=(MAY,))), repo, MAY)
        assert not thief.socket.poll(0), "it heard something after that"


@stops(
    "read",
    "hgext_zmqhooks/relay/server.py",
    "if self._broadcast is not None and self.gate.readers_ended():",
)
def test_a_broadcast_that_it_hears_when_it_is_revoked(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    stolen = place.keys.make("stolen", read=(EVERYTHING,))
    paths = tuple(
        kit.write(place.folder / f"{key.name}.cert", key.certificate or b"", 0o644)
        for key in (stolen, place.keys.subscriber)
    )
    with (
        place.relay(broadcast=tcp, broadcast_readers=paths) as relay,
        kit.listen(place, tcp, stolen) as thief,
        kit.listen(place, tcp, place.keys.subscriber) as honest,
    ):
        kit.hears(place, repo, thief)
        place.keys.revoke(stolen.name)
        kit.soon(lambda: relay.counters.get("refused", "revoked"), "it is cut off")
        kit.hears(place, repo, honest)
        while thief.poll(0):
            thief.recv_multipart()
        kit.hears(place, repo, honest)
        assert not thief.poll(0)


@stops("withhold", "hgext_zmqhooks/relay/admission.py", "if known not in {None, hello.store}:")
def test_another_store_under_the_name(place: Place, stolen: SecretKey) -> None:
    """Two stores of one name would each get half; who came first keeps it."""
    repo = place.repo()
    with place.relay() as relay:
        kit.reads(place.client(), repo, MAY)
        assert kit.refusal(place.client(), store="his-own") == "other-store"
        assert relay.counters.get("refused", "other-store") == 1
        kit.reads(place.client(), repo, MAY)


@stops("withhold", "hgext_zmqhooks/relay/sessions.py", "if after > info.sequence:")
def test_a_position_that_was_never_reached(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    repo.commit()
    journal = repo.head().journal
    with place.relay() as relay:
        thief = place.client()
        thief.follow(MAY, positions={journal: 1_000})
        kit.reads(place.client(), repo, MAY)
        assert relay.counters.get("beyond-head") == 1


@stops("impersonate", "hgext_zmqhooks/relay/admission.py", "if hello.name != certificate.sub:")
def test_the_name_of_another_subscriber(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay() as relay:
        assert kit.refusal(place.client(), name="deploy") == "wrong-name"
        assert relay.counters.get("refused", "wrong-name") == 1
        kit.reads(place.client(), repo, MAY)


@stops("impersonate", "hgext_zmqhooks/wire/keyring.py", "if role not in certificate.roles:")
def test_a_server_with_it_that_poses_as_a_relay(scene: scenes.Scene) -> None:
    stolen = scene.keys.make("ci", read=(EVERYTHING,))
    with scenes.Lying(stolen) as posing:
        served = posing.serve("app", APP)
        forged = scene.fork().record()
        posing.tell(served, [forged], scene.publisher)
        scene.follow(posing.address, stolen.certificate)
        kit.soon(lambda: scene.lost() or scene.has(forged), "it was tried")
        assert scene.refused("not-allowed") >= 1
        assert not scene.has(forged)
    scene.follow_again()
    scene.goes_on()


@stops("exhaust", "hgext_zmqhooks/wire/session.py", "if self.credit + credit > self.granted:")
def test_credit_given_back_that_was_never_taken(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay() as relay:
        thief = place.client()
        thief.follow(MAY)
        thief.send(messages.encode(Ack({}, 1 << 40, thief.session.round, number=3)))
        repo.commit()
        assert isinstance(thief.hear(SessionRefused, Events, seconds=SOON), SessionRefused)
        assert relay.counters.get("refused", "no-credit") == 1
        kit.reads(place.client(), repo, MAY)


@stops("exhaust", "hgext_zmqhooks/relay/admission.py", "if count >= most:")
def test_session_upon_session(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay(limits=Limits(sessions=2)) as relay:
        for number in range(2):
            assert isinstance(place.client().hello(instance=f"mine-{number}"), Welcome)
        assert kit.refusal(place.client()) == "sessions"
        assert relay.counters.get("refused", "sessions") == 1
        other = place.keys.make("other", read=(MAY,))
        kit.reads(place.client(key=other), repo, MAY)


@stops("exhaust", "hgext_zmqhooks/relay/admission.py", "if count > most:")
def test_patterns_without_end(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay(limits=Limits(patterns=10)) as relay:
        thief = place.client()
        thief.follow(*[MAY] * 11)
        repo.commit()
        said = thief.hear(SessionRefused, Events, seconds=SOON)
        assert isinstance(said, SessionRefused)
        assert said.kind == "patterns"
        assert relay.counters.get("refused", "patterns") == 1
        kit.reads(place.client(), repo, MAY)


@stops("exhaust", "hgext_zmqhooks/relay/limits.py", "if len(sizes) > self.frames:")
def test_a_message_of_very_many_frames(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay() as relay:
        thief = place.client()
        assert isinstance(thief.hello(), Welcome)
        thief.send([b"x"] * 1_000)
        said = thief.hear(SessionRefused, seconds=SOON)
        assert said.kind == "frames"
        assert relay.counters.get("refused", "frames") == 1
        kit.reads(place.client(), repo, MAY)


@stops("exhaust", "hgext_zmqhooks/relay/limits.py", "if max(sizes, default=0) > self.message:")
def test_a_frame_longer_than_it_may_be(place: Place, stolen: SecretKey) -> None:
    repo = place.repo()
    with place.relay(limits=Limits(message=65_536)) as relay:
        thief = place.client()
        assert isinstance(thief.hello(), Welcome)
        thief.send([messages.VERSION, b"BEAT", b"{}", b"x" * 65_537])
        said = thief.hear(SessionRefused, seconds=SOON)
        assert said.kind == "message"
        assert relay.counters.get("refused", "message") == 1
        kit.reads(place.client(), repo, MAY)
