"""JSON from outside: every reader sees the same, and an error names the key."""

import re

import pytest

from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.reader import Reader, parse


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        '{"a":"é"}'.encode("latin-1"),
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'["\\ud83d", "\\ude00"]',
        b'"\n"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b"{}x",
    ],
)
def test_what_readers_could_take_differently_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(data)

    assert not isinstance(caught.value, Refused)


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    assert parse(b'["\\ud83d\\ude00", "\\u0000"]') == ["😀", "\0"]
    assert parse('{"a":"😀"}') == {"a": "😀"}


def test_a_nesting_that_reads_but_cannot_be_walked_is_refused() -> None:
    # Given nesting around what Python's reader takes, and an escape, which makes us walk the value
    def reads(depth: int) -> bool:
        try:
            parse(b"[" * depth + b'"\\u0041"' + b"]" * depth)
        except ValueError:
            return False
        return True

    # When all depths are read, from small to large
    outcomes = [reads(depth) for depth in range(100, 100_000, 499)]

    # Then they are read up to one depth and refused from there on
    assert outcomes[0]
    assert not outcomes[-1]
    assert outcomes == sorted(outcomes, reverse=True)


@pytest.fixture
def reader() -> Reader:
    return Reader(
        {
            "text": "abc",
            "number": 7,
            "null": None,
            "flag": True,
            "list": ["a", "b"],
            "objects": [{"x": 1}],
            "object": {"x": 2},
            "float": 1.0,
            "huge": 2**63,
        },
        "bad-thing",
        "data.",
    )


WORD = re.compile("[a-z]+")


def test_values_of_the_right_type_are_given(reader: Reader) -> None:
    assert reader.text("text", WORD) == "abc"
    assert reader.maybe("text") == "abc"
    assert reader.maybe("null") is reader.maybe("absent") is None
    assert reader.number("number", 7) == 7
    assert reader.flag("flag")
    assert not reader.flag("absent")
    assert reader.texts("list", WORD) == ("a", "b")
    assert reader.texts("absent") == ()
    assert reader.each("objects", lambda item: item.number("x")) == (1,)
    assert reader.inside("object", lambda item: item.number("x")) == 2
    assert reader.perhaps("object", lambda item: item.number("x")) == 2
    assert reader.perhaps("null", lambda item: item.number("x")) is None
    assert reader.mapping("object") == {"x": 2}
    assert reader.mapping("absent") == {}
    assert reader.get("float") == 1.0
    assert "null" in reader
    assert "absent" not in reader


@pytest.mark.parametrize(
    ("take", "detail"),
    [
        (lambda r: r.text("number"), "data.number is not text"),
        (lambda r: r.text("absent"), "data.absent is not text"),
        (lambda r: r.text("text", re.compile("x")), "data.text is not text of the form x"),
        (lambda r: r.number("flag"), "data.flag is not a whole number from 0"),
        (lambda r: r.number("float"), "data.float is not a whole number from 0"),
        (lambda r: r.number("huge"), "data.huge is not a whole number from 0"),
        (lambda r: r.number("number", 8), "data.number is not a whole number from 8"),
        (lambda r: r.flag("number"), "data.number is not true or false"),
        (lambda r: r.items("object"), "data.object is not a list"),
        (lambda r: r.items("null"), "data.null is not a list"),
        (lambda r: r.texts("objects"), "data.objects is not a list of text"),
        (
            lambda r: r.texts("list", re.compile("a")),
            "data.list is not a list of text of the form a",
        ),
        (lambda r: r.each("list", str), "data.list[] is not a JSON object"),
        (lambda r: r.inside("text", str), "data.text is not a JSON object"),
        (lambda r: r.perhaps("list", str), "data.list is not a JSON object"),
        (lambda r: r.mapping("list"), "data.list is not an object"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(reader: Reader, take, detail: str) -> None:
    with pytest.raises(Refused) as caught:
        take(reader)

    assert (caught.value.kind, caught.value.detail) == ("bad-thing", detail)


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(Refused, match="bad-thing: it is not a JSON object"):
        Reader([], "bad-thing")
