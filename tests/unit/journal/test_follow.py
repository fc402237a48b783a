"""Followers: what is committed, all of it, and nothing else."""

import os
import shutil
import time
import tracemalloc

import pytest
from unit.journal.stores import FakeSigner, Store, draft, node

from hgext_zmqhooks.journal import follow
from hgext_zmqhooks.journal import region as region_module
from hgext_zmqhooks.journal.follow import ATTEMPTS, Follower, UnknownJournal
from hgext_zmqhooks.journal.format import EVENT, FRAME_LENGTH, HEAD, MARK_LENGTH, Torn
from hgext_zmqhooks.journal.heads import NewerHead
from hgext_zmqhooks.journal.reading import CHUNK, Source


@pytest.fixture
def follower(store: Store) -> Follower:
    return Follower(store.path)


@pytest.fixture
def late(store: Store) -> Follower:
    """A follower for whom every file is older than two seconds."""
    return Follower(store.path, clock=lambda: time.time() + 10)


def seen(follower: Follower) -> list[tuple[str, int]]:
    """All that the follower serves, journal by journal."""
    follower.poll()
    out = []
    for info in follower.journals():
        after = 0
        while batch := follower.read(info.journal, after, 7):
            out += [(info.journal, stored.sequence) for stored in batch]
            after = batch[-1].sequence
    return out


def committed(store: Store) -> list[tuple[str, int]]:
    return [(event.journal, event.sequence) for event in store.events()]


def overwrite(store: Store, data: bytes) -> None:
    """In place, and with another time, however coarse the file system's clock is."""
    with store.events_file.open("r+b") as file:
        file.write(data)
    moment = store.events_file.stat().st_mtime_ns + 1
    os.utime(store.events_file, ns=(moment, moment))


def test_a_store_without_a_journal_has_nothing(store, follower):
    assert not follower.poll()
    assert follower.head is None
    assert follower.journals() == []
    assert not follower.moved
    with pytest.raises(UnknownJournal):
        follower.read("a" * 32, 0)


def test_events_come_as_they_were_written(store, follower):
    store.push(draft(), draft("stable"))
    store.push(draft(), signer=FakeSigner(b"certificate-2"))
    assert follower.poll()
    assert follower.head == store.head()
    (info,) = follower.journals()
    assert (info.journal, info.repo) == (store.head().journal, "team/app")
    assert (info.first, info.sequence, info.closed) == (1, 3, False)
    found = follower.read(info.journal, 0)
    assert [stored.event for stored in found] == list(store.event_bytes())
    assert [stored.sequence for stored in found] == [1, 2, 3]
    assert [stored.certificate for stored in found] == [b"certificate-1"] * 2 + [b"certificate-2"]
    assert {len(stored.signature) for stored in found} == {64}
    assert follower.read(info.journal, 3) == []
    assert follower.read(info.journal, 99) == []
    assert [stored.sequence for stored in follower.read(info.journal, 1, 1)] == [2]


def test_poll_says_whether_the_head_changed(store, follower):
    store.push()
    assert follower.poll()
    assert not follower.poll()
    store.push()
    assert follower.poll()
    assert not follower.poll()


def test_poll_reads_nothing_while_nothing_changes(store, follower, monkeypatch):
    store.push()
    follower.poll()
    monkeypatch.setattr("hgext_zmqhooks.journal.follow._read", None)
    assert not follower.poll()


def test_a_batch_is_bounded_but_never_empty(store, follower):
    store.push(*[draft("default", node(number)) for number in range(50)])
    follower.poll()
    journal = store.head().journal
    one = len(list(store.event_bytes())[20]) + 64
    assert len(follower.read(journal, 0, max_bytes=1)) == 1
    assert len(follower.read(journal, 10, max_bytes=3 * one + 200)) == 3
    assert len(follower.read(journal, 0, max_records=20)) == 20


def test_every_position_can_be_read(store, follower):
    # Given more than one kept offset, and a certificate in between
    store.push(*[draft(f"b{number % 5}") for number in range(700)])
    store.push(*[draft() for _ in range(10)], signer=FakeSigner(b"certificate-2"))
    follower.poll()
    journal = store.head().journal
    for after in (705, 0, 300, 255, 256, 257, 511, 512, 699, 700, 709, 3):
        (stored,) = follower.read(journal, after, 1)
        assert stored.sequence == after + 1
        assert b'"sequence":"%020d"' % (after + 1) in stored.event
        assert stored.certificate == b"certificate-1" if after < 700 else b"certificate-2"


def test_two_hundred_events_are_one_read(store, follower, monkeypatch):
    store.push(*[draft() for _ in range(500)])
    follower.poll()
    journal = store.head().journal
    follower.read(journal, 0, 200)
    reads = []

    def read(source, offset, length):
        reads.append(length)
        return original(source, offset, length)

    original = Source.read
    monkeypatch.setattr(Source, "read", read)
    assert len(follower.read(journal, 200, 200)) == 200
    beginning, events = reads
    assert beginning == FRAME_LENGTH
    assert events <= CHUNK


def test_many_certificates_are_found_again(store, follower):
    for number in range(region_module.TOKENS + 5):
        store.push(signer=FakeSigner(b"certificate-%d" % number))
    follower.poll()
    journal = store.head().journal
    for _ in range(2):
        found = follower.read(journal, 0)
        assert [s.certificate for s in found] == [b"certificate-%d" % n for n in range(21)]


def test_memory_does_not_grow_with_the_journal(store, follower):
    store.push(*[draft("default", *map(node, range(3))) for _ in range(20_000)])
    assert store.size() > 15_000_000
    tracemalloc.start()
    follower.poll()
    journal = store.head().journal
    after = 0
    while batch := follower.read(journal, after):
        after = batch[-1].sequence
    Follower(store.path).poll()
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after == 20_000
    assert peak < 2_000_000


class TestUncommitted:
    def test_bytes_of_an_open_transaction_are_not_served(self, store, follower, late):
        store.push()
        store.append(draft())
        assert seen(follower) == seen(late) == committed(store)[:1]
        store.recover()
        assert seen(follower) == seen(late) == committed(store)

    def test_the_first_transaction_is_not_served_before_its_commit(self, store, late):
        store.append(draft())
        assert seen(late) == []
        store.close()
        assert len(seen(late)) == 1

    def test_past_the_head_only_after_two_seconds(self, store, follower, late):
        # Given a crash after the commit point: no store/journal, no new head
        store.push()
        store.append(draft("stable"))
        store.close()
        assert len(seen(follower)) == 1
        assert len(seen(late)) == 2
        assert late.head.sequence == 2
        # and without any change to the files, once they are old enough
        moment = store.events_file.stat().st_ctime + 2.1
        follower._clock = lambda: moment
        assert follower.poll()
        assert len(seen(follower)) == 2
        # When healed, then nothing changes for who was there already
        store.writer.heal()
        assert len(seen(late)) == 2

    def test_a_journal_that_takes_over_past_the_head(self, store, late):
        store.push()
        store.rollback(store.push())
        store.append(draft())
        store.close()
        assert seen(late) == committed(store)
        assert len(late.journals()) == 2

    def test_a_rollback_that_has_not_cut_yet_is_not_undone_by_readers(self, store, late):
        store.push()
        appended = store.push()
        assert len(seen(late)) == 2
        store.writer.before_rollback(appended.offset)
        assert len(seen(late)) == 1
        store.cut(appended.offset)
        assert len(seen(late)) == 1

    def test_a_transaction_that_opens_while_reading_past_the_head(self, store, late, monkeypatch):
        store.push()
        store.append(draft())
        store.close()

        def extend(*args):
            store.open_transaction.touch()
            return original(*args)

        original = late._past.__globals__["extend"]
        monkeypatch.setitem(late._past.__globals__, "extend", extend)
        assert len(seen(late)) == 1
        store.open_transaction.unlink()
        monkeypatch.undo()
        assert len(seen(late)) == 2

    def test_events_that_vanish_while_reading_past_the_head(self, store, late, monkeypatch):
        store.push()
        store.append(draft())
        store.close()
        original = follow.open_events
        names = iter(["zmqhooks-events", "gone"])
        monkeypatch.setattr(
            follow, "open_events", lambda path: original(path.with_name(next(names)))
        )
        late.poll()
        assert late.head.sequence == 1


class TestRollback:
    def test_closed_journals_come_before_the_current_one(self, store, follower):
        store.push()
        store.rollback(store.push())
        store.push()
        assert seen(follower) == committed(store)
        old, new = follower.journals()
        assert (old.sequence, old.closed) == (1, True)
        assert (new.sequence, new.closed) == (1, False)

    def test_a_cut_and_regrown_file_is_noticed_while_reading(self, store, follower, monkeypatch):
        # Given a follower at an old head; when the file is cut and grows again under its reading
        store.push()
        journal = store.head().journal
        last = store.push(draft("stable", *map(node, range(50))))
        follower.poll()
        assert follower.head.sequence == 2

        def read(source, offset, length):
            data = original(source, offset, length)
            if offset >= last.offset - MARK_LENGTH and store.head().journal == journal:
                monkeypatch.undo()
                store.rollback(last)
                store.append(draft("uncommitted"))
                return original(source, offset, length)
            return data

        original = Source.read
        monkeypatch.setattr(Source, "read", read)
        follower.read(journal, 0, 1)
        # Then the bytes of the open transaction in the place of event 2 are not served
        assert follower.read(journal, 1) == []
        assert follower.poll()
        assert seen(follower) == [(journal, 1)]

    def test_a_commit_while_reading_does_no_harm(self, store, follower, monkeypatch):
        store.push()
        store.push()
        journal = store.head().journal
        follower.poll()

        def unchanged():
            store.push()
            return False

        monkeypatch.setattr(follower, "_unchanged", unchanged)
        assert [stored.sequence for stored in follower.read(journal, 0)] == [1, 2]

    def test_a_head_that_changes_under_every_reading_gives_nothing(
        self, store, follower, monkeypatch
    ):
        store.push()
        journal = store.head().journal
        follower.poll()
        attempts = []
        monkeypatch.setattr(follower, "_attempt", lambda *_args: attempts.append(1) or [])
        assert follower.read(journal, 0) == []
        assert len(attempts) == ATTEMPTS
        assert follower.since(journal, 0) == 0


class TestOtherFiles:
    def test_a_copy_does_not_serve_the_journal_of_the_original(self, store, tmp_path):
        store.push()
        shutil.copytree(store.path, tmp_path / "copy")
        follower = Follower(tmp_path / "copy")
        follower.poll()
        assert follower.moved, "until it is written to, it is the original's journal"
        copy = Store(tmp_path / "copy", "team/copy")
        copy.revisions = 1
        copy.push()
        assert seen(follower) == [(copy.head().journal, 1)]
        assert not follower.moved
        with pytest.raises(UnknownJournal):
            follower.read(store.head().journal, 0)

    def test_an_exchanged_store_is_read_by_its_path(self, store, follower, tmp_path):
        # Given `hg debugupgraderepo`, which puts another folder with copies in the place
        store.push(draft(), draft())
        assert len(seen(follower)) == 2
        shutil.copytree(store.path, tmp_path / "upgraded")
        store.path.rename(tmp_path / "old")
        (tmp_path / "upgraded").rename(store.path)
        assert len(seen(follower)) == 2
        store.push()
        assert seen(follower) == committed(store)

    def test_removed_events_leave_the_journal_empty(self, store, follower):
        store.push()
        journal = store.head().journal
        assert len(seen(follower)) == 1
        store.events_file.unlink()
        assert follower.poll()
        assert [(i.first, i.sequence) for i in follower.journals()] == [(2, 1)]
        assert follower.read(journal, 0) == []
        store.push()
        assert seen(follower) == committed(store)

    def test_events_that_vanish_while_reading_are_torn(self, store, follower):
        store.push()
        follower.poll()
        store.events_file.unlink()
        with pytest.raises(Torn, match="not there any more"):
            follower.read(store.head().journal, 0)

    def test_events_that_vanish_with_their_head_are_nothing(self, store, follower):
        store.push()
        journal = store.head().journal
        follower.poll()
        shutil.rmtree(store.path)
        with pytest.raises(UnknownJournal):
            follower.read(journal, 0)
        assert follower.poll()
        assert follower.journals() == []

    def test_a_lost_head_is_rebuilt_in_memory(self, store, follower, late):
        store.push(draft(), draft())
        store.head_file.unlink()
        assert seen(follower) == []
        assert seen(late) == committed(store)
        store.head_file.write_bytes(b"")
        assert seen(late) == committed(store)

    def test_a_newer_head_is_said(self, store, follower):
        store.head_file.write_text('{"version":2}')
        with pytest.raises(NewerHead):
            follower.poll()

    def test_an_unreadable_head_is_said(self, store, follower):
        (store.path / HEAD).mkdir()
        with pytest.raises(OSError, match="directory"):
            follower.poll()


class TestTorn:
    def damage(self, store: Store, number: int, at: int = 30) -> bytes:
        """Flip a byte of the record of event `number`; what was there before."""
        good = store.events_file.read_bytes()
        record = [r for r in store.writer.stored() if r.kind == EVENT][number - 1]
        bad = bytearray(good)
        bad[record.offset + at] ^= 0xFF
        overwrite(store, bad)
        return good

    def test_what_is_before_a_torn_record_is_served_and_it_is_not(self, store, follower):
        store.push(*[draft() for _ in range(5)])
        good = self.damage(store, 4)
        follower.poll()
        journal = store.head().journal
        assert [stored.sequence for stored in follower.read(journal, 0)] == [1, 2, 3]
        for _ in range(2):
            with pytest.raises(Torn, match="wrong checksum"):
                follower.read(journal, 3)
        # When it is repaired in place, then it is served
        overwrite(store, good)
        follower.poll()
        assert [stored.sequence for stored in follower.read(journal, 3)] == [4, 5]

    @pytest.mark.parametrize("at", [0, 3])
    def test_a_broken_length_is_torn(self, store, follower, at):
        store.push(*[draft() for _ in range(5)])
        self.damage(store, 2, at)
        follower.poll()
        with pytest.raises(Torn):
            follower.read(store.head().journal, 4)

    def test_what_was_learnt_from_a_broken_file_is_forgotten(self, store, follower):
        # Given a length that swallows the next record, so that events are counted wrong
        store.push(*[draft() for _ in range(5)])
        good = store.events_file.read_bytes()
        second, third = [r for r in store.writer.stored() if r.kind == EVENT][1:3]
        bad = bytearray(good)
        bad[second.offset : second.offset + 4] = (third.end - second.offset - 8).to_bytes(4, "big")
        overwrite(store, bad)
        follower.poll()
        journal = store.head().journal
        with pytest.raises(Torn, match="before its event 5"):
            follower.read(journal, 4)
        overwrite(store, good)
        follower.poll()
        assert [stored.sequence for stored in follower.read(journal, 4)] == [5]

    def test_a_file_cut_by_somebody_is_torn_where_it_ends(self, store, follower):
        store.push()
        second = store.push()
        store.cut(second.offset)
        follower.poll()
        journal = store.head().journal
        assert [stored.sequence for stored in follower.read(journal, 0)] == [1]
        with pytest.raises(Torn):
            follower.read(journal, 1)

    def test_a_torn_tail_behind_the_head_is_said_at_its_place(self, store, late):
        store.push()
        with store.events_file.open("ab") as file:
            file.write(b"garbage garbage")
        late.poll()
        journal = store.head().journal
        assert len(late.read(journal, 0)) == 1
        with pytest.raises(Torn):
            late.read(journal, 1)

    def test_a_head_that_promises_too_much_is_torn(self, store, follower):
        store.push(draft(), draft())
        text = store.head_file.read_text().replace('"sequence":2', '"sequence":4')
        store.head_file.write_text(text)
        follower.poll()
        journal = store.head().journal
        assert len(follower.read(journal, 0)) == 2
        for after in (2, 3):
            with pytest.raises(Torn, match=f"before its event {after + 1}"):
                follower.read(journal, after)

    def test_an_event_without_its_certificate_is_torn(self, store, follower):
        store.push()
        data = store.events_file.read_bytes()
        certificate = next(store.writer.stored())
        store.events_file.write_bytes(data[certificate.end :])
        size = len(data) - certificate.end
        text = store.head_file.read_text().replace(f'"size":{len(data)}', f'"size":{size}')
        store.head_file.write_text(text)
        follower.poll()
        with pytest.raises(Torn, match="certificate"):
            follower.read(store.head().journal, 0)


def test_since_finds_the_first_event_not_older(store, follower):
    store.push(*[draft(time=f"2026-11-21T09:15:{second:02}.000000Z") for second in range(0, 50, 2)])
    follower.poll()
    journal = store.head().journal
    begin = 1_795_252_500.0
    assert follower.since(journal, 0) == 0
    assert follower.since(journal, begin) == 0
    assert follower.since(journal, begin + 0.5) == 1
    assert follower.since(journal, begin + 2) == 1
    assert follower.since(journal, begin + 48) == 24
    assert follower.since(journal, begin + 49) == 25


def test_a_position_by_time_meets_an_event_that_is_none(store, follower):
    store.push(draft(time="2026-02-30T09:15:00.000000Z"))
    follower.poll()
    with pytest.raises(Torn, match="sequence 1: malformed-event"):
        follower.since(store.head().journal, 1.0)


def test_positions_remembered_are_bounded(store, follower):
    store.push(*[draft() for _ in range(200)])
    follower.poll()
    journal = store.head().journal
    for after in range(150):
        follower.read(journal, after, 1)
    assert len(follower._regions[journal]._positions) == region_module.POSITIONS
