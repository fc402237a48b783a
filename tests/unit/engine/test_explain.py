"""Why a rule does not take an event: the key that is to be changed, and what it met."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hgext_zmqhooks.wire.values import (
    BASELINE,
    Changeset,
    Event,
    Heads,
    Move,
    PhaseMove,
    Pusher,
    Summary,
    Transaction,
)
from subscriber.engine import explain, rules
from subscriber.engine.explain import why_not
from subscriber.engine.rules import CHANGES, ORIGINS, RuleSpec, compile_rule

NODE = "1f" * 20


def changeset(user="Alice", phase="draft", files=("src/a.py",), **more):
    return Changeset(
        node=NODE,
        parents=(),
        user=user,
        date="2026-11-21T10:15:00+01:00",
        description="x",
        phase=phase,
        files=files,
        **more,
    )


def event(**changes):
    values = {
        "repo": "team/app",
        "branch": "default",
        "journal": "9f" * 16,
        "sequence": 1,
        "time": "2026-11-21T09:15:02.123456Z",
        "transaction": Transaction("t", "serve", "serve"),
        "pusher": Pusher("alice", "ssh"),
        "heads": Heads(NODE, 1, added=(NODE,)),
        "changesets": (changeset(),),
    }
    return Event(**{**values, **changes})


def said(one, **spec):
    rule = compile_rule(RuleSpec(**{"name": "build", "topics": ("hg:**:**:",), **spec}))
    return [str(unmet) for unmet in why_not(rule, [one])]


@pytest.mark.parametrize(
    ("spec", "change", "reason"),
    [
        (
            {"topics": ("hg:lib:*:", "hg:**:stable:")},
            {},
            "topic: hg:team/app:default: fits none of hg:lib:*:, hg:**:stable:",
        ),
        ({}, {"origin": "ping"}, "origin: it is ping, the rule takes catchup, live, revealed"),
        ({"origins": ("baseline",)}, {}, "origin: it is live, the rule takes baseline"),
        ({"pushers": ("bob",)}, {}, "pusher: alice fits none of bob"),
        (
            {"pushers": ("bob",)},
            {"pusher": None},
            "pusher: nobody that is known fits none of bob",
        ),
        ({"changes": ("tags",)}, {}, "changes: it has none of tags, it has changesets"),
        ({"files": ("docs/**",)}, {}, "files: src/a.py: fits none of docs/**"),
        ({"users": ("Bob*",)}, {}, "user: Alice: fits none of Bob*"),
        ({"phases": ("public",)}, {}, "phase: draft: fits none of public"),
        (
            {"phases": ("public",)},
            {"changesets": ()},
            "phase: no changeset: fits none of public",
        ),
        (
            {"users": ("A*",), "files": ("b",)},
            {"changesets": (changeset("A", files=("a",)), changeset("B", files=("b",)))},
            "files, user: each is met, but no changeset meets all of them",
        ),
        ({"each": "head"}, {"heads": None}, "each: the event has no new head"),
        ({"each": "changeset"}, {"changesets": ()}, "each: the event has no changeset that fits"),
    ],
)
def test_the_key_and_what_it_met_are_named(spec, change, reason):
    assert said(event(**change), **spec) == [reason]


def test_all_that_fails_is_told_at_once():
    found = said(event(), topics=("hg:lib:*:",), pushers=("bob",), files=("docs/**",))

    assert [reason.partition(":")[0] for reason in found] == ["topic", "pusher", "files"]


def test_what_matches_has_no_reason():
    assert said(event(), changes=("changesets",), files=("src/**",), pushers=("al*",)) == []


@st.composite
def specs(draw):
    some = st.sampled_from
    return RuleSpec(
        name="build",
        topics=draw(some([("hg:**:**:",), ("hg:lib:*:",)])),
        changes=draw(st.lists(some(CHANGES), max_size=2).map(tuple)),
        files=draw(some([(), ("src/**",), ("docs/**",)])),
        users=draw(some([(), ("Al*",), ("Bob",)])),
        phases=draw(some([(), ("public",), ("draft", "public")])),
        pushers=draw(some([(), ("alice",), ("bob",)])),
        origins=draw(some([(), *((name,) for name in ORIGINS)])),
        each=draw(some(["event", "head", "changeset"])),
    )


@st.composite
def transactions(draw):
    some = st.sampled_from
    made = st.builds(
        changeset,
        user=some(["Alice", "Bob"]),
        phase=some(["draft", "public"]),
        files=some([(), ("src/a.py",), ("docs/b",)]),
        truncated=st.booleans(),
    )
    one = st.builds(
        event,
        changesets=st.lists(made, max_size=2).map(tuple),
        heads=some([None, Heads(NODE, 1), Heads(NODE, 1, added=(NODE,))]),
        summary=some([None, None, Summary(tip=NODE, heads=(NODE,), changesets=3)]),
        bookmarks=some([(), (Move("@", None, NODE),)]),
        phases=some([(), (PhaseMove(NODE, "draft", "public"),)]),
        pusher=some([None, Pusher("alice", "ssh")]),
        origin=some(["live", "ping", "catchup"]),
        type=some(["hg.transaction.v1", BASELINE]),
    )
    return draw(st.lists(one, min_size=1, max_size=2))


@given(specs(), transactions())
def test_there_is_a_reason_exactly_where_the_rule_makes_nothing(spec, parts):
    rule = compile_rule(spec)

    assert bool(why_not(rule, parts)) == (not rules.deliveries([rule], parts, 0.0))


def test_every_condition_has_its_words():
    assert explain._REASONS.keys() == rules.CONDITIONS.keys()
