"""Who is on the network: he sees, sends and holds back packets, and has no key of ours."""

import pytest
import zmq
from fault import liar
from fault.proxy import UP
from fault.thief import Thief
from relaykit import EVERYTHING, Place
from support.curve import CurvePeer
from trust import kit, scenes
from trust.cells import stops
from trust.kit import ELSEWHERE, SOON

from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.relay.settings import RelaySection
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.errors import ConfigError, ServiceError
from hgext_zmqhooks.service.zap import PUBLISH, Zap
from hgext_zmqhooks.wire.session import Beat, Events, SessionRefused
from subscriber.intake import client as intake


@stops(
    "forge",
    "hgext_zmqhooks/wire/keyring.py",
    'if not envelope.verified(*jws.split(token, "bad-certificate"), root):',
)
def test_an_event_under_a_certificate_that_he_made_himself(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    made = kit.certified_by_itself("publisher", place.keys.root, publish=(EVERYTHING,))
    forged = kit.foreign(place, "team/forged", made)
    with place.relay(publish=tcp) as relay:
        kit.reach(place, forged, endpoint=tcp, key=made)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "bad-certificate") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops("alter", "hgext_zmqhooks/wire/keyring.py", "if not signed:")
def test_a_genuine_event_with_other_words(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    (copy,) = repo.commit()
    altered = copy.event.replace(b'"name":"commit"', b'"name":"commot"')
    assert altered != copy.event
    with place.relay(publish=tcp) as relay:
        frames = [copy.topic, altered, copy.signature, copy.certificate]
        kit.reach(place, [frames], endpoint=tcp, key=place.keys.publisher)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "bad-signature") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops(
    "replay",
    "hgext_zmqhooks/relay/live.py",
    "if self.curve and authentic.certificate.curve != key:",
)
def test_a_live_copy_that_he_kept_sent_again_under_a_key_of_his_own(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    (copy,) = repo.commit()
    with place.relay(publish=tcp) as relay:
        kit.reach(place, [copy.frames()], endpoint=tcp, key=kit.unknown("mallory"))
        kit.looked_at(relay)
        assert relay.counters.get("refused", "wrong-key") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops(
    "read",
    "hgext_zmqhooks/relay/gate.py",
    "if domain == BROADCAST and not self._settings.is_open:",
)
def test_a_broadcast_over_tcp_for_a_key_that_is_no_readers(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    reader = kit.write(place.folder / "ci.cert", place.keys.subscriber.certificate, 0o644)
    with place.relay(broadcast=tcp, broadcast_readers=(reader,)) as relay:
        with (
            kit.listen(place, tcp, kit.unknown("mallory")) as strange,
            kit.listen(place, tcp, place.keys.subscriber) as honest,
        ):
            kit.hears(place, repo, honest)
            assert not strange.poll(0)
        assert relay.counters.get("refused", "not-a-reader") >= 1


@stops(
    "read",
    "hgext_zmqhooks/relay/settings.py",
    "if tcp and not self.broadcast_readers and not self.insecure:",
)
def test_a_broadcast_over_tcp_that_says_nothing_of_readers(place: Place) -> None:
    given = {"publish": place.endpoint("publish"), "repositories": ("/srv/hg/**",)}
    others = {"key": place.folder / "k", "trust": (place.folder / "t",), "state": place.folder}
    file = place.folder / "relay.yml"
    with pytest.raises(ConfigError, match="whoever connects over tcp would read every event"):
        RelaySection(**given, broadcast=place.tcp()).resolve(file, **others)
    readers = (place.folder / "ci.cert",)
    honest = RelaySection(**given, broadcast=place.tcp(), broadcast_readers=readers)
    assert honest.resolve(file, **others).broadcast_readers == readers


@stops("read", "hgext_zmqhooks/service/sockets.py", "if not socket.getsockopt(zmq.ZAP_DOMAIN):")
def test_a_tcp_endpoint_to_which_anyone_could_speak(place: Place) -> None:
    with (
        place.context.socket(zmq.XSUB) as plain,
        pytest.raises(ServiceError, match="without CURVE"),
    ):
        sockets.bind_tcp(plain, place.tcp())
    zap = Zap(place.context)
    zap.start()
    with place.context.socket(zmq.XSUB) as secure:
        sockets.curve_server(secure, place.keys.relay, PUBLISH)
        sockets.bind_tcp(secure, place.tcp())
    zap.close()


@stops(
    "withhold",
    "hgext_zmqhooks/relay/server.py",
    'if tick >= due["heads"] and self._watched():',
)
def test_live_copies_that_he_lets_nobody_have(place: Place) -> None:
    """Nothing to refuse or to count: the journal tells what no live copy told."""
    repo, tcp = place.repo(), place.tcp()
    repo.commit()
    with place.relay(publish=tcp, subscribe=(place.endpoint("subscribe"),)) as relay:
        client = place.client()
        client.follow()
        client.hear(Events)
        (kept_back,) = repo.commit()
        assert kept_back.event in kit.events_of(client.hear(Events, seconds=SOON))
        assert relay.counters.get("live") == 0


@stops("withhold", "hgext_zmqhooks/wire/session.py", "if message.number != expected:")
def test_a_request_that_he_takes_out_of_a_session(place: Place) -> None:
    """Without it both sides would say that they live, and no event would come."""
    repo, tcp = place.repo(), place.tcp()
    with place.relay(subscribe=(tcp,)) as relay, Thief(("127.0.0.1", tcp.port)) as thief:
        thief.withhold(UP, "FOLLOW")
        client = place.client(endpoint=f"tcp://127.0.0.1:{thief.port}")
        client.follow()
        client.say(Beat())
        assert client.hear(SessionRefused, seconds=SOON).kind == "lost-message"
        assert relay.counters.get("refused", "lost-message") == 1
        kit.reads(place.client(endpoint=f"tcp://127.0.0.1:{thief.port}"), repo)


@stops(
    "withhold",
    "subscriber/intake/client.py",
    "if tick - self._heard >= SILENCE_SECONDS:",
)
def test_a_line_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(intake, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(liar, "BEAT_SECONDS", 0.2)
    with scenes.begin() as scene:
        scene.liar.mute = True
        kit.soon(lambda: scene.counters.get("sessions-lost", "silence"), "it is given up")
        scene.liar.mute = False
        scene.goes_on()


@stops(
    "impersonate",
    "hgext_zmqhooks/relay/admission.py",
    "if not origin.private and certificate.curve != origin.key:",
)
def test_somebodys_certificate_under_a_key_of_his_own(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    with place.relay(subscribe=(tcp,)) as relay:
        thief = place.client(endpoint=tcp, curve=kit.unknown("ci"))
        assert kit.refusal(thief) == "wrong-key"
        assert relay.counters.get("refused", "wrong-key") == 1
        kit.reads(place.client(endpoint=tcp), repo)


@stops(
    "impersonate",
    "subscriber/intake/connect.py",
    "sockets.curve_client(socket, secret, keyring.certificate(token).curve)",
    "pass",
)
def test_a_server_that_poses_as_the_relay() -> None:
    with (
        scenes.begin(begun=False) as scene,
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as posing,
    ):
        port = posing.bind_to_random_port("tcp://127.0.0.1")
        scene.follow(f"tcp://127.0.0.1:{port}", scene.keys.relay.certificate)
        kit.soon(lambda: posing.poll(0) or scene.lost(), "it was tried")
        assert not posing.poll(200), "it was told who we are"
        assert scene.counters.get("sessions-lost", "unreachable") >= 1
        scene.start()


@stops("exhaust", "hgext_zmqhooks/relay/gate.py", "if not self._buckets.take(site(peer)):")
def test_handshake_after_handshake(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    with place.relay(subscribe=(tcp,), limits=Limits(handshakes=2)) as relay:
        crowd = [place.client(endpoint=kit.through(tcp, ELSEWHERE)) for _ in range(6)]
        assert len(crowd) == 6
        kit.reads(place.client(endpoint=tcp), repo)
        kit.soon(lambda: relay.counters.get("refused", "handshakes") >= 1, "the refusal")


@stops(
    "exhaust",
    "hgext_zmqhooks/service/sockets.py",
    "socket.setsockopt(zmq.MAXMSGSIZE, max_message)",
    "socket.setsockopt(zmq.MAXMSGSIZE, -1)",
)
def test_a_message_larger_than_any_may_be(place: Place) -> None:
    """libzmq hangs up by itself: what the sender sees is the end of his connection."""
    repo, tcp = place.repo(), place.tcp()
    with place.relay(subscribe=(tcp,), limits=Limits(message=65_536)) as relay:
        stranger = place.client(endpoint=tcp, curve=kit.unknown("mallory"))
        monitor = stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        stranger.send([b"x" * 131_073])
        assert monitor.poll(SOON * 1000), "the connection was not ended"
        assert relay.counters.get("refused", "too-much") == 0, "it came as far as the sessions"
        stranger.socket.disable_monitor()
        monitor.close(linger=0)
        kit.reads(place.client(endpoint=tcp), repo)


@stops(
    "exhaust",
    "hgext_zmqhooks/relay/intray.py",
    "if pile.size + size > (PEER_BYTES if pile.known else self._each):",
)
def test_more_from_a_stranger_than_a_greeting(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    with place.relay(subscribe=(tcp,)) as relay:
        stranger = place.client(endpoint=tcp, curve=kit.unknown("mallory"))
        stranger.send([b"x" * 60_000] * 4)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "too-much") == 1
        kit.reads(place.client(endpoint=tcp), repo)


@stops("exhaust", "hgext_zmqhooks/wire/envelope.py", "if len(frames[1]) > MAX_LENGTH:")
def test_an_event_that_would_take_long_to_hash(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    huge = [b"hg:app:default:", b"x" * ((1 << 20) + 1), b"s" * 64, b"c"]
    with place.relay(publish=tcp) as relay:
        kit.reach(place, [huge], endpoint=tcp, key=kit.unknown("mallory"))
        kit.looked_at(relay)
        assert relay.counters.get("refused", "bad-frames") == 1
        kit.publishes(place, repo, endpoint=tcp)


@stops(
    "exhaust",
    "hgext_zmqhooks/service/connections.py",
    "suspected = grown > self._limit",
    "suspected = False",
)
def test_a_message_whose_end_never_comes(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    limits = Limits(message=1 << 20, unfinished=1 << 20)
    with place.relay(subscribe=(tcp,), limits=limits) as relay:
        with CurvePeer(tcp, kit.unknown("mallory"), place.relay_key, "DEALER") as stranger:
            kit.endless(stranger, lambda: kit.refusals(relay), most=64 << 20)
            kit.soon(lambda: relay.counters.get("refused", "unfinished"), "the count")
        kit.reads(place.client(endpoint=tcp), repo)
