"""Records and heads: exact bytes, and what is refused."""

import json

import pytest
from unit.journal.stores import Store, draft

from hgext_zmqhooks.journal.format import (
    EVENT,
    EVENTS,
    LONGEST,
    MARK,
    MARK_LENGTH,
    Frame,
    Mark,
    Record,
    Torn,
    fingerprint,
    frame,
    read_frame,
    read_mark,
    read_signed,
    scan,
    signed,
    whole,
)
from hgext_zmqhooks.journal.glance import Glance, glance
from hgext_zmqhooks.journal.heads import BadHead, Closed, Head, NewerHead, decode
from hgext_zmqhooks.journal.reading import CHUNK, Source, frames, record_at, records
from hgext_zmqhooks.wire import events

SHA = fingerprint(b"token")


def test_a_record_has_these_very_bytes():
    data = frame(MARK, Mark(258, b"\x11" * 20).encode())
    assert data.hex() == "0000001d" + "c9c5240c" + "03" + "0000000000000102" + "11" * 20
    assert len(data) == MARK_LENGTH


def test_records_come_back_as_they_were_written():
    payload = signed(SHA, b"s" * 64, b"{}")
    data = frame(1, b"token") + frame(EVENT, payload) + frame(9, b"")
    found = list(scan(data, 100))
    assert found == [Record(100, 1, b"token"), Record(114, EVENT, payload), Record(221, 9, b"")]
    assert found[-1].end == 100 + len(data)
    assert read_signed(found[1]) == (SHA, b"s" * 64, b"{}")
    assert read_mark(Record(0, MARK, Mark(3, b"t" * 20).encode())) == Mark(3, b"t" * 20)


def test_whole_stops_before_an_incomplete_record_and_scan_calls_it_torn():
    data = frame(1, b"one") + frame(1, b"two")
    for cut in range(1, len(frame(1, b"two"))):
        short = data[:-cut]
        assert [record.payload for record in whole(short, 0)] == [b"one"]
        with pytest.raises(Torn) as caught:
            list(scan(short))
        assert caught.value.offset == len(frame(1, b"one"))


@pytest.mark.parametrize("length", [0, LONGEST + 1, 2**32 - 1])
def test_an_absurd_length_is_torn(length):
    with pytest.raises(Torn, match=f"length {length}"):
        read_frame(length.to_bytes(4, "big") + bytes(5), 7)


def test_every_flipped_bit_of_a_record_is_torn():
    data = frame(EVENT, b"payload")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Torn):
            list(scan(bytes(flipped)))


HEAD = Head(
    journal="a" * 32,
    repo="team/äpp",
    first=3,
    sequence=9,
    start=100,
    size=700,
    continuing=True,
    dev=1,
    ino=2,
    certificate=SHA,
    closed=(Closed("b" * 32, "team/old", 1, 4, 0, 100),),
)


def test_a_head_comes_back_as_it_was_written():
    assert decode(HEAD.encode()) == HEAD
    assert decode(Head().encode()) == Head()
    assert json.loads(HEAD.encode())["version"] == 1


def test_a_head_may_have_keys_that_nobody_knows_yet():
    assert decode(json.dumps(json.loads(HEAD.encode()) | {"more": [1]}).encode()) == HEAD


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"version": "1"},
        {"journal": None},
        {"sequence": -1},
        {"sequence": True},
        {"sequence": 1.0},
        {"ended": 0},
        {"closed": None},
        {"closed": [1]},
        {"closed": [{}]},
        {"start": 701},
        {"first": 11},
        {"sequence": 2**63},
        {"size": 2**63},
        {"ino": 2**64},
    ],
    ids=str,
)
def test_a_head_with_another_form_is_refused(change):
    with pytest.raises(BadHead):
        decode(json.dumps(json.loads(HEAD.encode()) | change).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"7", b"null"])
def test_what_is_no_json_object_is_no_head(data):
    with pytest.raises(BadHead):
        decode(data)


def test_a_newer_head_is_not_taken_for_a_bad_one():
    with pytest.raises(NewerHead):
        decode(b'{"version":2}')


def test_a_head_knows_whose_bytes_are_whose():
    assert HEAD.journal_at(0) == ""
    assert HEAD.journal_at(100) == "b" * 32
    assert HEAD.journal_at(101) == "a" * 32
    assert HEAD.journal_at(701) == ""


class TestGlance:
    @pytest.mark.parametrize("branch", ["default", 'a"b\\c', "ü", "tab\there", "x" * 300])
    def test_sees_what_decoding_sees(self, tmp_path, branch):
        store = Store(tmp_path)
        store.push(draft(branch))
        (data,) = store.event_bytes()
        event = events.decode(data)
        assert glance(0, data) == Glance(branch, event.journal, 1, event.time)

    def test_decodes_what_another_encoder_wrote(self, tmp_path):
        store = Store(tmp_path)
        store.push(draft("stable"))
        (data,) = store.event_bytes()
        other = json.dumps(json.loads(data)).encode()
        assert glance(0, other) == glance(0, data)

    def test_calls_the_rest_torn(self):
        with pytest.raises(Torn, match="malformed-event"):
            glance(5, b"{}")


class TestReading:
    def test_records_longer_than_a_chunk_come_whole(self, tmp_path):
        payloads = [b"a" * 10, b"b" * (2 * CHUNK), b"c" * (CHUNK - 20), b"d" * 5000]
        path = tmp_path / EVENTS
        path.write_bytes(b"".join(frame(1, payload) for payload in payloads))
        with Source.open(path) as source:
            end = source.stat().st_size
            found = list(records(source, 0, end))
            assert [record.payload for record in found] == payloads
            assert list(frames(source, 0, end)) == [Frame(r.offset, 1, r.end) for r in found]
            assert record_at(source, found[1].offset, end) == found[1]

    def test_a_record_beyond_the_end_is_torn(self, tmp_path):
        path = tmp_path / EVENTS
        path.write_bytes(frame(1, b"a" * 10) + frame(1, b"b" * 10))
        with Source.open(path) as source:
            for end in range(20, 38):
                for read in (records, frames):
                    with pytest.raises(Torn):
                        list(read(source, 0, end))

    def test_a_file_shorter_than_promised_is_torn(self, tmp_path):
        path = tmp_path / EVENTS
        data = frame(1, b"a" * 6000)
        for length in (0, 4, 5000):
            path.write_bytes(data[:length])
            with Source.open(path) as source, pytest.raises(Torn):
                record_at(source, 0, len(data))
