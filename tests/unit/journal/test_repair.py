"""Repair: a damaged journal is cut behind its last sound transaction, the rest is kept."""

import pytest
from unit.journal.stores import Store, check_chain, draft, node

from hgext_zmqhooks.journal.format import HEAD, INDEX, MARK, MARK_LENGTH, UNDONE, Torn


def flip(store: Store, offset: int) -> bytes:
    """Change one bit of the events file; return what it held before."""
    before = store.events_file.read_bytes()
    damaged = bytearray(before)
    damaged[offset] ^= 1
    store.events_file.write_bytes(damaged)
    return before


def ends(store: Store) -> list[int]:
    """Where the transactions end."""
    return [record.end for record in store.writer.stored() if record.kind == MARK]


def kept(store: Store) -> bytes:
    (aside,) = store.path.glob("zmqhooks-events-damaged-*")
    return aside.read_bytes()


def test_a_sound_journal_is_left_alone(store):
    assert store.writer.repair() is None
    store.push(draft("default", node(1)))
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}

    assert store.writer.repair() is None
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


def test_damage_in_the_middle_is_cut_behind_the_transaction_before_it(store):
    # Given three transactions, and a bit flipped in the second
    for number in (1, 2, 3):
        store.push(draft("default", node(number)))
    first = ends(store)[0]
    before = flip(store, first + 200)
    damaged = store.events_file.read_bytes()
    store.index_file.unlink()

    # When it is repaired, then only the first is left, and all the rest is in a file aside
    size, _name = store.writer.repair()
    assert size == first == store.size()
    assert store.events_file.read_bytes() == before[:first]
    assert kept(store) == damaged[first:]
    assert not (store.path / INDEX).exists()

    # And the next event begins a new journal, which continues that one
    former = store.head().journal
    assert store.writer.standing() == "ended"
    store.push(draft("default", node(4)))
    last = store.events()[-1]
    assert (last.continues.journal, last.continues.sequence) == (former, 1)
    check_chain(store)


def test_what_a_torn_transaction_told_is_undone(store):
    # Given a transaction whose mark, the last record, is damaged
    store.push(draft("default", node(1)))
    store.push(draft("stable", node(2)))
    flip(store, store.size() - 3)
    with pytest.raises(Torn):
        store.writer.last_mark()

    store.writer.repair()

    assert store.writer.undone() == {"stable": [node(2)]}


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\xff" * 40, b"\0"])
def test_a_torn_tail_is_cut(store, tail):
    store.push(draft("default", node(1)))
    before = store.events_file.read_bytes()
    store.events_file.write_bytes(before + tail)
    with pytest.raises(Torn):
        store.writer.heal()

    store.writer.repair()

    assert store.events_file.read_bytes() == before
    assert kept(store) == tail
    store.push(draft("default", node(2)))
    assert len(store.events()) == 2


def test_a_journal_without_a_sound_transaction_is_remembered(store):
    store.push(draft("default", node(1)))
    former = store.head().journal
    flip(store, 10)

    assert store.writer.repair()[0] == 0

    assert store.writer.standing() == "ended"
    assert store.writer.last_mark() is None
    store.push(draft("default", node(2)))
    assert [region.journal for region in store.head().closed] == [former]


def test_a_missing_end_of_the_file_is_repaired(store):
    # Given a file that lost the mark of its last transaction
    store.push(draft("default", node(1)))
    store.push(draft("default", node(2)))
    first = ends(store)[0]
    store.events_file.write_bytes(store.events_file.read_bytes()[:-MARK_LENGTH])

    assert store.writer.repair()[0] == first
    assert store.writer.undone() == {"default": [node(2)]}


def test_a_repair_that_was_killed_before_the_cut_can_be_made_again(store, monkeypatch):
    store.push(draft("default", node(1)))
    good = store.size()
    store.push(draft("default", node(2)))
    flip(store, good + 200)

    def killed(_name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patching:
        patching.setattr(store.files, "patch", killed)
        with pytest.raises(KeyboardInterrupt):
            store.writer.repair()
    assert store.head().size == good < store.size()

    assert store.writer.repair()[0] == good
    assert store.size() == good
    assert (store.path / HEAD).exists()


def test_a_rollback_that_cannot_cut_the_file_is_refused(store):
    # Given a file that is shorter than where the last transaction began
    store.push(draft("default", node(1)))
    store.push(draft("default", node(2)))
    cut = ends(store)[0]
    store.events_file.unlink()
    head = store.head_file.read_bytes()

    assert store.writer.before_rollback(cut) is False
    assert store.head_file.read_bytes() == head


@pytest.mark.parametrize(
    "text", ["", "[]", '"x"', '{"journal":"%s"}', '{"journal":"%s","branches":1}']
)
def test_a_damaged_list_of_what_was_undone_is_void(store, text):
    store.push(draft("default", node(1)))
    store.rollback(store.push(draft("default", node(2))))
    assert store.writer.undone() == {"default": [node(2)]}

    (store.path / UNDONE).write_text(text.replace("%s", store.head().journal))

    assert store.writer.undone() == {}
