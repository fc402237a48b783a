"""Retention: whole leading transactions go, sequences and links stay."""

import json
import shutil
from datetime import datetime

import pytest
from unit.journal.stores import FakeSigner, Store, check_chain, draft, node

from hgext_zmqhooks.journal import origin as origin_module
from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.format import BRANCH, EVENT, ORIGIN, Record, Torn, frame, whole
from hgext_zmqhooks.journal.heads import NewerHead
from hgext_zmqhooks.journal.index import Index
from hgext_zmqhooks.journal.origin import Branch, open_events, read_branch
from hgext_zmqhooks.journal.prune import NEW, Limits
from hgext_zmqhooks.journal.reading import records
from hgext_zmqhooks.journal.telling import fold

DAYS = [f"2026-11-{day:02d}T12:00:00.000000Z" for day in range(1, 11)]


def moment(day: int) -> float:
    """The beginning of a day of November."""
    return datetime.fromisoformat(f"2026-11-{day:02d}T00:00:00+00:00").timestamp()


def filled(store: Store) -> Store:
    """A transaction a day, ten of them: `old` on the first, `default` on all, two events each."""
    store.push(draft("old", node(1), time=DAYS[0]), draft("default", time=DAYS[0]))
    for day in DAYS[1:]:
        store.push(draft("default", time=day), draft("stable", time=day))
    return store


def sequences(store: Store) -> list[int]:
    return [event.sequence for event in store.events()]


def told(store: Store) -> list[Branch]:
    with open_events(store.events_file) as source:
        cut = source.origin.cut
        found = records(source, source.base, cut)
        return [read_branch(record) for record in found if record.kind == BRANCH]


class TestWhatGoes:
    def test_transactions_before_a_moment(self, store):
        filled(store).prune(Limits(before=moment(4)))
        assert sequences(store) == list(range(7, 21))
        assert (store.head().first, store.head().sequence) == (7, 20)

    def test_the_newest_stays_however_old(self, store):
        filled(store).prune(Limits(before=moment(30)))
        assert sequences(store) == [19, 20]

    def test_the_newest_with_events_stays(self, store):
        filled(store)
        store.writer.commit(store.append())
        store.close()
        store.prune(Limits(before=moment(30)))
        assert sequences(store) == [19, 20]

    @pytest.mark.parametrize("size", [0, 3000, 5000])
    def test_what_is_beyond_a_size(self, store, size):
        filled(store).prune(Limits(size=size))
        with open_events(store.events_file) as source:
            kept = source.size - source.origin.cut
        newest = len(sequences(store)) == 2
        assert newest if size == 0 else kept <= size < kept + 2000

    def test_nothing(self, store):
        filled(store)
        before = {path.name: path.read_bytes() for path in store.path.iterdir()}
        for limits in (Limits(), Limits(before=moment(1)), Limits(size=1 << 20)):
            assert store.prune(limits) is None
        assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before

    def test_one_prune_may_be_bounded(self, store):
        filled(store)
        for _round in range(20):
            if store.prune(Limits(before=moment(9), drop=1)) is None:
                break
        assert sequences(store) == list(range(17, 21))


class TestWhatStays:
    def test_links_to_dropped_events_go_on(self, store):
        filled(store).prune(Limits(before=moment(9)))
        store.push(draft("old"), draft("default"), draft("new"))
        check_chain(store)
        old = store.events()[-3]
        assert old.previous
        assert old.previous.sequence == 1

    @pytest.mark.parametrize("lost", ["index", "nothing", "old index"])
    def test_the_index_holds_all_branches(self, store, lost):
        filled(store)
        before = store.index_file.read_bytes()
        store.prune(Limits(before=moment(9)))
        if lost == "index":
            store.index_file.unlink()
        elif lost == "old index":
            store.index_file.write_bytes(before)
        found = {name: Index(store.files, store.head()).last(name) for name in ("old", "default")}
        assert {name: last.sequence for name, last in found.items() if last} == {
            "old": 1,
            "default": 19,
        }

    def test_an_index_that_covers_only_what_was_dropped(self, store):
        store.push(draft("old"))
        before = store.index_file.read_bytes()
        store.push(draft("large", *map(node, range(100))))
        store.push(draft("default"))
        store.prune(Limits(size=0))
        with open_events(store.events_file) as source:
            assert source.base > 1000
        store.index_file.write_bytes(before)
        store.push(draft("old"))
        check_chain(store)

    def test_an_index_that_was_lost_before(self, store):
        filled(store).index_file.unlink()
        store.prune(Limits(before=moment(9)))
        store.push(draft("old"))
        check_chain(store)

    def test_again_and_again(self, store):
        filled(store)
        for day in range(2, 10):
            store.prune(Limits(before=moment(day)))
            store.push(draft("stable", time=DAYS[-1]))
            check_chain(store)
        assert {each.branch: each.sequence for each in told(store)}["old"] == 1
        assert not (store.path / NEW).exists()

    def test_what_dropped_events_told(self, store):
        filled(store).prune(Limits(before=moment(3)))
        assert {each.branch: (each.live, each.heads) for each in told(store)} == {
            name: ((node(7),), (node(8),)) for name in ("old", "default", "stable")
        }

    def test_very_many_nodes_are_several_records(self, monkeypatch):
        monkeypatch.setattr(origin_module, "NODES", 2)
        branch = Branch("b", "j", 3, "s", live=tuple("abcde"), heads=("h",))
        found = [read_branch(record) for record in whole(b"".join(branch.frames()), 0)]
        assert [(each.live, each.heads) for each in found] == [
            (("a", "b"), ("h",)),
            (("c", "d"), ()),
            (("e",), ()),
        ]

    def test_certificates_that_the_kept_events_name(self, store):
        filled(store).prune(Limits(before=moment(5)))
        follower = Follower(store.path)
        follower.poll()
        (info,) = follower.journals()
        assert (info.first, info.sequence) == (9, 20)
        assert {each.certificate for each in follower.read(info.journal, 0)} == {b"certificate-1"}
        store.push(draft(), signer=FakeSigner(b"certificate-2"))
        store.prune(Limits(size=0))
        store.push(draft(), signer=FakeSigner(b"certificate-2"))
        follower.poll()
        tokens = [each.certificate for each in follower.read(info.journal, 0)]
        assert tokens == [b"certificate-2"] * 2

    def test_journals_that_ended(self, store):
        filled(store)
        store.prune(Limits(before=moment(3)))
        renamed = Store(store.path, "team/other")
        renamed.push(draft("default", time=DAYS[-1]), draft("old", time=DAYS[-1]))
        renamed.push(draft("default", time=DAYS[-1]))
        check_chain(renamed)
        renamed.prune(Limits(before=moment(6)))
        check_chain(renamed)
        (closed,) = renamed.head().closed
        assert (closed.first, closed.sequence) == (11, 20)
        renamed.prune(Limits(size=0))
        (closed,) = renamed.head().closed
        assert (closed.first, closed.sequence) == (21, 20)
        renamed.prune(Limits(size=0))
        renamed.push(draft("stable"))
        check_chain(renamed)
        assert renamed.head().sequence == 4
        renamed.push(draft("stable"))
        renamed.prune(Limits(size=0))
        (closed,) = renamed.head().closed
        assert (closed.start, closed.size) == (0, 0)

    def test_counts(self, store):
        assert store.writer.pruning().kept == 0
        before = filled(store).writer.stat()
        store.prune(Limits(before=moment(3)))
        assert store.writer.pruning().kept == 16
        after = store.writer.stat()
        assert after[0] == store.size() < before[0]
        assert after[1] == store.base()

    def test_the_fold_begins_with_what_was_dropped(self, store):
        filled(store).prune(Limits(before=moment(3)))
        store.push(draft("default", node(9)))
        found = fold(store.writer.stored())
        assert found.live == {node(7): "old", node(9): "default"}
        assert found.heads == {name: {node(8)} for name in ("old", "default", "stable")}


class TestCrash:
    def test_a_head_from_before(self, store):
        filled(store)
        head = store.head_file.read_bytes()
        store.prune(Limits(before=moment(5)))
        after = store.head()
        store.head_file.write_bytes(head)
        late = Follower(store.path)
        late.poll()
        assert late.journals()[0].first == 9
        assert not late.moved
        store.writer.heal()
        assert store.head() == after
        store.push(draft())
        assert store.head().journal == after.journal

    def test_a_lost_head(self, store):
        filled(store).prune(Limits(before=moment(5)))
        journal = store.head().journal
        store.head_file.unlink()
        store.push(draft("old"))
        assert store.head().closed[0].journal == journal
        assert store.head().closed[0].first == 9
        check_chain(store)

    def test_a_copy_is_still_noticed(self, store, tmp_path):
        filled(store)
        head = store.head_file.read_bytes()
        store.prune(Limits(before=moment(5)))
        store.head_file.write_bytes(head)
        shutil.copytree(store.path, tmp_path / "copy")
        copy = Store(tmp_path / "copy")
        assert copy.writer.standing() == "ended"
        assert store.writer.standing() == "current"

    def test_an_abort_and_a_rollback_find_their_place(self, store):
        filled(store).prune(Limits(before=moment(5)))
        size = store.size()
        store.append(draft("default"))
        store.recover()
        assert store.size() == size
        store.push(draft("default"))
        assert store.writer.before_rollback(size)
        store.cut(size)
        assert sequences(store) == list(range(9, 21))
        store.push(draft("old"))
        check_chain(store)

    def test_a_rollback_into_the_journal_before(self, store):
        filled(store).prune(Limits(before=moment(5)))
        renamed = Store(store.path, "team/other")
        size = store.size()
        renamed.push(draft("default"))
        assert renamed.writer.before_rollback(size)
        renamed.cut(size)
        assert sequences(renamed) == list(range(9, 21))

    def test_a_journal_without_a_file(self, store):
        filled(store).prune(Limits(before=moment(5)))
        store.events_file.unlink()
        assert store.writer.standing() == "ended"
        store.push(draft("default"))
        assert sequences(store) == [1]


class TestDamage:
    def rewrite(self, store: Store, **changes) -> None:
        """Another origin in front, with a checksum that is right."""
        with open_events(store.events_file) as source:
            (first, *_rest) = records(source, source.base, source.size)
        document = {**json.loads(first.payload), **changes}
        data = store.events_file.read_bytes()[first.end - first.offset :]
        store.events_file.write_bytes(frame(ORIGIN, json.dumps(document).encode()) + data)

    @pytest.mark.parametrize(
        "changes",
        [
            {"behind": -1},
            {"behind": 2**64},
            {"behind": "x"},
            {"file": [1]},
            {"head": 3},
            {"head": {"closed": []}},
            {"former": None},
        ],
    )
    def test_an_origin_that_makes_no_sense_is_torn(self, store, changes):
        filled(store).prune(Limits(before=moment(5)))
        follower = Follower(store.path)
        self.rewrite(store, **changes)
        with pytest.raises(Torn):
            store.writer.standing()
        follower.poll()
        with pytest.raises(Torn):
            follower.read(follower.journals()[0].journal, 10)

        # And repair sets all aside
        size, _aside = store.writer.repair()
        assert size == store.size() == 0
        store.push(draft("default"))
        assert sequences(store) == [1]

    def test_a_newer_origin_is_left_alone(self, store):
        filled(store).prune(Limits(before=moment(5)))
        self.rewrite(store, version=2)
        for action in (store.writer.standing, store.writer.repair, Follower(store.path).poll):
            with pytest.raises(NewerHead):
                action()

    def test_a_torn_beginning(self, store):
        filled(store).prune(Limits(before=moment(5)))
        data = bytearray(store.events_file.read_bytes())
        data[60] ^= 1
        store.events_file.write_bytes(data)
        size, _aside = store.writer.repair()
        assert size == store.size() == 0

    def test_a_torn_record_behind_it(self, store):
        filled(store).prune(Limits(before=moment(5)))
        store.events_file.write_bytes(store.events_file.read_bytes() + b"torn")
        before = store.size()
        size, _aside = store.writer.repair()
        assert store.size() == before - 4 == size - store.base()
        assert sequences(store) == list(range(9, 21))
        store.push(draft("old"))
        check_chain(store)

    def test_an_event_that_makes_no_sense(self):
        payload = bytes(32 + 64) + b"{}"
        with pytest.raises(Torn, match="malformed-event"):
            fold([Record(0, EVENT, payload)])

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"[]",
            b"{}",
            b'{"branch":"b","journal":"j","sequence":-1,"sha256":"s"}',
            b'{"branch":"b","journal":"j","sequence":1,"sha256":"s","live":[1]}',
        ],
    )
    def test_a_branch_record_that_makes_no_sense(self, payload):
        with pytest.raises(Torn, match="told of a branch"):
            read_branch(Record(0, BRANCH, payload))


class TestReaders:
    def test_a_reader_goes_on_where_it_was(self, store):
        filled(store)
        follower = Follower(store.path)
        follower.poll()
        journal = store.head().journal
        assert [each.sequence for each in follower.read(journal, 0, 12)] == list(range(1, 13))
        store.prune(Limits(before=moment(6)))
        # Without a poll between
        assert [each.sequence for each in follower.read(journal, 12, 3)] == [13, 14, 15]
        assert follower.journals()[0].first == 11
        follower.poll()
        assert [each.sequence for each in follower.read(journal, 2, 3)] == [11, 12, 13]

    def test_a_prune_in_the_midst_of_reading(self, store, monkeypatch):
        filled(store)
        follower = Follower(store.path)
        follower.poll()
        journal = store.head().journal
        read = Follower._unchanged

        def first_prune(self):
            monkeypatch.undo()
            store.prune(Limits(before=moment(6)))
            return read(self)

        monkeypatch.setattr(Follower, "_unchanged", first_prune)
        found = follower.read(journal, 4, 3)
        assert [each.sequence for each in found] in ([5, 6, 7], [11, 12, 13])
