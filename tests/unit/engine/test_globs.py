"""Globs: what fits, and that no text from outside can hold the daemon."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriber.engine.globs import Glob, Globs, Walk, glob_expression

globs = st.lists(st.sampled_from(["**/", "**", "*", "?", "/", "a", "b"]), max_size=7).map("".join)
texts = st.text("ab/", max_size=9)


@pytest.mark.parametrize(
    ("glob", "fits", "not_fits"),
    [
        ("", [""], ["a"]),
        ("*", ["a", ""], ["a/b"]),
        ("**", ["a", "a/b", "a\nb"], []),
        ("src/**", ["src/a", "src/a/b"], ["src", "xsrc/a"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "a/bx"]),
        ("a/**/x", ["a/x", "a/b/x"], ["ax", "a/bx"]),
        ("**/a/**/*.p?", ["a/x.py", "b/a/c/d/x.py"], ["ba/x.py", "a/x.p/"]),
        ("?", ["a", "é"], ["/", "ab", ""]),
        ("a.b", ["a.b"], ["axb"]),
        ("[ab]{c,d}", ["[ab]{c,d}"], ["a", "ac"]),
    ],
)
def test_what_fits(glob: str, fits: list[str], not_fits: list[str]) -> None:
    for machine in (Glob(glob), Walk(glob), Globs(["no", glob])):
        assert [text for text in fits if not machine.fits(text)] == []
        assert [text for text in not_fits if machine.fits(text)] == []


@given(globs, texts)
def test_walking_agrees_with_the_regular_expression(glob: str, text: str) -> None:
    """Both ways of matching say the same."""
    expected = re.fullmatch(glob_expression(glob), text, re.DOTALL) is not None
    assert Walk(glob).fits(text) is expected
    assert Glob(glob).fits(text) is expected


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        ("*@*.example.com", "@" * 200_000),
        ("*@example.com*", "@example.com" * 18_000 + "/"),
        ("*a*a*a*a*a*b", "a" * 250),
        ("**/a/**/a/**/a/**/b", "a/" * 2000),
    ],
)
def test_a_text_made_to_be_slow_takes_no_longer_than_others(glob: str, text: str) -> None:
    """A regular expression takes minutes for each of them, and stops all threads meanwhile."""
    before = time.thread_time()
    assert not Glob(glob).fits(text)
    assert time.thread_time() - before < 5
