"""Whatever bytes an events file or a head holds, reading ends in values or in one known error."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from hgext_zmqhooks.journal.format import (
    Record,
    Torn,
    frame,
    read_mark,
    read_signed,
    scan,
)
from hgext_zmqhooks.journal.glance import glance
from hgext_zmqhooks.journal.heads import BadHead, Head, NewerHead, decode, extend

payloads = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), max_size=5)


@given(st.binary(max_size=300))
@example(bytes(9))
@example(b"\xff" * 9)
def test_scanning_any_bytes_gives_records_or_torn(data):
    """Any bytes are whole records one behind another, up to the end or to where it is Torn."""
    end, torn = 0, None
    try:
        for record in scan(data):
            assert record.offset == end
            end = record.end
    except Torn as caught:
        torn = caught.offset
    assert torn == (None if end == len(data) else end)


@given(payloads)
def test_what_was_framed_comes_back(contents):
    """Records that were framed are read as they were."""
    data = b"".join(frame(kind, payload) for kind, payload in contents)
    assert [(record.kind, record.payload) for record in scan(data)] == contents


@given(payloads.filter(bool), st.data())
def test_a_changed_byte_never_gives_another_record(contents, data):
    """Who changes one byte is caught at its record, and what stands before it is read."""
    good = b"".join(frame(kind, payload) for kind, payload in contents)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    found = []
    try:
        found.extend((record.kind, record.payload) for record in scan(bytes(bad)))
    except Torn:
        assert found == contents[: len(found)]
    else:
        raise AssertionError("the change was not seen")


@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_payload_is_a_value_or_torn(payload, kind):
    """Whatever a whole record holds, it is a value or Torn."""
    record = Record(7, kind, payload)
    for read in (read_signed, read_mark, lambda r: glance(r.offset, r.payload)):
        with suppress(Torn):
            read(record)


@given(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=150)), max_size=4))
def test_extending_by_any_records_gives_a_head_or_torn(contents):
    """The head that any records say reaches to their end, or they are Torn."""
    data = b"".join(frame(kind, payload) for kind, payload in contents)
    with suppress(Torn):
        assert extend(Head(), scan(data), len(data)).size == len(data)


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_head_or_refused(data):
    """A head that is read is read again as itself from what it encodes to."""
    with suppress(BadHead, NewerHead):
        assert decode(decode(data).encode()) == decode(data)


heads = st.builds(
    Head,
    journal=st.text(max_size=40),
    repo=st.text(max_size=40),
    first=st.integers(1, 5),
    sequence=st.integers(5, 2**60),
    start=st.integers(0, 9),
    size=st.integers(9, 2**60),
    ended=st.booleans(),
    continuing=st.booleans(),
    ino=st.integers(0, 2**64 - 1),
)


@given(heads)
def test_a_head_comes_back_as_it_was_written(head):
    """Decode undoes encode."""
    assert decode(head.encode()) == head
