"""Splitting keeps every item in order, and every event within the limit."""

from dataclasses import replace

import wirekit
import wirestrategies as draw
from hypothesis import given, settings
from hypothesis import strategies as st

from hgext_zmqhooks.wire import events, split
from hgext_zmqhooks.wire.reader import parse
from hgext_zmqhooks.wire.values import LISTS, Changeset, Draft, Heads, Link, Place, Summary

HOSTILE = st.text('a\0"\\é😀/:%*', min_size=1, max_size=150)
many_nodes = st.integers(0, 120).map(lambda n: tuple(f"{i:040x}" for i in range(n)))
LIMIT = 6000
ITEM = LIMIT // 3


@st.composite
def drafts(draw_: st.DrawFn) -> Draft:
    """A transaction with hostile names, whose changesets were shrunk as the extension does."""
    monstrous = st.builds(lambda piece, times: piece * times, HOSTILE, st.integers(0, 60))
    changesets = st.builds(
        replace,
        draw.changesets,
        description=monstrous,
        user=monstrous,
        topic=st.none() | monstrous,
        files=st.lists(monstrous, max_size=3).map(tuple),
    )
    lists = {
        name: draw_(st.lists(item.map(events.encode_item), max_size=3)) * draw_(st.integers(1, 30))
        for name, item in draw.items.items()
    }
    lists["changesets"] = [
        split.shrink(changeset, ITEM) for changeset in draw_(st.lists(changesets, max_size=6))
    ]
    heads = st.builds(Heads, draw.maybe_node, st.integers(0, 9), many_nodes, many_nodes)
    return Draft(
        branch=draw_(HOSTILE),
        time=wirekit.EVENT.time,
        transaction=wirekit.EVENT.transaction,
        pusher=draw_(st.none() | draw.pushers),
        heads=draw_(st.none() | heads),
        summary=draw_(st.none() | st.builds(Summary, draw.nodes, many_nodes, st.just(1))),
        lists=lists,
    )


@settings(deadline=2000)
@given(drafts(), HOSTILE)
def test_parts_hold_everything_in_order_and_within_the_limit(draft: Draft, repo: str) -> None:
    """The parts' lists joined are the draft's lists, and no event is larger than the limit."""
    parts = list(split.drafts(draft, repo, LIMIT))

    previous = Link(2**63 - 2, "f" * 64)
    for number, part in enumerate(parts, 1):
        place = Place(repo=repo, journal="f" * 32, sequence=2**63 - 1, previous=previous)
        data = events.assemble(part, place)
        assert len(data) <= LIMIT
        event = events.decode(data)
        assert (event.transaction.part, event.transaction.parts) == (number, len(parts))
        assert (event.branch, event.repo) == (draft.branch, repo)
    for name in LISTS:
        joined = [item for part in parts for item in part.lists.get(name, ())]
        assert joined == draft.lists.get(name, [])
    if draft.heads:
        added = dict.fromkeys(node for part in parts for node in part.heads.added)
        removed = dict.fromkeys(node for part in parts for node in part.heads.removed)
        assert (tuple(added), tuple(removed)) == (draft.heads.added, draft.heads.removed)
    if draft.summary:
        heads = dict.fromkeys(node for part in parts for node in part.summary.heads)
        assert tuple(heads) == draft.summary.heads


@settings(deadline=2000)
@given(draw.changesets, HOSTILE, st.integers(0, 400), st.integers(700, 3000))
def test_a_shrunk_changeset_fits_and_only_loses_ends(
    changeset: Changeset, piece: str, times: int, limit: int
) -> None:
    """What is left of a text or list is its beginning, and `truncated` says that something went."""
    whole = replace(changeset, description=piece * times, files=(piece,) * times)

    data = split.shrink(whole, limit)

    assert len(data) <= limit
    left = parse(data)
    assert whole.description.startswith(left["description"])
    assert list(whole.files[: len(left["files"])]) == left["files"]
    assert left["node"] == whole.node
    assert left["truncated"] or data == events.encode_item(whole)
