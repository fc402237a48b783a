"""What a reader of all events must believe exists."""

from collections.abc import Iterable

from hgext_zmqhooks.wire.events import Event
from hgext_zmqhooks.wire.fold import Fold
from hgext_zmqhooks.wire.values import (
    BASELINE,
    Changeset,
    Heads,
    Obsoleted,
    PhaseMove,
    Summary,
    Transaction,
)

A, B, C, D = (letter * 40 for letter in "abcd")


def event(*nodes: str, branch: str = "default", part: int = 1, **more: object) -> Event:
    values: dict[str, object] = {
        "repo": "app",
        "branch": branch,
        "journal": "1" * 32,
        "sequence": 1,
        "time": "2026-11-21T09:15:02.123456Z",
        "transaction": Transaction("t", "commit", part=part, parts=2),
        "changesets": tuple(changeset(node) for node in nodes),
    }
    return Event(**(values | more))  # type: ignore[arg-type]


def changeset(node: str) -> Changeset:
    return Changeset(node=node, parents=(), user="u", date="d", description="", phase="draft")


def folded(*events: Event) -> tuple[set[str], dict[str, set[str]]]:
    fold = Fold.of(events)
    return set(fold.live), fold.heads


def heads(added: Iterable[str], removed: Iterable[str] = (), tip: str | None = None) -> Heads:
    return Heads(tip, 1, tuple(added), tuple(removed))


def test_what_came_and_did_not_go_is_live_and_heads_move() -> None:
    came = event(A, B, heads=heads([B], tip=B))
    grew = event(C, heads=heads([C], [B], tip=C))

    assert folded(came, grew) == ({A, B, C}, {"default": {C}})


def test_what_was_removed_replaced_or_made_secret_is_gone() -> None:
    came = event(A, B, C, heads=heads([A, B, C], tip=C))
    went = event(
        D,
        removed=(A,),
        obsoleted=(Obsoleted(node=B, successors=(D,)),),
        phases=(PhaseMove(C, "draft", "secret"), PhaseMove(D, "draft", "public")),
        heads=heads([D], [B, C]),
    )

    assert folded(came, went) == ({D}, {"default": {D}})


def test_a_baseline_stands_for_all_before_it_and_its_later_parts_add_to_it() -> None:
    came = event(A, heads=heads([A]))
    first = event(type=BASELINE, summary=Summary(C, (B,), 7))
    second = event(type=BASELINE, part=2, summary=Summary(C, (C,), 7))

    live, found = folded(came, first, second)

    assert found == {"default": {B, C}}
    assert live == {A, B, C}


def test_an_event_without_heads_leaves_them() -> None:
    assert folded(event(A, heads=heads([A])), event()) == ({A}, {"default": {A}})


def test_what_is_not_kept_stands_for_the_events_before() -> None:
    fold = Fold()
    fold.begin("default", [A, B], [B])
    fold.begin("default", [C], [])
    fold.add(event(D, heads=heads([D], [B])))

    assert fold.live == dict.fromkeys([A, B, C, D], "default")
    assert fold.heads == {"default": {D}}


def test_a_ping_tells_nothing_not_even_that_a_branch_is_there() -> None:
    assert folded(event(origin="ping", heads=heads([A], tip=A))) == (set(), {})
