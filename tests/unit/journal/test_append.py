"""The writer: sequences, links, journals that end, and what heals."""

import json
import shutil
from pathlib import Path

import pytest
from unit.journal.stores import FakeSigner, Store, check_chain, draft, mark, node

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.format import (
    CERTIFICATE,
    EVENT,
    INDEX,
    LONGEST,
    MARK,
    UNDONE,
    Torn,
    frame,
    read_signed,
)
from hgext_zmqhooks.journal.heads import NewerHead


def kinds(store: Store) -> list[int]:
    return [record.kind for record in store.writer.stored()]


def test_a_store_without_a_journal_is_new(store):
    # Given nothing, when healed, then nothing is written and the next event begins a journal
    store.writer.heal()
    assert list(store.path.iterdir()) == []
    assert store.writer.standing() == "new"
    assert store.writer.last_mark() is None
    assert store.writer.undone() == {}
    assert store.events() == []


def test_events_get_dense_sequences_and_links_per_branch(store):
    store.push(draft("default", node(1)), draft("stable", node(2)))
    store.push(draft("stable", node(3)))
    store.push(draft("default", node(4)), draft("default", node(5)))

    assert [event.sequence for event in store.events()] == [1, 2, 3, 4, 5]
    links = [event.previous and event.previous.sequence for event in store.events()]
    assert links == [None, None, 2, 1, 4]
    check_chain(store)
    assert store.writer.standing() == "current"
    assert store.writer.last_mark() == mark(3)
    assert not any(event.continuing for event in store.events())


def test_the_head_says_what_is_committed(store):
    store.push(draft(), draft())
    head = store.head()
    status = store.events_file.stat()
    assert (head.sequence, head.size, head.start, head.first) == (2, status.st_size, 0, 1)
    assert (head.repo, head.dev, head.ino) == ("team/app", status.st_dev, status.st_ino)
    assert head.journal == store.events()[0].journal
    assert len(head.journal) == 32


def test_an_abort_leaves_no_trace(store):
    store.push()
    before = store.events_file.read_bytes(), store.head_file.read_bytes()
    store.append(draft("default", node(7)))
    store.recover()
    store.writer.heal()
    assert (store.events_file.read_bytes(), store.head_file.read_bytes()) == before


def test_an_abort_of_the_first_transaction_leaves_a_new_store(store):
    store.append(draft())
    store.recover()
    store.writer.heal()
    assert store.writer.standing() == "new"


def test_a_transaction_that_says_nothing_writes_nothing(store):
    store.push()
    store.revisions -= 1
    appended = store.append()
    assert appended.empty
    assert store.open_transaction.read_text() == "", "nothing to register"
    before = store.head_file.stat().st_ino
    store.writer.commit(appended)
    assert store.head_file.stat().st_ino == before
    assert store.writer.frames(appended) == []


def test_a_transaction_without_events_moves_the_mark(store):
    store.push()
    appended = store.append()
    store.close()
    store.writer.commit(appended)
    assert appended.events == 0
    assert store.writer.last_mark() == mark(2)
    assert store.head().sequence == 1
    store.push()
    check_chain(store)


def test_a_mark_alone_begins_no_journal(store):
    appended = store.append()
    store.close()
    store.writer.commit(appended)
    assert store.writer.standing() == "new"
    assert store.writer.last_mark() == mark(1)
    store.push()
    assert store.head().start > 0
    assert store.head().closed == ()
    check_chain(store)


def test_a_large_draft_becomes_consecutive_parts(store):
    nodes = [node(number) for number in range(100)]
    appended = store.push(draft("default", *nodes), draft("stable"), limit=2000)
    events = store.events()
    parts = [event for event in events if event.branch == "default"]
    assert len(parts) > 5
    assert [(e.transaction.part, e.sequence) for e in parts] == [
        (number, number) for number in range(1, len(parts) + 1)
    ]
    assert {event.transaction.parts for event in parts} == {len(parts)}
    assert max(map(len, store.event_bytes())) <= 2000
    assert [c.node for event in parts for c in event.changesets] == nodes
    assert appended.events == len(events)
    check_chain(store)


def test_a_certificate_stands_once_before_its_events(store):
    # Given one certificate, a renewed one, and the renewed one again
    other = FakeSigner(b"certificate-2")
    store.push()
    store.push()
    store.push(signer=other)
    store.push(signer=other)
    assert kinds(store) == [CERTIFICATE, EVENT, MARK, EVENT, MARK, CERTIFICATE] + [EVENT, MARK] * 2


def test_the_certificate_is_written_again_after_what_named_it_was_cut(store):
    store.push()
    store.rollback(store.push())
    store.push()
    assert kinds(store) == [CERTIFICATE, EVENT, MARK, CERTIFICATE, EVENT, MARK]


def test_frames_give_the_first_committed_events(store):
    appended = store.push(draft("a"), draft("b:c"))
    topics, events, signatures, certificates = zip(*store.writer.frames(appended), strict=True)
    assert topics == (b"hg:team/app:a:", b"hg:team/app:b%3Ac:")
    assert list(events) == list(store.event_bytes())
    assert [len(signature) for signature in signatures] == [64, 64]
    assert set(certificates) == {b"certificate-1"}


def test_frames_are_bounded_in_number_and_bytes(store):
    many = store.push(*[draft(f"branch-{number}") for number in range(100)])
    assert len(store.writer.frames(many)) == 64
    wide = [node(number) for number in range(10_000)]
    large = store.push(*[draft(f"wide-{number}", *wide) for number in range(3)], limit=1 << 20)
    assert large.events > 2
    assert sum(len(frames[1]) for frames in store.writer.frames(large)) <= 1 << 20


def test_frames_that_were_rolled_back_meanwhile_are_left_out(store):
    store.push()
    appended = store.push()
    store.rollback(appended)
    assert store.writer.frames(appended) == []
    store.events_file.unlink()
    assert store.writer.frames(appended) == []


def test_a_commit_whose_head_was_never_written_is_found(store):
    # Given a kill between Mercurial's commit point and the head
    store.push()
    store.append(draft("stable", node(5)), draft())
    store.close()
    stale = store.head()
    # When the next transaction opens
    store.writer.heal()
    # Then the head holds it, and the journal goes on
    head = store.head()
    assert (head.sequence, head.size) == (3, store.size())
    assert (head.journal, head.certificate) == (stale.journal, stale.certificate)
    assert store.writer.standing() == "current"
    store.push(draft("stable"))
    check_chain(store)


def test_appending_needs_no_heal_before(store):
    # Given a commit whose head could not be written, and the same process going on
    store.push()
    store.append(draft("stable"))
    store.close()
    appended = store.writer.append(store._register, [draft("stable")], mark(9), FakeSigner())
    store.writer.commit(appended)
    assert store.head().sequence == 3
    check_chain(store)


class TestRollback:
    def test_ends_the_journal_and_says_what_was_undone(self, store):
        store.push(draft("default", node(1)), draft("stable", node(2)))
        store.rollback(store.push(draft("default", node(3), node(4)), draft("other", node(5))))
        old = store.head()

        assert store.writer.standing() == "ended"
        assert store.writer.last_mark() == mark(1)
        assert store.writer.undone() == {"default": [node(3), node(4)], "other": [node(5)]}
        assert (old.sequence, old.size) == (2, store.size())
        assert not store.index_file.exists(), "it knew of what was cut"

        store.push(draft("default", node(6), removed=[node(3), node(4)]), draft("new"))

        head = store.head()
        assert head.journal != old.journal
        assert head.continuing
        assert [(c.journal, c.sequence, c.size) for c in head.closed] == [
            (old.journal, 2, old.size)
        ]
        assert store.writer.undone() == {}
        assert not (store.path / UNDONE).exists()
        default, new = store.events()[-2:]
        assert default.continues
        assert (default.continues.journal, default.continues.sequence) == (old.journal, 1)
        assert new.continuing
        assert new.continues is None
        check_chain(store)
        # and the next event of a branch not told of yet continues, too
        store.push(draft("stable"), draft("default"))
        assert [e.continues is not None for e in store.events()[-2:]] == [True, False]
        check_chain(store)

    def test_of_the_first_transaction_continues_nothing_and_has_no_baseline(self, store):
        store.rollback(store.push(draft("default", node(1))))
        assert not store.events_file.exists()
        store.writer.heal()
        assert store.writer.standing() == "ended"
        assert store.writer.last_mark() is None
        assert store.writer.undone() == {"default": [node(1)]}
        store.push()
        assert store.events()[0].continuing
        assert store.events()[0].continues is None
        assert len(store.head().closed) == 1

    def test_of_a_transaction_that_appended_nothing_changes_nothing(self, store):
        store.push()
        before = store.head_file.read_bytes()
        store.writer.before_rollback(store.size())
        assert store.head_file.read_bytes() == before

    def test_of_a_commit_whose_head_was_never_written(self, store):
        store.push()
        appended = store.append(draft("default", node(2)))
        store.close()
        store.rollback(appended)
        assert store.writer.standing() == "ended"
        assert store.writer.undone() == {"default": [node(2)]}
        store.push()
        check_chain(store)

    def test_that_never_cut_the_file_is_forgotten(self, store):
        # Given a kill after the head was lowered
        store.push()
        appended = store.push()
        before = store.head()
        store.writer.before_rollback(appended.offset)
        assert store.head().sequence == 1
        # When the next transaction opens
        store.writer.heal()
        # Then the journal goes on as if nothing had been
        assert store.head() == before
        assert store.writer.standing() == "current"
        assert store.writer.undone() == {}

    def test_twice_tells_of_both(self, store):
        # Given a rollback that nobody was told of, then a mark alone, rolled back as well
        store.push()
        store.rollback(store.push(draft("default", node(1))))
        silent = store.append()
        store.close()
        store.writer.commit(silent)
        assert store.writer.undone() == {"default": [node(1)]}, "a mark tells nobody"
        store.rollback(silent)
        assert store.writer.undone() == {"default": [node(1)]}
        # and a rollback of the transaction that told: its removals must be told again
        told = store.push(draft("default", node(2), removed=[node(1)]))
        store.rollback(told)
        assert store.writer.undone() == {"default": [node(2), node(1)]}
        assert store.head().sequence == 0
        store.push()
        check_chain(store)

    def test_by_a_mercurial_without_the_extension_ends_the_journal(self, store):
        store.push(draft("default"), draft("stable"))
        appended = store.push(draft("default"))
        journal = store.head().journal
        store.cut(appended.offset)
        store.writer.heal()
        assert store.head().size == store.size()
        assert not store.index_file.exists()
        assert store.writer.standing() == "ended"
        store.push(draft("default"))
        assert store.events()[-1].continues.journal == journal
        check_chain(store)

    def test_beyond_the_beginning_of_the_journal(self, store):
        # Given a journal that took over, when more than all of it is cut
        store.push()
        second = store.push(draft("stable"))
        store.rollback(store.push())
        journal = store.head().journal
        store.push()
        assert store.head().start > second.offset
        store.rollback(second)
        head = store.head()
        assert (head.journal, head.sequence, head.size) == (journal, 1, second.offset)
        assert store.writer.standing() == "ended"
        store.push(draft("stable"), draft())
        check_chain(store)

    def test_with_an_unreadable_note_still_lets_push(self, store):
        store.push()
        store.rollback(store.push(draft("default", node(1))))
        (store.path / UNDONE).write_bytes(b'{"version":')
        assert store.writer.undone() == {}


class TestMoved:
    def test_a_copy_begins_a_journal_that_continues(self, store, tmp_path):
        store.push(draft("default"), draft("stable"))
        shutil.copytree(store.path, tmp_path / "copy")
        copy = Store(tmp_path / "copy", "team/copy")
        copy.writer.heal()
        assert copy.writer.standing() == "ended"
        assert copy.writer.last_mark() == mark(1)
        copy.revisions = 1
        copy.push()
        head = copy.head()
        assert (head.repo, head.closed[0].repo) == ("team/copy", "team/app")
        assert copy.events()[-1].repo == "team/copy"
        assert copy.events()[-1].continues.journal == store.head().journal
        assert copy.writer.standing() == "current"
        check_chain(copy)
        assert store.writer.standing() == "current"

    def test_a_renamed_repository_begins_a_journal(self, store):
        store.push()
        renamed = Store(store.path, "team/renamed")
        assert renamed.writer.standing() == "ended"
        renamed.push()
        assert len(renamed.head().closed) == 1

    def test_a_mark_alone_does_not_forget_the_move(self, store, tmp_path):
        store.push()
        shutil.copytree(store.path, tmp_path / "copy")
        copy = Store(tmp_path / "copy")
        copy.revisions = 5
        appended = copy.append()
        copy.close()
        copy.writer.commit(appended)
        assert copy.writer.standing() == "ended"

    def test_a_restored_backup_begins_a_journal(self, store, tmp_path):
        store.push()
        shutil.copytree(store.path, tmp_path / "backup")
        store.push(draft("stable"))
        shutil.rmtree(store.path)
        shutil.copytree(tmp_path / "backup", store.path)
        store.writer.heal()
        assert store.writer.standing() == "ended"
        store.push(draft("stable"))
        assert store.events()[-1].continues is None
        check_chain(store)

    def test_an_older_events_file_alone_begins_a_journal(self, store):
        # Given an events file restored without head and index
        store.push(draft("default"))
        old = store.events_file.read_bytes()
        store.push(draft("stable"), draft("default"))
        store.events_file.unlink()
        store.events_file.write_bytes(old)
        store.push(draft("stable"), draft("default"))
        assert [e.continues is None for e in store.events()] == [True, True, False]
        check_chain(store)

    def test_another_events_file_that_is_longer_begins_a_journal(self, store, tmp_path):
        store.push()
        other = Store(tmp_path / "other")
        other.push(draft("default"), draft("x", *map(node, range(20))))
        shutil.copyfile(other.events_file, store.events_file)
        store.writer.heal()
        assert store.writer.standing() == "ended"
        store.push(draft("x"))
        assert store.events()[-1].continues.journal == other.head().journal
        check_chain(store)

    def test_a_lost_head_is_rebuilt_and_ends_the_journal(self, store):
        store.push(draft("default"), draft("stable"))
        store.rollback(store.push())
        store.push(draft("stable"))
        lost = store.head()
        store.head_file.unlink()
        store.writer.heal()
        found = store.head()
        assert (found.journal, found.sequence, found.size) == (lost.journal, 1, lost.size)
        assert found.closed == lost.closed
        assert found.continuing
        assert store.writer.standing() == "ended"
        store.push(draft("default"))
        check_chain(store)

    @pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"version":1,"closed":[]}'])
    def test_a_broken_head_is_rebuilt(self, store, rubbish):
        store.push()
        before = store.head()
        store.head_file.write_bytes(rubbish)
        store.writer.heal()
        assert store.head().journal == before.journal
        assert store.writer.standing() == "ended"

    def test_a_head_of_a_newer_version_stops_the_writer(self, store):
        store.push()
        document = json.loads(store.head_file.read_bytes())
        store.head_file.write_text(json.dumps(document | {"version": 2}))
        with pytest.raises(NewerHead, match="version 2"):
            store.writer.heal()

    def test_removed_events_end_the_journal(self, store):
        store.push(draft("default"), draft("stable"))
        store.rollback(store.push())
        store.push()
        old = store.head()
        store.events_file.unlink()
        store.writer.heal()
        assert store.writer.standing() == "ended"
        assert store.writer.last_mark() is None
        head = store.head()
        assert (head.journal, head.first, head.sequence, head.size) == (old.journal, 2, 1, 0)
        store.push()
        closed = [(c.journal, c.first, c.sequence, c.start, c.size) for c in store.head().closed]
        assert closed == [
            (old.closed[0].journal, 3, 2, 0, 0),
            (old.journal, 2, 1, 0, 0),
        ]
        assert store.events()[0].continuing
        assert store.events()[0].continues is None

    def test_everything_removed_is_a_new_store(self, store):
        store.push()
        shutil.rmtree(store.path)
        store.path.mkdir()
        assert store.writer.standing() == "new"
        store.push()
        assert not store.events()[0].continuing

    def test_a_crash_after_a_takeover_still_ends_what_was_moved(self, store, tmp_path):
        # Given a copy whose first own transaction was committed without its head
        store.push()
        shutil.copytree(store.path, tmp_path / "copy")
        copy = Store(tmp_path / "copy", "team/copy")
        copy.append(draft())
        copy.close()
        copy.writer.heal()
        head = copy.head()
        assert (head.repo, len(head.closed)) == ("team/copy", 1)
        # Then nothing says that it was not copied once more: a third journal is the safe answer
        assert copy.writer.standing() == "ended"
        copy.push()
        check_chain(copy)


class TestTorn:
    def test_a_torn_tail_stops_the_writer_before_anything_changes(self, store):
        store.push()
        good = store.size()
        with store.events_file.open("ab") as file:
            file.write(frame(EVENT, b"x" * 200)[:-1])
        head = store.head_file.read_bytes()
        with pytest.raises(Torn) as caught:
            store.writer.heal()
        assert caught.value.offset == good
        assert "torn record at byte" in str(caught.value)
        assert store.head_file.read_bytes() == head
        with pytest.raises(Torn):
            store.writer.append(store._register, [draft()], mark(3), FakeSigner())

    def test_a_torn_first_record_stops_the_writer(self, store):
        store.events_file.write_bytes(b"garbage" * 10)
        with pytest.raises(Torn):
            store.writer.heal()

    @pytest.mark.parametrize(
        ("kind", "payload", "reason"),
        [
            (EVENT, bytes(96), "an event record of 96 bytes"),
            (EVENT, bytes(32) + b"s" * 64 + b"{}", "its certificate does not stand before"),
            (MARK, b"short", "a mark of 5 bytes"),
        ],
    )
    def test_a_sound_record_with_bad_contents_is_torn(self, store, kind, payload, reason):
        store.push()
        with store.events_file.open("ab") as file:
            file.write(frame(kind, payload))
        with pytest.raises(Torn, match=reason):
            store.writer.heal()

    @pytest.mark.parametrize("change", ["sequence", "journal", "malformed"])
    def test_an_event_out_of_place_is_torn(self, store, change):
        store.push()
        record = next(r for r in store.writer.stored() if r.kind == EVENT)
        found = read_signed(record)
        journal = store.head().journal.encode()
        event = {
            "sequence": found.event,
            "journal": found.event.replace(journal, b"0" * 32, 1),
            "malformed": b"{}",
        }[change]
        with store.events_file.open("ab") as file:
            payload = bytes.fromhex(found.certificate) + found.signature + event
            file.write(frame(EVENT, payload))
        with pytest.raises(Torn):
            store.writer.heal()

    def test_a_file_that_ends_without_a_mark_is_torn(self, store):
        store.push()
        with store.events_file.open("ab") as file:
            file.write(frame(200, b"x" * 28))
        store.writer.heal()
        with pytest.raises(Torn, match="no mark"):
            store.writer.last_mark()

    def test_a_record_too_long_is_never_written(self):
        with pytest.raises(ValueError, match="at most"):
            frame(EVENT, bytes(LONGEST))

    def test_a_signature_of_another_length_is_never_written(self, store):
        class Short(FakeSigner):
            def sign(self, _event: bytes) -> bytes:
                return b"short"

        with pytest.raises(ValueError, match="5 bytes"):
            store.append(draft(), signer=Short())
        store.recover()
        assert not store.events_file.exists()

    def test_unknown_kinds_are_skipped(self, store):
        store.push()
        with store.events_file.open("ab") as file:
            file.write(frame(77, b"from the future"))
        store.writer.heal()
        store.push()
        check_chain(store)


def test_commit_says_when_the_head_cannot_be_written(store):
    class Full(Directory):
        def write_atomic(self, _name: str, _data: bytes) -> None:
            raise OSError(28, "No space left on device")

    store.push()
    writer = Writer(Full(store.path), store.repo)
    appended = writer.append(lambda _name, _offset: None, [draft()], mark(2), FakeSigner())
    with pytest.raises(OSError, match="No space"):
        writer.commit(appended)
    store.writer.heal()
    assert store.head().sequence == 2
    store.push()
    check_chain(store)


def test_a_failed_replacement_leaves_the_old_file(tmp_path):
    files = Directory(tmp_path)
    (tmp_path / INDEX).mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_atomic(INDEX, b"data")
    assert [path.name for path in Path(tmp_path).iterdir()] == [INDEX]
