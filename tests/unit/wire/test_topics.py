"""Topics and patterns: one name, one spelling; a pattern of a peer costs little."""

import time

import pytest

from hgext_zmqhooks.wire import topics
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.topics import Pattern


def kind(call, *arguments) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.kind


@pytest.mark.parametrize(
    ("raw", "encoded"),
    [
        ("default", "default"),
        ("a:b", "a%3Ab"),
        ("100%", "100%25"),
        ("*?", "%2A%3F"),
        ("\x00\x1f\x7f", "%00%1F%7F"),
        ("\x85", "%C2%85"),
        ("é 漢 😀 /", "é 漢 😀 /"),
        ("%41", "%2541"),
    ],
)
def test_a_name_has_one_spelling_in_a_topic(raw: str, encoded: str) -> None:
    assert topics.encode_part(raw) == encoded
    assert topics.decode_part(encoded) == raw


@pytest.mark.parametrize(
    "spelling",
    ["%41", "%3a", "%", "%3", "a:b", "*", "?", "\n", "%FF", "%C2", "%C2%C2", "%ED%A0%80"],
)
def test_any_other_spelling_is_refused(spelling: str) -> None:
    assert kind(topics.decode_part, spelling) == "bad-topic"


def test_names_that_only_look_alike_have_different_topics() -> None:
    # Given a name with a composed letter and one with a combining accent
    composed, combined = "caf\u00e9", "cafe\u0301"

    # When both become topics
    made = {topics.topic("hg:app", composed), topics.topic("hg:app", combined)}

    # Then nothing made them the same
    assert len(made) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hg:a:b",
        "hg:a:b:c",
        "hg:a:b:c:",
        "hg::b:",
        "hg:a::",
        ":a:b:",
        "HG:a:b:",
        "1:a:b:",
        "hg:a:" + "b" * topics.MAX_LENGTH + ":",
        "hg:a%41:b:",
    ],
)
def test_what_is_no_topic_is_refused(text: str) -> None:
    assert kind(topics.split, text) == "bad-topic"


def test_a_source_splits_into_scheme_and_decoded_name() -> None:
    assert topics.split_source("hg:a%3Ab") == ("hg", "a:b")


@pytest.mark.parametrize("text", ["", "hg", "hg:", ":a", "Hg:a", "hg:a:b"])
def test_what_is_no_source_is_refused(text: str) -> None:
    assert kind(topics.split_source, text) == "bad-topic"


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("hg:team/*:default:", "hg:team/app:default:", True),
        ("hg:team/*:default:", "hg:team/a/b:default:", False),
        ("hg:team/**:default:", "hg:team/a/b:default:", True),
        ("hg:**:default:", "hg:app:default:", True),
        ("hg:app:release-?:", "hg:app:release-1:", True),
        ("hg:app:release-?:", "hg:app:release-12:", False),
        ("hg:app:a?b:", "hg:app:a/b:", False),
        ("hg:app:default:", "hg:app:default-2:", False),
        ("hg:**:default:", "hg:a:default:x:", False),
        ("hg:app:.*:", "hg:app:xx:", False),
        ("hg:app:[ab]:", "hg:app:a:", False),
        ("hg:a***b:x:", "hg:a/b:x:", True),
        ("hg:*a**b/*c:x:", "hg:xa/yb/zc:x:", True),
        ("hg:*a**b/*c:x:", "hg:x/a/yb/zc:x:", False),
        ("hg:*a?*b:x:", "hg:1ax2b:x:", True),
        ("hg:*a?*b:x:", "hg:1ab:x:", False),
        ("hg:*a*b:**:", "hg:ab:x/y:", True),
        ("hg:*a*b:**:", "git:ab:x:", False),
        ("hg:app:caf\u00e9:", "hg:app:cafe\u0301:", False),
    ],
)
def test_what_a_pattern_matches(pattern: str, topic: str, fits: bool) -> None:
    assert Pattern.parse(pattern).matches(topic) is fits
    assert topics.matches_any([Pattern.parse(pattern)], topic) is fits


def test_no_pattern_matches_nothing() -> None:
    assert not topics.matches_any([], "hg:a:b:")


@pytest.mark.parametrize(
    ("pattern", "source", "fits"),
    [
        ("hg:team/*:rel-*:", "hg:team/app", True),
        ("hg:team/*:rel-*:", "hg:team/a/b", False),
        ("hg:*a*b:x:", "hg:aab", True),
    ],
)
def test_which_repositories_a_pattern_may_concern(pattern: str, source: str, fits: bool) -> None:
    assert Pattern.parse(pattern).matches_source(source) is fits


@pytest.mark.parametrize(
    "text",
    [
        "hg:a:b",
        "**",
        "*:a:b:",
        "hg:a\n:b:",
        "hg:a\x85:b:",
        "hg:%41*:b:",
        "hg:%C2*%85:b:",
        "hg:a%:b:",
        "hg:\ud800:b:",
        "hg:a:" + "*a" * topics.MAX_LENGTH + ":",
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    assert kind(Pattern.parse, text) == "bad-pattern"


def test_the_prefix_ends_before_the_first_wildcard() -> None:
    assert Pattern.parse("hg:team/a?p:x:").prefix == "hg:team/a"
    assert Pattern.parse("hg:a:b:").prefix == "hg:a:b:"


HOSTILE = {
    "runs that cross": "**a" * 1300 + "b",
    "runs that do not": "*a" * 2000 + "b",
    "runs that touch": "*" * 4000 + "b",
    "single characters around a run": "?" * 2000 + "*" + "?" * 2000,
    "a long end": "**" + "a" * 4000 + "b",
    "a run at each end": "**" + "a" * 2000 + "**b",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pattern_costs_milliseconds(name: str) -> None:
    """A backtracking matcher needs longer than the age of the universe for most of these."""
    # Given a pattern as long as allowed, and a topic that nearly fits in many ways
    pattern = Pattern.parse(f"hg:{name}:x:")
    topic = "hg:" + "a" * 4000 + ":x:"

    # When it is matched
    start = time.thread_time()
    fits = pattern.matches(topic)
    spent = time.thread_time() - start

    # Then that was soon decided (some milliseconds; the bound is for slow machines)
    assert spent < 2
    assert fits is (name.startswith("?"))


def test_time_grows_with_the_length_of_the_topic_and_no_faster() -> None:
    # Given a pattern with many runs, and a topic of a length and of eight times that
    pattern = Pattern.parse("hg:" + "**a" * 100 + "b:x:")

    def spent(length: int) -> float:
        topic = "hg:" + "a" * length + ":x:"
        times = []
        for _ in range(5):
            start = time.thread_time()
            pattern.matches(topic)
            times.append(time.thread_time() - start)
        return min(times)

    # Then the time is about eight times as long, not eight squared
    assert spent(16_000) < 30 * spent(2_000)


@pytest.mark.parametrize(
    ("left", "right", "met"),
    [
        ("hg:a:default:", "hg:a:default:", True),
        ("hg:a:default:", "hg:a:default-2:", False),
        ("hg:**:default:", "hg:team/*:*:", True),
        ("hg:team/*:**:", "hg:team/a/b:**:", False),
        ("hg:team/**:**:", "hg:team/a/b:**:", True),
        ("hg:*a:x:", "hg:b*:x:", True),
        ("hg:a?:x:", "hg:a/:x:", False),
        ("hg:??:x:", "hg:*:x:", True),
        ("hg:**:release-*:", "hg:**:default:", False),
        ("hg:**:**:", "buildkite:**:**:", False),
    ],
)
def test_patterns_meet_where_a_topic_fits_both(left: str, right: str, *, met: bool) -> None:
    one, other = topics.Pattern.parse(left), topics.Pattern.parse(right)

    assert one.meets(other) is met
    assert other.meets(one) is met


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        ("hg:a:default:", "hg:a:default:", True),
        ("hg:a:default:", "hg:**:**:", True),
        ("hg:a:default:", "hg:*:de*t:", True),
        ("hg:a:default-2:", "hg:a:default:", False),
        ("hg:a:default:", "hg:a:default-2:", False),
        ("hg:team/*:*:", "hg:team/**:**:", True),
        ("hg:team/**:*:", "hg:team/*:**:", False),
        ("hg:team/*:**:", "hg:team/*:*:", False),
        ("hg:team/a?:x:", "hg:team/a*:x:", True),
        ("hg:team/a*:x:", "hg:team/a?:x:", False),
        ("hg:team/a?:x:", "hg:team/a?:x:", True),
        ("hg:team/a/b:x:", "hg:team/*:x:", False),
        ("hg:a/:x:", "hg:a?:x:", False),
        ("hg:**:**:", "hg:team/**:**:", False),
        ("buildkite:a:b:", "hg:**:**:", False),
        # The last two say the same, and wildcards are compared as they stand.
        ("hg:?*:x:", "hg:*?:x:", False),
    ],
)
def test_a_pattern_lies_within_another(inner: str, outer: str, *, within: bool) -> None:
    assert topics.Pattern.parse(inner).within(topics.Pattern.parse(outer)) is within
