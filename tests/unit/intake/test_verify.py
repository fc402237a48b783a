"""Signatures on worker threads: each record gets its own answer, wherever it was looked at."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from signing import KEYRING, NOW, Journal, batch, certified
from signing import ROOT as TRUSTED

from hgext_zmqhooks.wire import envelope, keyfiles
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.messages import MAX_RECORDS, Record
from hgext_zmqhooks.wire.sequence import JournalState
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake.admit import Known, admit
from subscriber.intake.verify import CHUNK, Verifier

SIGNER = certified("publisher")
STRANGER = certified("stranger", root=keyfiles.generate("other root"))
ALL = (Pattern.parse("hg:**:**:"),)


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    made = Verifier()
    yield made
    made.close()


def made(count: int) -> list[Record]:
    journal = Journal(SIGNER)
    return [journal.record() for _ in range(count)]


def tampered(records: Sequence[Record], *bad: int) -> list[Record]:
    return [
        replace(record, event=record.event.replace(b"alice", b"carol"))
        if record.sequence in bad
        else record
        for record in records
    ]


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, MAX_RECORDS])
def test_every_record_is_verified_and_answered_in_its_order(verifier: Verifier, count: int) -> None:
    bad = {1, CHUNK, count} if count else set()
    records = tampered(made(count), *bad)

    signed = verifier.check(batch(records, SIGNER), KEYRING)

    assert list(signed.items()) == [(n, n not in bad) for n in range(1, count + 1)]


@pytest.mark.parametrize("bad", [1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_bad_signature_stops_its_journal_as_if_there_were_no_workers(
    verifier: Verifier, bad: int
) -> None:
    # Given a batch with one bad signature, and another further on
    records = tampered(made(4 * CHUNK), bad, bad + 5)
    whole = batch(records, SIGNER)
    known = Known("1" * 32, "app", JournalState(0, {}))

    # When it is judged with and without what the workers say
    signed = verifier.check(whole, KEYRING)
    with_workers = admit(whole, known, ALL, KEYRING, NOW, whole=True, signed=signed)
    without = admit(whole, known, ALL, KEYRING, NOW, whole=True)

    # Then both stop right before it, in the same words
    assert with_workers == without
    assert with_workers.stop is not None
    assert (with_workers.stop.kind, with_workers.stop.sequence) == ("bad-signature", bad)
    assert [record.sequence for record in with_workers.records] == list(range(1, bad))


def test_an_answer_is_for_the_key_in_the_record_s_own_certificate(verifier: Verifier) -> None:
    # Given records of two signers, one of them under the other's certificate
    other = certified("other")
    journal = Journal(SIGNER)
    records = [journal.record(signer=(SIGNER, other)[n % 2]) for n in range(2 * CHUNK)]
    records[4] = replace(records[4], certificate=records[5].certificate)

    signed = verifier.check(batch(records, SIGNER, other), KEYRING)

    assert [sequence for sequence, good in signed.items() if not good] == [5]


def test_a_certificate_that_is_missing_or_not_trusted_is_left_to_the_judge(
    verifier: Verifier,
) -> None:
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record(signer=STRANGER), journal.record()]
    records[0] = replace(records[0], certificate="0" * 64)
    whole = batch(records, SIGNER, STRANGER)

    assert verifier.check(whole, KEYRING) == {3: True}
    # who says why it is not taken
    known = Known("1" * 32, "app", JournalState(1, {}, origin=1), admitted=frozenset())
    later = replace(whole, records=tuple(records[1:]))
    signed = verifier.check(later, Keyring([TRUSTED.public]))
    stop = admit(later, known, ALL, KEYRING, NOW, signed=signed).stop
    assert stop is not None
    assert (stop.kind, stop.sequence) == ("unknown-root", 2)


def test_what_a_worker_raises_is_raised_where_the_batch_is_taken(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        raise ZeroDivisionError

    whole = batch(made(2 * CHUNK), SIGNER)
    KEYRING.certificate(SIGNER.certificate or b"")
    monkeypatch.setattr(envelope, "verified", broken)

    with pytest.raises(ZeroDivisionError):
        verifier.check(whole, KEYRING)


def test_a_verifier_that_is_closed_has_no_threads_left() -> None:
    verifier = Verifier()
    verifier.check(batch(made(4 * CHUNK), SIGNER), KEYRING)
    assert any(each.name.startswith("verify") for each in threading.enumerate())

    verifier.close()

    assert not any(each.name.startswith("verify") for each in threading.enumerate())
