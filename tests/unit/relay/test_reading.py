import logging

import pytest
import relaykit
from relaykit import draft

from hgext_zmqhooks.journal.format import EVENTS, Torn
from hgext_zmqhooks.relay import reading
from hgext_zmqhooks.relay.catalog import scan
from hgext_zmqhooks.relay.reading import Cursor, Quiet
from hgext_zmqhooks.relay.shelf import Shelf
from hgext_zmqhooks.service.life import Throttle
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire.messages import MAX_BATCH
from hgext_zmqhooks.wire.session import Events, Follow
from hgext_zmqhooks.wire.topics import Pattern

ALL = (Pattern.parse(relaykit.EVERYTHING),)


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def open_shelf(place):
    shelf = Shelf(Counters(), Throttle(logging.getLogger("zmqhooks.relay")))
    shelf.update([one for one in scan((f"{place.hg}/**",)) if one], 0)
    return shelf


def drain(cursor, shelf, room=MAX_BATCH):
    """All batches of the only repository."""
    (repository,) = shelf
    batches = []
    while (found := cursor.next(shelf, repository, room)) is not Quiet.DONE:
        batches += [found] if isinstance(found, Events) else []
    return batches


def test_batches_have_at_most_a_thousand_records(place):
    place.repo().commit(*[draft(f"b{n % 9}") for n in range(2250)])
    batches = drain(Cursor(Follow((relaykit.EVERYTHING,), {}), ALL), open_shelf(place))
    assert [len(batch.records) for batch in batches] == [1000, 1000, 250]
    assert [len(batch.certificates) for batch in batches] == [1, 1, 1]


def test_batches_keep_to_their_room_and_hold_one_record_at_least(place):
    repo = place.repo()
    for _ in range(6):
        repo.commit(draft(removed=[b'"%040d"' % n for n in range(2500)]))  # about 100 kB
    shelf = open_shelf(place)
    batches = drain(Cursor(Follow((relaykit.EVERYTHING,), {}), ALL), shelf, room=250_000)
    assert [len(batch.records) for batch in batches] == [2, 2, 2]
    batches = drain(Cursor(Follow((relaykit.EVERYTHING,), {}), ALL), shelf, room=10)
    assert [len(batch.records) for batch in batches] == [1] * 6


def test_many_events_without_a_match_are_passed_in_pieces(place, monkeypatch):
    monkeypatch.setattr(reading, "LOOK_RECORDS", 20)
    monkeypatch.setattr(reading, "QUIET_RECORDS", 50)
    repo = place.repo()
    for _ in range(130):
        repo.commit()
    cursor = Cursor(Follow(("hg:**:never:",), {}), ALL)
    shelf = open_shelf(place)
    (repository,) = shelf
    assert cursor.next(shelf, repository, MAX_BATCH) is Quiet.LOOKING
    assert [batch.scanned for batch in drain(cursor, shelf)] == [60, 120, 130]


def test_a_torn_record_ends_the_batch_before_it_and_is_met_again(place):
    repo = place.repo()
    for _ in range(3):
        repo.commit()
    path = repo.store / EVENTS
    content = bytearray(path.read_bytes())
    content[content.rindex(b'"sequence":3')] ^= 1
    path.write_bytes(content)
    shelf = open_shelf(place)
    (repository,) = shelf
    cursor = Cursor(Follow((relaykit.EVERYTHING,), {}), ALL)
    found = cursor.next(shelf, repository, MAX_BATCH)
    assert (found.scanned, [record.sequence for record in found.records]) == (2, [1, 2])
    for _ in range(2):
        with pytest.raises(Torn):
            cursor.next(shelf, repository, MAX_BATCH)


def test_a_reader_with_narrower_rights_is_not_told_of_other_repositories(place):
    place.repo("secret").commit()
    cursor = Cursor(Follow((relaykit.EVERYTHING,), {}), (Pattern.parse("hg:team/*:*:"),))
    assert drain(cursor, open_shelf(place)) == []
