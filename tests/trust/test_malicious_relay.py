"""Who has a relay and its key: he may withhold and see what he serves; he cannot sign."""

from dataclasses import replace

import pytest
from relaykit import EVERYTHING
from signing import Journal
from trust import kit, scenes
from trust.cells import stops
from trust.scenes import THIRD

from subscriber.intake import journals


@stops(
    "forge",
    "hgext_zmqhooks/wire/keyring.py",
    'if "publisher" not in certificate.roles or not matches_any(certificate.publish, topic):',
)
def test_an_event_that_it_signed_itself(scene: scenes.Scene) -> None:
    forged = scenes.signed(scene.fork().record(), scene.keys.relay)
    scene.lie(scene.batch(forged, signer=scene.keys.relay))
    assert scene.refused("not-allowed") == 1
    assert not scene.has(forged)


@stops(
    "forge",
    "hgext_zmqhooks/wire/keyring.py",
    'if not envelope.verified(*jws.split(token, "bad-certificate"), root):',
)
def test_a_certificate_that_it_made_up(scene: scenes.Scene) -> None:
    made_up = kit.certified_by_itself("publisher", scene.keys.root, publish=(EVERYTHING,))
    forged = scenes.signed(scene.fork().record(), made_up)
    scene.lie(scene.batch(forged, signer=made_up))
    assert scene.refused("bad-certificate") == 1
    assert not scene.has(forged)


@stops("forge", "subscriber/intake/admit.py", "if event.sequence > self._known.vouched:")
def test_an_event_of_long_ago_under_a_key_that_was_revoked(scene: scenes.Scene) -> None:
    """It has the revoked key too, and dates the event back to when the key was good."""
    stolen = scene.keys.make("stolen", publish=(EVERYTHING,))
    scene.keys.revoke(stolen.name)
    forged = scenes.signed(scene.fork().record(time="2020-01-01T00:00:00.000000Z"), stolen)
    scene.lie(scene.batch(forged, signer=stolen))
    assert scene.refused("revoked") == 1
    assert not scene.has(forged)


@stops(
    "alter",
    "subscriber/intake/signatures.py",
    "return envelope.verified(envelope.pae(event), signature, key)",
    "return True",
)
def test_a_bit_of_an_event(scene: scenes.Scene) -> None:
    true = scene.fork().record()
    altered = replace(true, event=true.event.replace(b'"alice"', b'"carol"'))
    scene.lie(scene.batch(altered))
    assert scene.refused("bad-signature") == 1
    assert not scene.has(altered)


@stops(
    "replay",
    "subscriber/intake/admit.py",
    "if (event.journal, event.sequence) != (self._known.journal, record.sequence):",
)
def test_an_event_of_another_repository(scene: scenes.Scene) -> None:
    stranger = Journal(scene.publisher, "third", THIRD, sequence=2).record()
    scene.lie(scene.batch(stranger))
    assert scene.refused("wrong-place") == 1
    assert not scene.has(stranger)


@stops(
    "replay",
    "subscriber/intake/admit.py",
    "if verdict.outcome is sequence.Outcome.DUPLICATE:",
)
def test_an_event_again_however_old(scene: scenes.Scene) -> None:
    """Not refused: dropped, and counted as a duplicate."""
    first = scene.app_records[0]
    scene.lie(scene.batch(first), scene.batch(first))
    assert scene.counters.get("duplicates") == 2
    assert scene.stored().count(scenes.digest(first)) == 1


@stops(
    "read",
    "subscriber/intake/admit.py",
    "if not matches_any(self._patterns, authentic.topic):",
)
def test_an_event_that_nobody_asked_for() -> None:
    with scenes.begin(patterns=("hg:app:default:", "hg:app:stable:", "hg:other:**:")) as scene:
        unasked = scene.fork().record("secret")
        scene.lie(scene.batch(unasked))
        assert scene.refused("not-asked") == 1
        assert not scene.has(unasked)


@stops(
    "withhold",
    "subscriber/intake/admit.py",
    "if not self._whole or up_to < first or passed:",
    "if True:",
)
def test_an_event_left_out_for_who_reads_all(scene: scenes.Scene) -> None:
    mine = scene.fork()
    mine.record("stable")
    seen = mine.record()
    scene.lie(scene.batch(seen))
    assert scene.refused("gap") == 1
    assert not scene.has(seen)


@stops(
    "withhold",
    "hgext_zmqhooks/wire/sequence.py",
    "    if last is None or before.sequence > last.sequence:\n",
    "    if False:\n",
)
def test_an_event_left_out_for_who_reads_one_branch() -> None:
    with scenes.begin(patterns=("hg:app:default:", "hg:app:stable:", "hg:other:**:")) as scene:
        mine = scene.fork()
        mine.record()
        seen = mine.record()
        scene.lie(scene.batch(seen))
        assert scene.refused("gap") == 1
        assert not scene.has(seen)


@stops("withhold", "hgext_zmqhooks/wire/messages.py", "if record.sequence <= before:")
def test_events_in_another_order(scene: scenes.Scene) -> None:
    """No relay may say that: the session ends, the next one begins."""
    mine = scene.fork()
    first, second = mine.record(), mine.record()
    scene.lie(scene.batch(second, first, scanned=4))
    assert scene.refused("bad-message") == 1
    assert scene.counters.get("sessions-lost", "bad-message") == 1


@stops(
    "impersonate",
    "subscriber/intake/inbox.py",
    "if not self._journals.introduced(batch.journal):",
)
def test_a_journal_of_which_it_did_not_tell(scene: scenes.Scene) -> None:
    made = Journal(scene.publisher, "app", THIRD).record()
    scene.lie(scene.batch(made, journal=THIRD))
    assert scene.refused("unknown-journal") == 1
    assert not scene.has(made)


@stops(
    "impersonate",
    "subscriber/intake/admit.py",
    "if self._repo is not None and event.repo != self._repo:",
)
def test_the_journal_of_another_repository_under_a_name(scene: scenes.Scene) -> None:
    third = scene.liar.serve("app", THIRD)
    made = Journal(scene.publisher, "third", THIRD).record()
    scene.tell(third, made)
    scene.goes_on()
    assert scene.refused("wrong-repo") >= 1
    assert not scene.has(made)


@stops(
    "exhaust",
    "subscriber/intake/journals.py",
    "if len(self._all.keys() | {info.journal for info in infos}) > MAX_JOURNALS:",
)
def test_journals_without_end(scene: scenes.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MAX_JOURNALS", 4)
    flood = [f"{number:032x}" for number in range(5)]
    for journal in flood:
        made = Journal(scene.publisher, f"flood/{journal}", journal).record()
        scene.tell(scene.liar.serve(f"flood/{journal}", journal), made)
    kit.soon(lambda: scene.refused("too-many") or len(scene.stored()) >= 8, "they were told")
    assert scene.refused("too-many") >= 1
    assert len(scene.store.journals()) <= 4
    scene.liar.forget(*flood)
    scene.goes_on()
