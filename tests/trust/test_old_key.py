"""Who has a key that counts no more: expired, not yet valid, revoked, or under a former root."""

import time

import pytest
from relaykit import EVERYTHING, Place, Repo
from signing import Journal
from trust import kit, scenes
from trust.cells import stops
from trust.kit import SOON
from trust.scenes import APP

from hgext_zmqhooks.wire import certificates, keyfiles, revocations
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.revocations import Revoked
from hgext_zmqhooks.wire.session import SessionRefused
from subscriber.intake import client as intake

PAST = {"nbf": -7200.0, "lasts": -3600.0}
FUTURE = {"nbf": 3600.0, "lasts": 7200.0}


def held(scene: scenes.Scene, record: object) -> bool:
    """Whether an event is stored, and nothing may be done with it."""
    digest = scenes.digest(record)
    (found,) = [one.record for one in scene.store.events(0, 100) if one.record.sha256 == digest]
    return found.held


@stops(
    "forge",
    "subscriber/intake/admit.py",
    "held = authentic.standing is not Standing.VALID and (",
    "held = False and (",
)
def test_an_event_under_an_expired_certificate(
    scene: scenes.Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Stored and held; the log and `status` are the alarm."""
    old = scene.keys.make("old", publish=(EVERYTHING,), **PAST)
    late = scenes.signed(scene.fork().record("release"), old)
    scene.lie(scene.batch(late, signer=old))
    assert held(scene, late)
    assert "event held: the certificate that signed it has expired" in caplog.text


@stops(
    "forge",
    "hgext_zmqhooks/relay/broadcast.py",
    "if authentic.standing is not Standing.VALID:",
)
def test_a_broadcast_of_an_event_under_an_expired_certificate(place: Place) -> None:
    repo = place.repo()
    other = Repo(place.hg, "team/old", place.keys.make("old", publish=(EVERYTHING,), **PAST))
    repo.commit()
    other.commit()
    endpoint = place.endpoint("broadcast")
    with place.relay(broadcast=endpoint) as relay, kit.listen(place, endpoint) as reader:
        kit.hears(place, repo, reader)
        other.commit()
        kit.soon(lambda: reader.poll(0) or kit.refusals(relay), "it was looked at")
        assert relay.counters.get("refused", "expired") == 1
        kit.hears(place, repo, reader)


@stops("forge", "subscriber/intake/admit.py", "if authentic.standing is Standing.NOT_YET:")
def test_an_event_under_a_certificate_of_tomorrow(scene: scenes.Scene) -> None:
    early = scene.keys.make("early", publish=(EVERYTHING,), **FUTURE)
    forged = scenes.signed(scene.fork().record(), early)
    scene.lie(scene.batch(forged, signer=early))
    assert scene.refused("not-yet") == 1
    assert not scene.has(forged)


@stops(
    "alter",
    "hgext_zmqhooks/wire/keyring.py",
    "        standing = standing_at(certificate, now)\n        try:",
    "        standing = Standing.VALID\n        try:",
)
def test_the_time_of_an_event_dated_back(
    scene: scenes.Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is when the subscriber first saw it, not what it says. Held, as above."""
    old = scene.keys.make("old", publish=(EVERYTHING,), **PAST)
    good = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - 5400))
    late = scenes.signed(scene.fork().record("release", time=good), old)
    scene.lie(scene.batch(late, signer=old))
    assert held(scene, late)
    assert "event held" in caplog.text


@stops(
    "replay",
    "hgext_zmqhooks/wire/keyring.py",
    "_check_number(fresh, lists.get(fresh.kid), old.lists.get(fresh.kid))",
    "_check_number(fresh, lists.get(fresh.kid), None)",
)
def test_an_older_revocation_list_again(scene: scenes.Scene) -> None:
    """The keyring refuses it as `old-revocations`, and the newer one stays in force."""
    stolen = scene.keys.make("stolen", publish=(EVERYTHING,))
    root, keyring = scene.keys.root, scene.keys.keyring
    now = int(time.time())
    entry = Revoked(now, jti=certificates.decode(stolen.certificate or b"").jti)
    older, newer = (
        revocations.issue(root, number, [entry][: number - 1], now) for number in (1, 2)
    )
    for token in (older, newer):
        keyring.replace([root.public], [token])
    with pytest.raises(Refused, match="number 2 is in force"):
        keyring.replace([root.public], [older])
    forged = scenes.signed(scene.fork().record(), stolen)
    scene.lie(scene.batch(forged, signer=stolen))
    assert scene.refused("revoked") == 1


@stops(
    "withhold",
    "hgext_zmqhooks/wire/keyring.py",
    "for kid in found.keys() & old.lists.keys() - lists.keys():",
    "for kid in ():",
)
def test_the_revocation_list_taken_away(scene: scenes.Scene) -> None:
    """The keyring refuses that as `old-revocations`, and the list stays in force."""
    stolen = scene.keys.make("stolen", publish=(EVERYTHING,))
    scene.keys.revoke(stolen.name)
    with pytest.raises(Refused, match="of which one is in force"):
        scene.keys.keyring.replace([scene.keys.root.public], [])
    forged = scenes.signed(scene.fork().record(), stolen)
    scene.lie(scene.batch(forged, signer=stolen))
    assert scene.refused("revoked") == 1


@stops("read", "hgext_zmqhooks/wire/keyring.py", "if standing is not Standing.VALID:")
def test_a_session_with_an_expired_certificate(place: Place) -> None:
    repo = place.repo()
    old = place.keys.make("old", read=(EVERYTHING,), **PAST)
    with place.relay() as relay:
        assert kit.refusal(place.client(key=old)) == "expired"
        assert relay.counters.get("refused", "expired") == 1
        kit.reads(place.client(), repo)


@stops(
    "read",
    "hgext_zmqhooks/relay/sessions.py",
    "elif (refused := self._admission.ended(peer.hello, now)) is not None:",
    "elif False:",
)
def test_a_session_that_is_open_when_its_certificate_ends(place: Place) -> None:
    repo = place.repo()
    old = place.keys.make("old", read=(EVERYTHING,), lasts=2.0)
    with place.relay() as relay:
        late = place.client(key=old)
        late.follow()
        said = late.hear(SessionRefused, seconds=SOON)
        assert said.kind == "expired"
        assert relay.counters.get("refused", "expired") == 1
        kit.reads(place.client(), repo)
        assert not late.socket.poll(0), "it heard something after that"


@stops(
    "read",
    "hgext_zmqhooks/relay/readers.py",
    'self.keyring.peer(token, "subscriber", now)',
    "self.keyring.certificate(token)",
)
def test_a_broadcast_for_a_reader_whose_certificate_expired(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    old = place.keys.make("old", read=(EVERYTHING,), **PAST)
    paths = tuple(
        kit.write(place.folder / f"{key.name}.cert", key.certificate or b"", 0o644)
        for key in (old, place.keys.subscriber)
    )
    with (
        place.relay(broadcast=tcp, broadcast_readers=paths) as relay,
        kit.listen(place, tcp, old) as late,
        kit.listen(place, tcp, place.keys.subscriber) as honest,
    ):
        kit.hears(place, repo, honest)
        assert not late.poll(0)
        assert relay.counters.get("refused", "expired") >= 1


@stops(
    "impersonate",
    "hgext_zmqhooks/wire/keyring.py",
    "self._trust = _Trust(found, lists, known)",
    "self._trust = _Trust(found, lists, known, old.checked)",
)
def test_a_session_under_a_root_that_was_taken_away(place: Place) -> None:
    """Also where its certificate had been looked at before."""
    repo, former = place.repo(), keyfiles.generate("former")
    old = place.keys.make("old", read=(EVERYTHING,), root=former)
    keyring = place.keys.keyring
    keyring.replace([former.public, place.keys.root.public], [])
    with place.relay() as relay:
        kit.reads(place.client(key=old), repo)
        keyring.replace([place.keys.root.public], [])
        assert kit.refusal(place.client(key=old)) == "unknown-root"
        assert relay.counters.get("refused", "unknown-root") == 1
        kit.reads(place.client(), repo)


@stops("impersonate", "hgext_zmqhooks/wire/keyring.py", "if standing is not Standing.VALID:")
def test_a_relay_whose_certificate_expired() -> None:
    with scenes.begin(begun=False) as scene:
        old = scene.keys.make("relay", roles=("relay",), **PAST)
        with scenes.Lying(old) as posing:
            served = posing.serve("app", APP)
            told = Journal(scene.publisher, "app", APP).record()
            posing.tell(served, [told], scene.publisher)
            scene.follow(posing.address, old.certificate)
            kit.soon(lambda: scene.lost() or scene.has(told), "it was tried")
            assert scene.refused("expired") >= 1
            assert not scene.has(told)
        scene.start()


@stops(
    "exhaust",
    "hgext_zmqhooks/relay/gate.py",
    'return Answer.NEVER if refused.kind == "revoked" else Answer.LATER',
    "return Answer.LATER",
)
def test_a_revoked_reader_that_would_try_again_for_ever(place: Place) -> None:
    """libzmq takes the answer 400 for good; after 300 it would come again and again."""
    repo, tcp = place.repo(), place.tcp()
    stolen = place.keys.make("stolen", read=(EVERYTHING,))
    paths = tuple(
        kit.write(place.folder / f"{key.name}.cert", key.certificate or b"", 0o644)
        for key in (stolen, place.keys.subscriber)
    )
    with place.relay(broadcast=tcp, broadcast_readers=paths) as relay:
        place.keys.revoke(stolen.name)
        assert kit.handshake_answer(place, tcp, stolen) == 400
        assert relay.counters.get("refused", "revoked") >= 1  # more, if an answer was lost
        with kit.listen(place, tcp, place.keys.subscriber) as honest:
            kit.hears(place, repo, honest)


@stops(
    "impersonate",
    "subscriber/intake/client.py",
    "check_relay(self._token, self._tools.keyring, self._tools.clock())",
    "pass",
)
def test_a_relay_that_is_revoked_while_a_session_is_open(
    scene: scenes.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BEAT_SECONDS", 0.3)
    scene.follow_again()
    scene.goes_on()
    scene.keys.revoke("relay")
    kit.soon(lambda: scene.counters.get("sessions-lost", "revoked"), "the session is given up")
    fresh = scene.keys.make("relay-2", roles=("relay",))
    with scenes.Lying(fresh) as renewed:
        told = Journal(scene.publisher, "new", "4" * 32).record()
        renewed.tell(renewed.serve("new", "4" * 32), [told], scene.publisher)
        scene.follow(renewed.address, fresh.certificate)
        scene.takes(told)
        scene.halt()
