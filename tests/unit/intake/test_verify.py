"""Signatures in another process: each record gets its answer, whatever becomes of the process."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from signing import KEYRING, NOW, Journal, batch, certified
from signing import ROOT as TRUSTED

from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.messages import MAX_RECORDS, Record
from hgext_zmqhooks.wire.sequence import JournalState
from hgext_zmqhooks.wire.session import Events
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.intake import signatures, verify
from subscriber.intake.admit import Known, admit
from subscriber.intake.verify import FEW, PAUSE, Verifier

SIGNER = certified("publisher")
STRANGER = certified("stranger", root=keyfiles.generate("other root"))
ALL = (Pattern.parse("hg:**:**:"),)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Iterator[Verifier]:
    made = Verifier(clock)
    yield made
    made.close()


def check(verifier: Verifier, batch: Events, keyring: Keyring = KEYRING) -> dict[int, bool]:
    return dict(verifier.answers(verifier.begin(batch, keyring)))


def running(verifier: Verifier) -> int | None:
    """The pid of the process, None where there is none."""
    return verifier._worker.pid if verifier._worker else None


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


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, MAX_RECORDS])
def test_every_record_is_verified_and_answered_in_its_order(verifier: Verifier, count: int) -> None:
    bad = {1, FEW, count} if count else set()
    records = tampered(made(count), *bad)

    signed = check(verifier, batch(records, SIGNER))

    assert list(signed.items()) == [(n, n not in bad) for n in range(1, count + 1)]


@pytest.mark.parametrize("bad", [1, FEW, FEW + 1, 3 * FEW])
def test_a_bad_signature_stops_its_journal_as_if_there_were_no_process(
    verifier: Verifier, bad: int
) -> None:
    # Given a batch with one bad signature, and another further on
    records = tampered(made(4 * FEW), bad, bad + 5)
    whole = batch(records, SIGNER)
    known = Known("1" * 32, "app", JournalState(0, {}))

    # When it is judged with and without what the process says
    signed = check(verifier, whole)
    beside = admit(whole, known, ALL, KEYRING, NOW, whole=True, signed=signed)
    without = admit(whole, known, ALL, KEYRING, NOW, whole=True)

    # Then both stop right before it, in the same words
    assert beside == without
    assert beside.stop is not None
    assert (beside.stop.kind, beside.stop.sequence) == ("bad-signature", bad)
    assert [record.sequence for record in beside.records] == list(range(1, bad))


def test_an_answer_is_for_the_key_in_the_record_s_own_certificate(verifier: Verifier) -> None:
    # Given records of two signers, one of them under the other's certificate
    other = certified("other")
    journal = Journal(SIGNER)
    records = [journal.record(signer=(SIGNER, other)[n % 2]) for n in range(2 * FEW)]
    records[4] = replace(records[4], certificate=records[5].certificate)

    signed = check(verifier, batch(records, SIGNER, other))

    assert [sequence for sequence, good in signed.items() if not good] == [5]


def test_a_certificate_that_is_missing_or_not_trusted_is_left_to_the_judge(
    verifier: Verifier,
) -> None:
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record(signer=STRANGER), journal.record()]
    records[0] = replace(records[0], certificate="0" * 64)
    whole = batch(records, SIGNER, STRANGER)

    assert check(verifier, whole) == {3: True}
    # who says why it is not taken
    known = Known("1" * 32, "app", JournalState(1, {}, origin=1), admitted=frozenset())
    later = replace(whole, records=tuple(records[1:]))
    signed = check(verifier, later, Keyring([TRUSTED.public]))
    stop = admit(later, known, ALL, KEYRING, NOW, signed=signed).stop
    assert stop is not None
    assert (stop.kind, stop.sequence) == ("unknown-root", 2)


GOOD = {n: n != 3 for n in range(1, 2 * FEW + 1)}
"""What is true of `doubtful`."""


def doubtful() -> Events:
    return batch(tampered(made(2 * FEW), 3), SIGNER)


def test_few_records_need_no_process(verifier: Verifier) -> None:
    check(verifier, batch(made(FEW), SIGNER))
    assert running(verifier) is None

    check(verifier, batch(made(FEW + 1), SIGNER))
    assert running(verifier) is not None


def test_answers_may_be_taken_in_any_order_or_never(verifier: Verifier) -> None:
    one, forgotten, two, three = [verifier.begin(doubtful(), KEYRING) for _ in range(4)]

    assert verifier.answers(two) == GOOD
    assert verifier.answers(one) == GOOD
    del forgotten
    assert verifier.answers(three) == GOOD


def test_several_threads_get_their_own_answers(verifier: Verifier) -> None:
    found: dict[int, bool] = {}

    def ask(bad: int) -> None:
        whole = batch(tampered(made(2 * FEW), bad), SIGNER)
        answers = [check(verifier, whole) for _ in range(5)]
        found[bad] = all(one == {n: n != bad for n in range(1, 2 * FEW + 1)} for one in answers)

    threads = [threading.Thread(target=ask, args=(bad,)) for bad in range(1, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)

    assert found == dict.fromkeys(range(1, 5), True)


def test_what_a_killed_process_did_not_answer_is_verified_here(
    verifier: Verifier, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a process that is killed while it has work
    check(verifier, doubtful())
    first = running(verifier)
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    pending = [verifier.begin(doubtful(), KEYRING) for _ in range(2)]
    os.kill(first, signal.SIGKILL)

    # Then nothing is taken unverified, and an operator reads of it
    assert [verifier.answers(one) for one in pending] == [GOOD, GOOD]
    assert [record.message for record in caplog.records] == [
        "the process that verifies signatures is lost"
    ]
    # For a while it goes without, then it tries another
    assert check(verifier, doubtful()) == GOOD
    assert running(verifier) is None
    clock.now += PAUSE
    assert check(verifier, doubtful()) == GOOD
    assert running(verifier) not in {None, first}


def test_a_process_that_died_unnoticed_is_noticed_by_the_next_batch(verifier: Verifier) -> None:
    check(verifier, doubtful())
    pid = running(verifier)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    assert check(verifier, doubtful()) == GOOD
    assert running(verifier) is None


def test_a_process_that_hangs_is_waited_for_no_longer_than_it_may_take(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "PATIENCE", 0.2)
    verifier.begin(doubtful(), KEYRING)
    pid = running(verifier)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    assert check(verifier, doubtful()) == GOOD
    assert not alive(pid)


@pytest.mark.parametrize("broken", ["_PROGRAM", "sys.executable"])
def test_a_process_that_cannot_be_started_is_done_without(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(f"subscriber.intake.verify.{broken}", "/nowhere")

    assert check(verifier, doubtful()) == GOOD
    assert running(verifier) is None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_verifier_that_is_closed_has_no_process_left(verifier: Verifier) -> None:
    check(verifier, doubtful())
    pid = running(verifier)
    assert pid is not None
    verifier.begin(doubtful(), KEYRING)

    verifier.close()

    assert not alive(pid)


def test_the_process_answers_until_its_stream_ends() -> None:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=signatures.answer_all, args=(theirs,))
    server.start()
    records = [(SIGNER.public, record.signature, record.event) for record in made(3)]
    records[1] = (records[1][0], records[0][1], records[1][2])
    with ours:
        ours.sendall(signatures.request(records))
        ours.sendall(signatures.request([]))
        ours.sendall(signatures.request(records[:1]))
        found = b""
        while len(found) < 4:
            found += ours.recv(4)
    server.join(20)

    assert found == bytes([1, 0, 1, 1])
    assert not server.is_alive()
