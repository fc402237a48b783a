"""Who has a publisher's key: he may sign for its topics, until it is revoked, and nothing else."""

from relaykit import EVERYTHING, Place, Repo
from signing import Journal
from trust import kit, scenes
from trust.cells import stops
from trust.scenes import APP, OTHER, THIRD

from hgext_zmqhooks.wire.question import NONCE_LENGTH, Question
from hgext_zmqhooks.wire.values import Continued, Link

OWN = "hg:team/app:**:"
PUBLISH = " not in certificate.roles or not matches_any(certificate.publish, topic):"
ANYTHING = " not in certificate.roles:"


@stops("forge", "hgext_zmqhooks/wire/keyring.py", PUBLISH, ANYTHING)
def test_a_live_copy_outside_its_topics(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    stolen = place.keys.make("stolen", publish=(OWN,))
    with place.relay(publish=tcp) as relay:
        kit.reach(place, kit.foreign(place, "team/other", stolen), endpoint=tcp, key=stolen)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "not-allowed") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops("forge", "hgext_zmqhooks/wire/keyring.py", PUBLISH, ANYTHING)
def test_a_journalled_event_outside_its_topics_is_not_broadcast(place: Place) -> None:
    repo = place.repo()
    stolen = place.keys.make("stolen", publish=(OWN,))
    other = Repo(place.hg, "team/other", stolen)
    repo.commit()
    other.commit()
    endpoint = place.endpoint("broadcast")
    with place.relay(broadcast=endpoint) as relay, kit.listen(place, endpoint) as reader:
        kit.hears(place, repo, reader)
        forged = other.commit()[-1].event
        kit.soon(lambda: reader.poll(0) or kit.refusals(relay), "it was looked at")
        assert relay.counters.get("refused", "not-allowed") == 1
        assert forged not in kit.hears(place, repo, reader)


@stops("forge", "hgext_zmqhooks/wire/keyring.py", PUBLISH, ANYTHING)
def test_an_event_outside_its_topics_that_a_relay_passes_on(scene: scenes.Scene) -> None:
    stolen = scene.keys.make("stolen", publish=(OWN,))
    forged = scenes.signed(scene.fork().record(), stolen)
    scene.lie(scene.batch(forged, signer=stolen))
    assert scene.refused("not-allowed") == 1
    assert not scene.has(forged)


@stops(
    "forge",
    "hgext_zmqhooks/wire/keyring.py",
    "            if not vouched:\n                raise",
    "            pass",
)
def test_a_live_copy_after_it_was_revoked(place: Place) -> None:
    repo, tcp = place.repo(), place.tcp()
    stolen = place.keys.make("stolen", publish=(EVERYTHING,))
    with place.relay(publish=tcp) as relay:
        place.keys.revoke(stolen.name)
        kit.reach(place, kit.foreign(place, "team/app", stolen), endpoint=tcp, key=stolen)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "revoked") == 1
        kit.publishes(place, repo, endpoint=tcp)
        assert relay.counters.get("live") == 1


@stops(
    "alter",
    "hgext_zmqhooks/wire/sequence.py",
    "    if known is not None:\n        if known == sha256:",
    "    if known is not None:\n        if known:",
)
def test_other_words_in_place_of_an_event_that_is_stored(scene: scenes.Scene) -> None:
    before = scene.fork()
    true = scene.app.record()
    scene.tell(scene.served, true)
    scene.takes(true)
    other = scenes.signed(before.record(), scene.publisher, b'"alice"', b'"carol"')
    scene.lie(scene.batch(other))
    assert scene.refused("fork") == 1
    assert not scene.has(other)


@stops(
    "alter", "hgext_zmqhooks/wire/sequence.py", "    if last == before:\n", "    if last or True:\n"
)
def test_another_history_of_a_branch(scene: scenes.Scene) -> None:
    forged = scene.fork().record(previous=Link(1, "0" * 64))
    scene.lie(scene.batch(forged))
    assert scene.refused("fork") == 1
    assert not scene.has(forged)


@stops(
    "replay",
    "subscriber/intake/admit.py",
    "if self._known.others and not event.continuing:",
)
def test_the_history_once_more_in_a_new_journal(scene: scenes.Scene) -> None:
    again = Journal(scene.publisher, "app", THIRD).record()
    third = scene.liar.serve("app", THIRD)
    scene.tell(third, again)
    scene.goes_on()
    assert scene.refused("unfit-journal") >= 1
    assert not scene.has(again)


@stops("replay", "subscriber/intake/admit.py", "elif stored != before.sha256:")
def test_a_new_journal_that_continues_what_never_was(scene: scenes.Scene) -> None:
    made = Journal(scene.publisher, "app", THIRD, continuing=True)
    forged = made.record(continues=Continued(APP, 1, "0" * 64))
    scene.tell(scene.liar.serve("app", THIRD), forged)
    scene.goes_on()
    assert scene.refused("fork") >= 1
    assert not scene.has(forged)


@stops(
    "read",
    "hgext_zmqhooks/relay/admission.py",
    'certificate = self._keyring.peer(hello.certificate, "subscriber", now)',
    "certificate = self._keyring.certificate(hello.certificate)",
)
def test_a_session_with_it(place: Place) -> None:
    repo = place.repo()
    with place.relay() as relay:
        assert kit.refusal(place.client(key=place.keys.publisher)) == "not-allowed"
        assert relay.counters.get("refused", "not-allowed") == 1
        kit.reads(place.client(), repo)


@stops(
    "read",
    "hgext_zmqhooks/relay/answers.py",
    "if certificate and info and not may_read(certificate.publish, info.repo):",
)
def test_who_subscribes_to_a_repository_that_is_not_its_own(place: Place) -> None:
    repo, tcp = place.repo("secret"), place.tcp()
    repo.commit()
    stolen = place.keys.make("stolen", publish=(OWN,))
    question = Question(b"n" * NONCE_LENGTH, repo.head().journal, stolen.certificate)
    with place.relay(publish=tcp) as relay:
        kit.reach(place, [question.frames()], endpoint=tcp, key=stolen)
        kit.looked_at(relay)
        assert relay.counters.get("refused", "not-allowed") == 1
        kit.publishes(place, repo, endpoint=tcp)


@stops(
    "withhold",
    "hgext_zmqhooks/wire/sequence.py",
    "    if last is None or before.sequence > last.sequence:\n",
    "    if False:\n",
)
def test_an_event_behind_one_that_nobody_got(scene: scenes.Scene) -> None:
    forged = scene.fork().record(previous=Link(2, "0" * 64))
    scene.lie(scene.batch(forged))
    assert scene.refused("gap") == 1
    assert not scene.has(forged)


@stops(
    "impersonate",
    "subscriber/intake/admit.py",
    "if self._repo is not None and event.repo != self._repo:",
)
def test_another_repository_in_a_journal(scene: scenes.Scene) -> None:
    forged = scene.fork().record(repo="other")
    scene.lie(scene.batch(forged))
    assert scene.refused("wrong-repo") == 1
    assert not scene.has(forged)


@stops(
    "impersonate",
    "subscriber/intake/admit.py",
    "if (event.journal, event.sequence) != (self._known.journal, record.sequence):",
)
def test_an_event_that_claims_a_place_in_another_journal(scene: scenes.Scene) -> None:
    forged = scene.fork().record(journal=OTHER)
    scene.lie(scene.batch(forged))
    assert scene.refused("wrong-place") == 1
    assert not scene.has(forged)


@stops(
    "exhaust",
    "hgext_zmqhooks/relay/catalog.py",
    "self.due = min(self.due, self._earliest)",
    "self.due = 0.0",
)
def test_copies_of_repositories_that_are_nowhere(place: Place, monkeypatch) -> None:
    """Each would have a relay look through all its folders; it does so once in a while only."""
    repo, tcp = place.repo(), place.tcp()
    repo.commit()
    scans = kit.counted(monkeypatch, "hgext_zmqhooks.relay.catalog.scan")
    copies = [
        frames
        for number in range(20)
        for frames in kit.foreign(place, f"nowhere/{number}", place.keys.publisher)
    ]
    with place.relay(publish=tcp, subscribe=(place.endpoint("subscribe"),)) as relay:
        client = place.client()
        client.follow()
        for copy in copies:
            kit.reach(place, [copy], endpoint=tcp, key=place.keys.publisher)
        kit.soon(lambda: relay.counters.get("live") == len(copies), "all were looked at")
        assert len(scans) <= 3, f"{len(scans)} scans"
        kit.publishes(place, repo, endpoint=tcp)
