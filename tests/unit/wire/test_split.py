"""Splitting: every event within the limit, nothing lost, cut or kept back without a word."""

import pytest
import wirekit

from hgext_zmqhooks.wire import events, split
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.values import Changeset, Continued, Draft, Heads, Place, Summary

REPO = "team/app"
LIMIT = 4096


def draft(**changes) -> Draft:
    return Draft(
        branch=changes.pop("branch", "default"),
        time=wirekit.EVENT.time,
        transaction=wirekit.EVENT.transaction,
        **changes,
    )


def nodes(count: int, start: int = 0) -> tuple[str, ...]:
    return tuple(f"{number:040x}" for number in range(start, start + count))


def items(names: tuple[str, ...]) -> list[bytes]:
    return [events.encode_item(name) for name in names]


def assembled(part: Draft) -> bytes:
    """At the place that takes most bytes."""
    continues = Continued("f" * 32, 2**63 - 1, "f" * 64)
    place = Place(
        repo=REPO,
        journal=wirekit.JOURNAL,
        sequence=2**63 - 1,
        previous=None,
        continuing=True,
        continues=continues,
    )
    return events.assemble(part, place)


def test_what_fits_is_one_part() -> None:
    [part] = split.drafts(draft(lists={"removed": items(nodes(3))}), REPO, LIMIT)

    assert part.lists == {"removed": items(nodes(3))}
    assert (part.transaction.part, part.transaction.parts) == (1, 1)


def test_a_draft_without_items_is_one_part_too() -> None:
    assert split.parts(draft(), REPO, LIMIT) == [{}]


def test_lists_are_spread_in_order_and_each_event_is_within_the_limit() -> None:
    # Given much more than fits
    lists = {"phases": items(nodes(200)), "removed": items(nodes(300, start=1000))}

    # When it is split
    parts = list(split.drafts(draft(lists=lists), REPO, LIMIT))

    # Then each part fits, says its number, and all of them hold everything in order
    assert all(len(assembled(part)) <= LIMIT for part in parts)
    assert [part.transaction.part for part in parts] == list(range(1, len(parts) + 1))
    assert {part.transaction.parts for part in parts} == {len(parts)}
    for name, whole in lists.items():
        assert [item for part in parts for item in part.lists.get(name, ())] == whole


def test_an_item_larger_than_the_limit_stands_alone() -> None:
    large = events.encode_item("x" * LIMIT)
    lists = {"removed": [*items(nodes(1)), large, *items(nodes(1))]}

    assert [part["removed"] for part in split.parts(draft(lists=lists), REPO, LIMIT)] == [
        items(nodes(1)),
        [large],
        items(nodes(1)),
    ]


def test_an_item_that_no_reader_would_take_is_refused() -> None:
    lists = {"removed": [b"x" * events.MAX_LENGTH]}

    with pytest.raises(Refused, match="too-large: one of removed"):
        split.parts(draft(lists=lists), REPO)


def test_a_branch_that_no_reader_would_take_is_refused() -> None:
    with pytest.raises(Refused, match="too-large: branch"):
        split.parts(draft(branch="ü" * events.MAX_LENGTH), REPO)


def test_few_heads_stand_in_every_part() -> None:
    heads = Heads(nodes(1)[0], 2, nodes(2), ())
    lists = {"removed": items(nodes(300))}

    parts = list(split.drafts(draft(lists=lists, heads=heads), REPO, LIMIT))

    assert len(parts) > 1
    assert all(part.heads == heads for part in parts)


@pytest.mark.parametrize("removed", [0, 3, 700])
@pytest.mark.parametrize("listed", [0, 3, 1500])
def test_many_heads_are_spread_like_the_lists(removed: int, listed: int) -> None:
    # Given a transaction that gives a branch more heads than an event can hold
    heads = Heads(nodes(1)[0], 900, nodes(900), nodes(removed, start=5000))
    summary = Summary(nodes(1)[0], nodes(500), 10_000)
    lists = {"removed": items(nodes(listed))}

    # When it is split
    parts = list(split.drafts(draft(lists=lists, heads=heads, summary=summary), REPO, LIMIT))

    # Then each event fits and together they say the same
    assert all(len(assembled(part)) <= LIMIT for part in parts)
    assert sum((part.heads.added for part in parts if part.heads), ()) == heads.added
    assert sum((part.heads.removed for part in parts if part.heads), ()) == heads.removed
    assert sum((part.summary.heads for part in parts if part.summary), ()) == summary.heads
    assert [item for part in parts for item in part.lists.get("removed", ())] == lists["removed"]
    assert {(part.heads.tip, part.heads.count) for part in parts if part.heads} == {
        (heads.tip, heads.count)
    }


def test_many_heads_of_a_baseline_alone() -> None:
    summary = Summary(nodes(1)[0], nodes(500), 10_000)

    parts = list(split.drafts(draft(summary=summary), REPO, LIMIT))

    assert sum((part.summary.heads for part in parts if part.summary), ()) == summary.heads
    assert all(part.heads is None and part.summary and part.summary.heads for part in parts)


CHANGESET = Changeset(
    node="a" * 40,
    parents=("b" * 40, "c" * 40),
    user="Alice",
    date="2026-11-21T10:15:00+01:00",
    description="Fix it",
    phase="draft",
    files=("a", "b"),
)


def shrunk(limit: int = 1000, **changes) -> Changeset:
    from dataclasses import replace

    from hgext_zmqhooks.wire.events import _changeset
    from hgext_zmqhooks.wire.reader import Reader, parse

    data = split.shrink(replace(CHANGESET, **changes), limit)
    assert len(data) <= limit
    return _changeset(Reader(parse(data), "malformed-event"))


def test_a_changeset_that_fits_is_left_alone() -> None:
    assert shrunk() == CHANGESET


def test_a_long_description_loses_its_end_and_says_so() -> None:
    found = shrunk(description="0123456789" * 200)

    assert found.truncated
    assert ("0123456789" * 200).startswith(found.description)
    assert len(found.description) > 200
    assert found.files == ("a", "b")


def test_a_long_list_of_files_loses_its_end_and_says_so() -> None:
    files = tuple(f"src/{number}" for number in range(1000))

    found = shrunk(files=files)

    assert found.truncated
    assert found.description == "Fix it"
    assert len(found.files) > 10
    assert files[: len(found.files)] == found.files


def test_characters_are_cut_whole() -> None:
    found = shrunk(description='😀"\0' * 999)

    assert ('😀"\0' * 999).startswith(found.description)


@pytest.mark.parametrize("field", ["user", "topic"])
def test_a_monstrous_name_is_cut_too(field: str) -> None:
    found = shrunk(**{field: "\0" * 100_000}, description="x" * 9999, files=("f" * 9999,))

    assert found.truncated
    assert len(getattr(found, field)) < 100
    assert found.files == ()
