"""The index: a shortcut that is never believed without a look at the record."""

import os
import random

import pytest
from unit.journal.stores import Store, check_chain, draft

from hgext_zmqhooks.journal import index as index_module
from hgext_zmqhooks.journal.format import EVENTS
from hgext_zmqhooks.journal.index import Index, Place, key
from hgext_zmqhooks.journal.reading import Source

HEADER = 64
SLOT = 32


def last(store: Store, branch: str):
    return Index(store.files, store.head()).last(branch)


def truth(store: Store) -> dict[str, int]:
    return {event.branch: event.sequence for event in store.events()}


def check(store: Store) -> None:
    for branch, sequence in truth(store).items():
        found = last(store, branch)
        assert found
        assert found.sequence == sequence
    assert last(store, "never seen") is None


def filled(store: Store, branches: int = 20) -> Store:
    store.push(*[draft(f"branch-{number}") for number in range(branches)])
    store.push(draft("branch-3"), draft("branch-7"))
    return store


@pytest.fixture
def scans(monkeypatch) -> list[tuple[int, int]]:
    """Which parts of the events file are scanned."""
    seen = []

    def scan(source, start, end):
        seen.append((start, end))
        return original(source, start, end)

    original = index_module._scan
    monkeypatch.setattr(index_module, "_scan", scan)
    return seen


def test_an_empty_store_has_no_last_event(store):
    assert Index(store.files, store.writer._settled()).last("default") is None


def test_it_answers_without_scanning(store, scans):
    filled(store)
    scans.clear()
    check(store)
    assert {end - start for start, end in scans} == {0}


def test_it_grows_with_the_branches(store, scans):
    filled(store)
    store.push(*[draft(f"many-{number}") for number in range(500)])
    scans.clear()
    for number in range(600):
        store.push(draft(f"more-{number}"))
    check(store)
    assert {end - start for start, end in scans} == {0}
    slots = (store.index_file.stat().st_size - HEADER) // SLOT
    assert slots > 2 * 1100


def test_it_is_made_anew_when_missing(store):
    filled(store)
    before = store.index_file.read_bytes()
    store.index_file.unlink()
    check(store)
    store.push(draft("branch-3"))
    check(store)
    check_chain(store)
    assert len(store.index_file.read_bytes()) >= len(before)


def test_an_older_one_is_completed_by_a_scan_of_what_is_new(store, scans):
    filled(store)
    old, covered = store.index_file.read_bytes(), store.size()
    store.push(draft("branch-1"), draft("new"))
    store.push(draft("branch-2"))
    store.index_file.write_bytes(old)
    scans.clear()
    check(store)
    assert set(scans) == {(covered, store.size())}
    store.push(draft("branch-4"))
    check_chain(store)
    check(store)


def test_a_commit_completes_an_older_one_that_nobody_asked(store):
    # Given an index left behind by a kill, and a transaction that needs no lookup
    filled(store)
    old = store.index_file.read_bytes()
    store.push(draft("branch-1"))
    store.index_file.write_bytes(old)
    appended = store.append()
    store.close()
    store.writer.commit(appended)
    check(store)


def test_one_of_another_journal_is_not_believed(store, tmp_path):
    filled(store)
    other = filled(Store(tmp_path / "other"))
    store.index_file.write_bytes(other.index_file.read_bytes())
    check(store)


def test_a_newer_one_is_not_believed(store):
    filled(store)
    newer = store.push(draft("branch-1"))
    later = store.index_file.read_bytes()
    store.rollback(newer)
    store.index_file.write_bytes(later)
    check(store)
    store.push(draft("branch-1"))
    check_chain(store)


@pytest.mark.parametrize("length", [0, 10, HEADER, HEADER + 5 * SLOT, HEADER + 64 * SLOT - 1])
def test_a_half_written_one_is_made_anew(store, length):
    filled(store)
    os.truncate(store.index_file, length)
    check(store)
    store.push(draft("branch-5"), draft("other"))
    check(store)
    check_chain(store)


def test_no_damage_makes_it_lie(store):
    # Whatever byte is overwritten, the answers are right
    filled(store, 30)
    good = store.index_file.read_bytes()
    chance = random.Random(7)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(chance.choice([1, 1, 40])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        store.index_file.write_bytes(bad)
        check(store)
    store.push(*[draft(f"branch-{number}") for number in range(30)])
    check_chain(store)


@pytest.mark.parametrize("place", [Place(0, 5), Place(1, 5), Place(10**9, 5), Place(-1, 4)])
def test_a_slot_that_points_elsewhere_is_found_out(store, place):
    # Given slots with a right checksum whose record is a certificate, none, beyond the file, and
    # the event of another branch
    filled(store)
    if place.offset < 0:
        place = Place(next(r.offset for r in store.writer.stored() if r.kind == 2), 4)
    wanted = key("branch-4")
    data = bytearray(store.index_file.read_bytes())
    at = data.index(wanted)
    data[at : at + SLOT] = index_module._slot(wanted, place)
    store.index_file.write_bytes(data)
    check(store)
    store.push(draft("branch-4"))
    check_chain(store)


def empty_slot_of(store: Store, branch: str) -> None:
    """As after a power cut that let the header reach the disk and this slot not."""
    data = bytearray(store.index_file.read_bytes())
    at = data.index(key(branch))
    data[at : at + SLOT] = bytes(SLOT)
    store.index_file.write_bytes(data)


@pytest.mark.parametrize("number", range(20))
def test_a_slot_that_is_gone_restarts_no_chain(store, number):
    # Given a table in which some branches stand behind others, and a slot of it that is zeros
    filled(store)
    empty_slot_of(store, f"branch-{number}")
    check(store)
    # When each branch goes on, then its events name the ones before them
    store.push(draft("new"), draft("branch-0"))
    store.push(*[draft(f"branch-{other}") for other in range(20)])
    check_chain(store)
    check(store)


def test_a_slot_that_is_gone_is_made_anew(store, scans):
    filled(store)
    empty_slot_of(store, "branch-4")
    store.push(draft("new"))
    scans.clear()
    check(store)
    assert {end - start for start, end in scans} == {0}


def test_a_table_with_a_slot_gone_does_not_grow_without_it(store):
    filled(store, 30)
    empty_slot_of(store, "branch-20")
    appended = store.append(*[draft(f"branch-{number}") for number in range(19)])
    store.close()
    store.writer.commit(appended)
    assert set(Index(store.files, store.head()).places()) == {key(name) for name in truth(store)}


def test_a_full_table_does_not_loop(store):
    filled(store, 40)
    slot = index_module._slot(key("a stranger"), Place(1, 1))
    header = store.index_file.read_bytes()[:HEADER]
    slots = int.from_bytes(header[16:24], "big")
    store.index_file.write_bytes(header + slot * slots)
    check(store)
    store.push(draft("branch-1"))
    check(store)


def test_probing_goes_round_the_end_of_the_table(store):
    # Given more branches that want the last slots than there are
    names = [name for name in map(str, range(4000)) if index_module._home(key(name), 64) >= 62]
    store.push(draft(names[0]))
    for name in names[1:25]:
        store.push(draft(name))
    check(store)
    assert store.index_file.stat().st_size == HEADER + 64 * SLOT


def test_a_removed_index_does_not_disturb_the_commit(store):
    filled(store)
    appended = store.append(draft("branch-1"))
    store.close()
    store.index_file.unlink()
    store.writer.commit(appended)
    check(store)
    with Source.open(store.path / EVENTS) as source:
        assert source.stat().st_size == store.head().size


def test_damage_met_while_growing_is_repaired(store):
    filled(store, 30)
    appended = store.append(*[draft(f"more-{number}") for number in range(100)])
    store.close()
    data = bytearray(store.index_file.read_bytes())
    data[data.index(key("branch-20")) + 20] ^= 1
    store.index_file.write_bytes(data)
    store.writer.commit(appended)
    check(store)
