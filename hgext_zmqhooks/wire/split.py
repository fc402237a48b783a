"""Cutting a large transaction into events that are each within the limit.

Every list of a draft is spread over parts in its order; a part is full when its bytes are. One
changeset that is too large by itself loses the end of its description and file list and says so
with `truncated`. Very many heads are spread over the parts like the other lists; a few stand in
each part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .errors import Refused
from .events import MAX_LENGTH, Draft, Place, assemble, encode_item
from .values import LISTS, Changeset, Continued

LIMIT = 262_144
"""Bytes of the largest event that a publisher writes by default."""

_WIDEST = 2**63 - 1
_PLACE = Place(
    repo="",
    journal="0" * 32,
    sequence=_WIDEST,
    previous=None,
    continuing=True,
    continues=Continued("0" * 32, _WIDEST, "0" * 64),
)


def shrink(changeset: Changeset, limit: int) -> bytes:
    """The encoded changeset in at most `limit` bytes, cut and marked if it has to be.

    The description keeps at most half of the room, the files get the rest.

    >>> small = Changeset(node="0" * 40, parents=(), user="u", date="d", description="x" * 999,
    ...     phase="draft", files=("a", "b"))
    >>> len(shrink(small, 400)) <= 400, b'"truncated":true' in shrink(small, 400)
    (True, True)
    """
    encoded = encode_item(changeset)
    if len(encoded) <= limit:
        return encoded
    bare = replace(changeset, description="", files=(), truncated=True)
    room = limit - len(encode_item(bare))
    if room < 0:
        topic = None if bare.topic is None else _cut(bare.topic, limit // 8)
        bare = replace(bare, user=_cut(bare.user, limit // 4), topic=topic)
        room = limit - len(encode_item(bare))
    description = _cut(changeset.description, max(0, room // 2))
    room -= _width(description)
    return encode_item(
        replace(bare, description=description, files=tuple(_fitting(changeset.files, room)))
    )


def _width(text: str) -> int:
    """Bytes of a text inside JSON, without its quotes."""
    return len(encode_item(text)) - 2


def _cut(text: str, room: int) -> str:
    """The longest beginning that takes at most `room` bytes in JSON."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _width(text[:middle]) <= room else (low, middle - 1)
    return text[:low]


def _fitting(files: Sequence[str], room: int) -> Iterator[str]:
    for name in files:
        room -= _width(name) + 3
        if room < 0:
            return
        yield name


def room(draft: Draft, repo: str, limit: int) -> int:
    """Bytes that one event of this draft has for list items, whatever its place will be."""
    widest = replace(
        draft,
        lists={},
        transaction=replace(draft.transaction, part=_WIDEST, parts=_WIDEST),
    )
    keys = sum(len(name) + len(',"":[]') for name in LISTS)
    return limit - len(assemble(widest, replace(_PLACE, repo=repo))) - keys


def parts(draft: Draft, repo: str, limit: int = LIMIT) -> list[dict[str, list[bytes]]]:
    """The lists of each part; one part, maybe without any item, for a draft that fits.

    An item larger than a whole event's room stands alone in its part: `shrink` sees to it that
    no changeset is; a bookmark with a monstrous name may be. Refused "too-large" where an event
    would be larger than any reader takes: written, it would stop the journal for all of them.
    """
    free = room(draft, repo, limit)
    most = free + MAX_LENGTH - limit
    if most < 0:
        raise Refused("too-large", f"branch {draft.branch[:80]!r}: its name does not fit an event")
    out: list[dict[str, list[bytes]]] = [{}]
    used = 0
    for name in LISTS:
        for item in draft.lists.get(name, ()):
            if len(item) + 1 > most:
                raise Refused("too-large", f"one of {name} has {len(item)} bytes: {item[:80]!r}")
            if used and used + len(item) + 1 > free:
                out.append({})
                used = 0
            out[-1].setdefault(name, []).append(item)
            used += len(item) + 1
    return out


def drafts(draft: Draft, repo: str, limit: int = LIMIT) -> Iterator[Draft]:
    """The draft of each part, numbered; `Draft.lists` and long heads are spread over them."""
    heads = _spread_heads(draft, max(1, limit // 8 // _NODE_WIDTH))
    lists = parts(replace(heads[0], lists=draft.lists), repo, limit)
    count = max(len(lists), len(heads) - 1)
    for number in range(count):
        yield replace(
            heads[min(number, len(heads) - 1)],
            lists=lists[number] if number < len(lists) else {},
            transaction=replace(draft.transaction, part=number + 1, parts=count),
        )


_NODE_WIDTH = len('"",') + 40


def _spread_heads(draft: Draft, size: int) -> list[Draft]:
    """The draft itself where its heads are few; else drafts of `size` nodes, the last of none."""
    added, removed = (draft.heads.added, draft.heads.removed) if draft.heads else ((), ())
    summed = draft.summary.heads if draft.summary else ()
    total = len(added) + len(removed) + len(summed)
    if total <= size:
        return [draft]
    out, behind_added, behind_removed = [], len(added), len(added) + len(removed)
    for start in range(0, total + size, size):
        end = start + size
        out.append(
            replace(
                draft,
                heads=draft.heads
                and replace(
                    draft.heads,
                    added=added[start:end],
                    removed=_window(removed, start - behind_added, end - behind_added),
                ),
                summary=draft.summary
                and replace(
                    draft.summary,
                    heads=_window(summed, start - behind_removed, end - behind_removed),
                ),
            )
        )
    return out


def _window(nodes: tuple[str, ...], start: int, end: int) -> tuple[str, ...]:
    return nodes[max(0, start) : max(0, end)]
