"""Topics are unique and prefix-free; patterns mean what a slow matcher says."""

import re
from functools import cache

import wirestrategies as draw
from hypothesis import given
from hypothesis import strategies as st

from hgext_zmqhooks.wire import topics
from hgext_zmqhooks.wire.topics import Pattern, Walk, glob_expression

places = st.tuples(draw.schemes, draw.names, draw.names)


def topic_of(place: tuple[str, str, str]) -> str:
    scheme, name, subject = place
    return topics.topic(topics.source(scheme, name), subject)


@given(places, places)
def test_no_topic_is_another_or_a_prefix_of_it(one: tuple, other: tuple) -> None:
    """Two different places never share a topic, and none is a prefix of the other."""
    if one != other:
        assert not topic_of(one).startswith(topic_of(other))
        assert not topic_of(other).startswith(topic_of(one))


@given(places, st.sampled_from(["", "-2", ":", "/x", "\x85"]))
def test_a_longer_name_is_another_topic(place: tuple[str, str, str], more: str) -> None:
    """A name that begins with another is no subscription to it."""
    scheme, name, subject = place
    longer = topic_of((scheme, name, subject + more))
    assert longer.startswith(topic_of(place)) is (more == "")


@given(places)
def test_a_topic_gives_back_its_place(place: tuple[str, str, str]) -> None:
    """Split undoes topic."""
    assert topics.split(topic_of(place)) == place


@given(places)
def test_a_topic_is_a_pattern_of_itself(place: tuple[str, str, str]) -> None:
    """A name never acts as a wildcard: as a pattern it fits one topic, and is its own prefix."""
    topic = topic_of(place)
    assert Pattern.parse(topic).matches(topic)
    assert Pattern.parse(topic).prefix == topic


def reference(pattern: str, topic: str) -> bool:
    """What the words of the design say, by trying everything."""

    @cache
    def fits(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(topic)
        if pattern.startswith("**", p):
            return fits(p + 2, t) or (t < len(topic) and topic[t] != ":" and fits(p, t + 1))
        if pattern[p] == "*":
            return fits(p + 1, t) or (t < len(topic) and topic[t] not in ":/" and fits(p, t + 1))
        if t == len(topic):
            return False
        if pattern[p] == "?":
            return topic[t] not in ":/" and fits(p + 1, t + 1)
        return pattern[p] == topic[t] and fits(p + 1, t + 1)

    return fits(0, 0)


def variant(pattern: Pattern, data: st.DataObject) -> str:
    """A topic that fits the pattern, or nearly."""
    out = []
    for token in topics._tokens(pattern.text):
        if token in {"*", "**"}:
            out.append(data.draw(st.text("ab/é" if token == "**" else "abé/", max_size=3)))
        else:
            out.append(data.draw(st.sampled_from("ab/é")) if token == "?" else token)
    return "".join(out)


@given(draw.patterns, draw.short_topics, st.data())
def test_a_pattern_agrees_with_the_reference(
    pattern: Pattern, topic: str, data: st.DataObject
) -> None:
    """Both ways of matching say what the reference says."""
    for text in (topic, variant(pattern, data)):
        expected = reference(pattern.text, text)
        assert pattern.matches(text) is expected
        assert Walk(pattern.text).fits(text) is expected
        assert bool(re.fullmatch(glob_expression(pattern.text), text)) is expected


@given(draw.patterns, draw.short_topics, st.data())
def test_prefix_and_source_never_hide_a_match(
    pattern: Pattern, topic: str, data: st.DataObject
) -> None:
    """A topic that fits begins with the prefix, and its source fits too."""
    for text in (topic, variant(pattern, data)):
        if pattern.matches(text):
            assert text.startswith(pattern.prefix)
            assert pattern.matches_source(text.rsplit(":", 2)[0])


@given(draw.patterns, draw.short_topics)
def test_a_source_that_fits_has_a_topic_that_fits(pattern: Pattern, topic: str) -> None:
    """matches_source is no wider than it says: with a fitting subject the topic fits."""
    source = topic.rsplit(":", 2)[0]
    subject = "".join(
        {"*": "", "**": "", "?": "a"}.get(token, token)
        for token in topics._tokens(pattern.text.split(":")[2])
    )
    assert pattern.matches_source(source) is pattern.matches(f"{source}:{subject}:")


@given(draw.patterns, draw.patterns, st.data())
def test_a_topic_of_a_pattern_that_lies_within_another_fits_that(
    inner: Pattern, outer: Pattern, data: st.DataObject
) -> None:
    """Whoever may ask for a pattern within the allowed ones gets nothing beyond these."""
    text = variant(inner, data)
    if inner.matches(text) and inner.within(outer):
        assert outer.matches(text)
    assert inner.within(inner)
    if "*" not in inner.text and "?" not in inner.text:
        assert inner.within(outer) is outer.matches(inner.text)
