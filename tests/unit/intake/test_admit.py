"""The gate of the store: what passes, what stops a journal and where, what is held and freed."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from signing import DAY, KEYRING, NOW, ROOT, Journal, batch, certified, sha256

from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.keyfiles import SecretKey, generate
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked, issue
from hgext_zmqhooks.wire.sequence import JournalState
from hgext_zmqhooks.wire.session import Events, Record
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import Continued, Link
from subscriber.intake.admit import Admitted, Earlier, Known, admit

ALL = (Pattern.parse("hg:**:**:"),)
SIGNER = certified("publisher")
OLD = certified("old", nbf=NOW - 2 * DAY, exp=NOW - DAY)


def known(
    scanned: int = 0,
    branches: Mapping[str, Link] | None = None,
    *,
    origin: int = 0,
    stored: Mapping[tuple[str, int], str] | None = None,
    others: frozenset[str] = frozenset(),
    earlier: Mapping[str, Earlier] | None = None,
    admitted: frozenset[int] = frozenset(),
    vouched: int = 0,
    repo: str | None = "app",
) -> Known:
    return Known(
        journal="1" * 32,
        repo=repo,
        state=JournalState(scanned, branches or {}, origin),
        others=others,
        admitted=admitted,
        vouched=vouched,
        earlier=(earlier or {}).get,
        digest=lambda journal, sequence: (stored or {}).get((journal, sequence)),
    )


def judge(what: Events, here: Known | None = None, patterns: tuple[Pattern, ...] = ALL) -> Admitted:
    return admit(what, here or known(), patterns, KEYRING, NOW)


def sequences(admitted: Admitted) -> list[int]:
    return [record.sequence for record in admitted.records]


def test_a_good_batch_is_admitted_whole() -> None:
    journal = Journal(SIGNER)
    records = [journal.record("default"), journal.record("stable"), journal.record("default")]

    admitted = judge(batch(records, SIGNER, scanned=9))

    assert admitted.stop is None
    assert (sequences(admitted), admitted.scanned) == ([1, 2, 3], 9)
    assert dict(admitted.heads) == journal.last
    assert dict(admitted.certificates) == {sha256(SIGNER.certificate or b""): SIGNER.certificate}
    first = admitted.records[0]
    assert (first.repo, first.branch, first.topic) == ("app", "default", "hg:app:default:")
    assert (first.event, first.signature) == (records[0].event, records[0].signature)
    assert (first.event_id, first.received, first.held) == (f"{'1' * 32}/1", NOW, False)
    assert [event.sequence for event in admitted.events] == [1, 2, 3]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def bad_signature(journal: Journal) -> Record:
    record = journal.record()
    return replace(record, signature=flipped(record.signature, 5))


def flipped_bit(journal: Journal) -> Record:
    record = journal.record()
    return replace(record, event=flipped(record.event, record.event.index(b"Alice")))


def wrong_sequence(journal: Journal) -> Record:
    return replace(journal.record(), sequence=7)


def other_journal(journal: Journal) -> Record:
    return journal.record(journal="2" * 32)


def other_repo(journal: Journal) -> Record:
    return journal.record(repo="other")


def other_signer(journal: Journal) -> Record:
    stranger = generate("stranger")
    return journal.record(signer=replace(stranger, certificate=SIGNER.certificate))


def unknown_certificate(journal: Journal) -> Record:
    return replace(journal.record(), certificate="0" * 64)


def gap(journal: Journal) -> Record:
    journal.record()
    return journal.record()


def fork(journal: Journal) -> Record:
    return journal.record(previous=Link(2, "0" * 64))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (bad_signature, "bad-signature"),
        (flipped_bit, "bad-signature"),
        (other_signer, "bad-signature"),
        (wrong_sequence, "wrong-place"),
        (other_journal, "wrong-place"),
        (other_repo, "wrong-repo"),
        (unknown_certificate, "unknown-certificate"),
        (gap, "gap"),
        (fork, "fork"),
    ],
)
def test_a_bad_record_stops_its_journal_and_what_is_before_it_is_kept(make, kind) -> None:  # type: ignore[no-untyped-def]
    journal = Journal(SIGNER)
    good = [journal.record(), journal.record()]
    bad = make(journal)
    after = replace(journal.record("other"), sequence=bad.sequence + 1)

    admitted = judge(batch([*good, bad, after], SIGNER))

    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence) == (kind, bad.sequence)
    assert sequences(admitted) == [1, 2]
    assert admitted.scanned == 2


@pytest.mark.parametrize(
    ("signer", "kind"),
    [
        (certified("evil", root=generate("root")), "unknown-root"),
        (certified("narrow", publish=["hg:team/**:**:"]), "not-allowed"),
        (certified("reader", roles=["subscriber"], publish=[], read=["hg:**:**:"]), "not-allowed"),
        (certified("early", nbf=NOW + DAY, exp=NOW + 2 * DAY), "not-yet"),
    ],
)
def test_a_signer_without_the_right_stops_the_journal(signer, kind) -> None:  # type: ignore[no-untyped-def]
    admitted = judge(batch([Journal(signer).record()], signer))

    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.scanned, admitted.records) == (kind, 0, ())


def test_something_that_is_no_event_stops_the_journal() -> None:
    journal = Journal(SIGNER)
    event = replace(
        events.decode(journal.record().event), time="2026-11-21T09:15:02.123456Z", sequence=1
    )
    record = journal.sealed(event)
    data = record.event.replace(b'"specversion":"1.0"', b'"specversion":"2.0"')
    from hgext_zmqhooks.wire import envelope

    resigned = replace(record, event=data, signature=envelope.sign(data, SIGNER.seed))

    admitted = judge(batch([resigned], SIGNER))

    assert admitted.stop is not None
    assert admitted.stop.kind == "malformed-event"


def test_a_record_seen_before_is_dropped_as_a_duplicate() -> None:
    journal = Journal(SIGNER)
    first, second = journal.record(), journal.record()
    here = known(
        1, {"default": Link(1, sha256(first.event))}, stored={("1" * 32, 1): sha256(first.event)}
    )

    admitted = judge(batch([first, second], SIGNER), here)

    assert (sequences(admitted), admitted.duplicates, admitted.stop) == ([2], 1, None)


def test_other_bytes_at_a_place_that_is_taken_are_a_fork() -> None:
    journal = Journal(SIGNER)
    first = journal.record()
    here = known(1, {"default": Link(1, "0" * 64)}, stored={("1" * 32, 1): "0" * 64})

    admitted = judge(batch([first], SIGNER), here)

    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.scanned) == ("fork", 1)


def test_a_stale_batch_never_moves_the_position_back() -> None:
    admitted = judge(batch([], SIGNER, scanned=3), known(8))

    assert (admitted.scanned, admitted.stop) == (8, None)


def test_what_nobody_asked_for_is_not_stored() -> None:
    journal = Journal(SIGNER)
    records = [journal.record("default"), journal.record("stable")]

    admitted = judge(batch(records, SIGNER), patterns=(Pattern.parse("hg:*:stable:"),))

    assert (sequences(admitted), admitted.unasked, admitted.scanned) == ([2], 1, 2)


def test_the_first_event_of_a_branch_is_an_anchor_only_before_our_beginning() -> None:
    journal = Journal(SIGNER)
    journal.record("stable")  # sequence 1, before we began to read
    journal.record("default")  # sequence 2, withheld from us
    here = known(1, origin=1)

    fine = judge(batch([journal.record("stable")], SIGNER), here)
    withheld = judge(batch([journal.record("default")], SIGNER), here)

    assert fine.stop is None
    assert withheld.stop is not None
    assert (withheld.stop.kind, withheld.stop.branch) == ("gap", "default")


def test_an_expired_certificate_holds_only_its_branch() -> None:
    journal = Journal(SIGNER)
    records = [journal.record("default", signer=OLD), journal.record("stable")]

    admitted = judge(batch(records, SIGNER, OLD))

    assert admitted.stop is None
    assert [record.held for record in admitted.records] == [True, False]
    assert admitted.release == ()


def test_a_valid_event_behind_expired_ones_in_one_batch_vouches_for_them() -> None:
    journal = Journal(SIGNER)
    records = [journal.record(signer=OLD), journal.record(), journal.record(signer=OLD)]

    admitted = judge(batch(records, SIGNER, OLD))

    assert [record.held for record in admitted.records] == [False, False, True]


def test_a_valid_event_frees_what_was_held_before_of_its_branch() -> None:
    journal = Journal(SIGNER)
    held = journal.record(signer=OLD)
    journal.record("stable")
    here = known(2, {"default": Link(1, sha256(held.event))})

    admitted = judge(batch([journal.record()], SIGNER), here)

    assert admitted.release == (("default", 1),)


REVOKING = Keyring(
    [ROOT.public], revocations=[issue(ROOT, 1, [Revoked(int(NOW), jti="leaked")], int(NOW))]
)
LEAKED = certified("leaked")
LONG_OVER = certified("leaked", nbf=NOW - 2 * DAY, exp=NOW - DAY)


def judge_revoking(what: Events, here: Known | None = None) -> Admitted:
    return admit(what, here or known(), ALL, REVOKING, NOW)


@pytest.mark.parametrize("signer", [LEAKED, LONG_OVER], ids=["valid", "expired"])
def test_an_event_under_a_revoked_certificate_stops_its_journal(signer: SecretKey) -> None:
    """Neither the time that it claims nor an event behind it makes it good."""
    # Given one between two others, told of as if it were of long ago
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record(signer=signer), journal.record()]

    admitted = judge_revoking(batch(records, SIGNER, signer))

    assert (sequences(admitted), admitted.scanned) == ([1], 1)
    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence) == ("revoked", 2)


def test_what_is_stored_already_is_a_duplicate_also_when_it_was_revoked_since() -> None:
    journal = Journal(LEAKED)
    first, second = journal.record(), journal.record(signer=SIGNER)
    here = known(
        1, {"default": Link(1, sha256(first.event))}, stored={("1" * 32, 1): sha256(first.event)}
    )

    admitted = judge_revoking(batch([first, second], LEAKED, SIGNER), here)

    assert (sequences(admitted), admitted.duplicates, admitted.stop) == ([2], 1, None)


def test_what_nobody_asked_for_stops_nothing_when_it_is_revoked() -> None:
    journal = Journal(SIGNER)
    records = [journal.record("stable", signer=LEAKED), journal.record()]
    here, patterns = known(), (Pattern.parse("hg:app:default:"),)

    admitted = admit(batch(records, SIGNER, LEAKED), here, patterns, REVOKING, NOW)

    assert (sequences(admitted), admitted.unasked, admitted.stop) == ([2], 1, None)


def test_a_person_answers_for_events_up_to_a_sequence_and_no_further() -> None:
    # Given three events under a revoked certificate, two of which a person vouches for
    journal = Journal(LONG_OVER)
    records = [journal.record() for _ in range(3)]

    admitted = judge_revoking(batch(records, LONG_OVER), known(vouched=2))

    # Then those are taken as good, and the third one stops the journal
    assert [(one.sequence, one.held) for one in admitted.records] == [(1, False), (2, False)]
    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence) == ("revoked", 3)


def test_nobody_answers_for_a_bad_signature_or_a_mere_expiry() -> None:
    journal = Journal(OLD)
    expired, bad = journal.record(), journal.record(signer=LEAKED)
    bad = replace(bad, signature=flipped(bad.signature, 3))

    admitted = judge_revoking(batch([expired, bad], OLD, LEAKED), known(vouched=9))

    assert [one.held for one in admitted.records] == [True]
    assert admitted.stop is not None
    assert admitted.stop.kind == "bad-signature"


def test_a_further_journal_must_continue_what_is_known() -> None:
    first, second = "2" * 32, "1" * 32
    here = known(others=frozenset({first}), stored={(first, 5): "a" * 64})
    fits = Journal(SIGNER, journal=second, continuing=True)
    foreign = Journal(SIGNER, journal=second)

    good = fits.record(continues=Continued(first, 5, "a" * 64))
    new_branch = fits.record("new")
    forked = Journal(SIGNER, continuing=True).record(continues=Continued(first, 5, "b" * 64))

    assert judge(batch([good, new_branch], SIGNER), here).stop is None
    stop = judge(batch([foreign.record()], SIGNER), here).stop
    assert stop is not None
    assert stop.kind == "unfit-journal"
    stop = judge(batch([forked], SIGNER), here).stop
    assert stop is not None
    assert stop.kind == "fork"


FIRST = "2" * 32
CONTINUED = Continued(FIRST, 5, "a" * 64)


@pytest.mark.parametrize(
    ("earlier", "what"),
    [
        (Earlier(scanned=2, origin=0), "sequences 3 to 5 of that journal did not come"),
        (Earlier(scanned=9, origin=4), "that event did not come, though the relay looked up to 9"),
    ],
)
def test_the_end_of_a_journal_may_not_be_left_out(earlier: Earlier, what: str) -> None:
    journal = Journal(SIGNER, continuing=True)

    # Whichever of the two journals the relay told of first
    for others in (frozenset(), frozenset({FIRST})):
        here = known(others=others, earlier={FIRST: earlier})
        admitted = judge(batch([replace_first(journal)], SIGNER), here)

        assert admitted.stop is not None
        assert (admitted.stop.kind, admitted.stop.branch) == ("gap", "default")
        assert admitted.stop.missing == (FIRST, 5)
        assert f"it continues {FIRST}/5; {what}" in admitted.stop.detail
        assert (admitted.records, admitted.scanned) == ((), 0)


def replace_first(journal: Journal) -> Record:
    """The first event of its journal, behind the fifth of another one."""
    journal.sequence, journal.last = 0, {}
    return journal.record(continues=CONTINUED)


@pytest.mark.parametrize(
    "earlier",
    [
        {},  # of another repository, or never told of
        {FIRST: Earlier(scanned=9, origin=5)},  # reading began behind it, or the relay pruned it
    ],
)
def test_what_was_never_asked_for_need_not_be_there(earlier: Mapping[str, Earlier]) -> None:
    journal = Journal(SIGNER, continuing=True)

    admitted = judge(
        batch([replace_first(journal)], SIGNER), known(others=frozenset({FIRST}), earlier=earlier)
    )

    assert (admitted.stop, sequences(admitted)) == (None, [1])
    assert (admitted.continues, admitted.release) == ({}, ())


def test_a_branch_that_begins_in_a_further_journal_follows_nothing() -> None:
    here = known(others=frozenset({FIRST}), earlier={FIRST: Earlier(scanned=2, origin=0)})

    assert judge(batch([Journal(SIGNER, continuing=True).record()], SIGNER), here).stop is None


def test_a_person_lets_pass_what_continues_something_missing() -> None:
    here = known(earlier={FIRST: Earlier(scanned=2, origin=0)}, admitted=frozenset({1}))

    admitted = judge(batch([replace_first(Journal(SIGNER, continuing=True))], SIGNER), here)

    assert (admitted.stop, sequences(admitted), admitted.continues) == (None, [1], {})


@pytest.mark.parametrize("held_first", [True, False])
def test_a_valid_event_frees_what_was_held_in_the_journal_that_it_continues(
    held_first: bool,
) -> None:
    journal = Journal(SIGNER, continuing=True)
    here = known(
        earlier={FIRST: Earlier(scanned=5, origin=0)}, stored={(FIRST, 5): CONTINUED.sha256}
    )
    records = [journal.record(continues=CONTINUED, signer=OLD)] if held_first else []
    records.append(journal.record(continues=None if held_first else CONTINUED))

    admitted = judge(batch(records, SIGNER, OLD), here)

    assert admitted.stop is None
    assert admitted.continues == {"default": CONTINUED}
    assert admitted.release == (("default", int(held_first)),)


def test_an_expired_event_frees_nothing_but_what_it_continues_is_kept() -> None:
    here = known(
        earlier={FIRST: Earlier(scanned=5, origin=0)}, stored={(FIRST, 5): CONTINUED.sha256}
    )
    first = Journal(SIGNER, continuing=True).record(continues=CONTINUED, signer=OLD)

    admitted = judge(batch([first], OLD), here)

    assert (admitted.continues, admitted.release) == ({"default": CONTINUED}, ())


def test_a_valid_event_of_another_repository_frees_nothing() -> None:
    """A copy goes on behind the original's journal; its signer may not sign for the original."""
    here = known(stored={(FIRST, 5): CONTINUED.sha256})

    admitted = judge(batch([replace_first(Journal(SIGNER, continuing=True))], SIGNER), here)

    assert (admitted.stop, admitted.continues, admitted.release) == (None, {}, ())


def test_an_event_that_was_left_out_is_taken_when_it_comes() -> None:
    journal = Journal(SIGNER)
    first, left_out, other = journal.record(), journal.record(), journal.record("stable")
    behind = journal.record()
    state = {"default": Link(1, sha256(first.event)), "stable": Link(3, sha256(other.event))}
    stored = {("1" * 32, 1): sha256(first.event), ("1" * 32, 3): sha256(other.event)}
    here = known(3, state, stored=stored)

    without = judge(batch([behind], SIGNER), here)
    whole_again = judge(batch([first, left_out, other, behind], SIGNER), here)

    assert without.stop is not None
    assert (without.stop.kind, without.stop.missing) == ("gap", ("1" * 32, 2))
    assert (whole_again.stop, sequences(whole_again)) == (None, [2, 4])
    assert (whole_again.duplicates, whole_again.scanned) == (2, 4)


def test_what_comes_late_must_fit_too() -> None:
    journal = Journal(SIGNER)
    first, second, third = (journal.record() for _ in range(3))
    here = known(4, {"default": Link(1, sha256(first.event))})

    admitted = judge(batch([third], SIGNER), here)
    by_a_person = judge(batch([third], SIGNER), replace(here, admitted=frozenset({3})))

    assert second.sequence == 2
    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence, admitted.scanned) == ("gap", 3, 4)
    assert (by_a_person.stop, sequences(by_a_person), by_a_person.scanned) == (None, [3], 4)


@pytest.mark.parametrize(
    ("branches", "origin"),
    [({"default": Link(3, "0" * 64)}, 0), ({}, 2)],  # its branch has gone on; never asked for
)
def test_what_comes_late_and_is_not_missing_is_dropped(
    branches: Mapping[str, Link], origin: int
) -> None:
    journal = Journal(SIGNER, sequence=1)

    admitted = judge(batch([journal.record()], SIGNER), known(4, branches, origin=origin))

    assert (admitted.stop, admitted.records, admitted.duplicates) == (None, (), 1)


def test_a_journal_names_its_repository_by_its_first_event() -> None:
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record(repo="other")]

    admitted = judge(batch(records, SIGNER), known(repo=None))

    assert sequences(admitted) == [1]
    assert admitted.stop is not None
    assert admitted.stop.kind == "wrong-repo"


def whole(what: Events, here: Known | None = None) -> Admitted:
    return admit(what, here or known(), ALL, KEYRING, NOW, whole=True)


def test_who_reads_a_whole_repository_misses_no_sequence() -> None:
    journal = Journal(SIGNER)
    first, _, third = journal.record(), journal.record("left out"), journal.record()

    admitted = whole(batch([first, third], SIGNER))

    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence) == ("gap", 3)
    assert "sequences 2 to 2 were left out" in admitted.stop.detail
    assert (sequences(admitted), admitted.scanned) == ([1], 1)


def test_a_relay_cannot_say_that_it_looked_further_than_what_it_sent() -> None:
    admitted = whole(batch([Journal(SIGNER).record()], SIGNER, scanned=3))

    assert admitted.stop is not None
    assert (admitted.stop.kind, admitted.stop.sequence) == ("gap", 2)
    assert (sequences(admitted), admitted.scanned) == ([1], 1)


def test_what_was_pruned_before_it_was_read_is_no_gap() -> None:
    journal = Journal(SIGNER, sequence=6)

    admitted = whole(batch([journal.record(), journal.record()], SIGNER), known(3, origin=6))

    assert admitted.stop is None
    assert (sequences(admitted), admitted.scanned) == ([7, 8], 8)


def test_what_is_told_again_is_no_gap_before_what_follows() -> None:
    journal = Journal(SIGNER)
    records = [journal.record() for _ in range(4)]
    stored = {("1" * 32, number): sha256(one.event) for number, one in enumerate(records[:3], 1)}
    here = known(3, {"default": Link(3, sha256(records[2].event))}, stored=stored)

    admitted = whole(batch([records[0], records[3]], SIGNER), here)

    assert (admitted.stop, sequences(admitted), admitted.duplicates) == (None, [4], 1)
