"""A cheap look at the end of a journal finds what would stop the next push."""

import pytest
from unit.journal.stores import Store, draft, node

from hgext_zmqhooks.journal import ends
from hgext_zmqhooks.journal.ends import torn
from hgext_zmqhooks.journal.format import HEAD, MARK_LENGTH, frame
from hgext_zmqhooks.journal.heads import NewerHead
from hgext_zmqhooks.journal.prune import Limits


def pushed(store: Store) -> None:
    for number in (1, 2, 3):
        store.push(draft("default", node(number)))


def append(store: Store, data: bytes) -> None:
    with store.events_file.open("ab") as file:
        file.write(data)


def test_a_store_without_a_journal_and_a_sound_one(store):
    assert torn(store.files, None, tail=True) is None
    store.events_file.touch()
    assert torn(store.files, None, tail=True) is None
    pushed(store)
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}

    assert torn(store.files, store.head(), tail=True) is None
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


def test_a_sound_journal_that_was_shortened(store):
    pushed(store)
    assert store.prune(Limits(size=1))

    assert torn(store.files, store.head(), tail=True) is None


def test_half_a_record_behind_the_head(store):
    pushed(store)
    size = store.size()
    append(store, b"half a record")

    assert torn(store.files, store.head(), tail=True).offset == size
    assert torn(store.files, store.head(), tail=False) is None, "somebody writes at this moment"


def test_behind_the_head_no_more_is_read_than_a_crash_leaves(store, monkeypatch):
    pushed(store)
    append(store, b"half a record")
    monkeypatch.setattr(ends, "TAIL", 5)

    assert torn(store.files, store.head(), tail=True) is None


def test_a_flipped_bit_in_the_last_record(store):
    pushed(store)
    data = bytearray(store.events_file.read_bytes())
    data[-1] ^= 1
    store.events_file.write_bytes(data)

    assert "wrong checksum" in str(torn(store.files, store.head(), tail=False))


def test_a_file_that_lost_its_last_bytes(store):
    pushed(store)
    with store.events_file.open("r+b") as file:
        file.truncate(store.size() - 3)

    assert torn(store.files, store.head(), tail=True) is not None


def test_a_file_that_ends_with_an_event(store):
    pushed(store)
    with store.events_file.open("r+b") as file:
        file.truncate(store.size() - MARK_LENGTH)

    assert torn(store.files, store.head(), tail=True) is not None


def test_without_a_head_a_small_file_is_looked_through(store):
    pushed(store)
    (store.path / HEAD).unlink()
    assert torn(store.files, None, tail=True) is None
    data = bytearray(store.events_file.read_bytes())
    data[40] ^= 1
    store.events_file.write_bytes(data)

    assert torn(store.files, None, tail=True).reason == "wrong checksum"


@pytest.mark.parametrize("tail", [True, False])
def test_a_file_whose_end_is_another_kind_of_record(store, tail):
    pushed(store)
    head = store.head()
    data = store.events_file.read_bytes()[:-MARK_LENGTH]
    store.events_file.write_bytes(data + frame(9, bytes(28)))

    assert "no mark" in str(torn(store.files, head, tail=tail))


def test_the_head_as_far_as_it_can_be_read(store):
    assert ends.head(store.files) is None
    pushed(store)
    assert ends.head(store.files) == store.head()
    store.head_file.write_bytes(b"{")
    assert ends.head(store.files) is None
    store.head_file.write_bytes(b'{"version": 99}')
    with pytest.raises(NewerHead):
        ends.head(store.files)
