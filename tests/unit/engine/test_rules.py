"""Which deliveries a transaction makes."""

import doctest
from itertools import product

import pytest

from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.values import (
    BASELINE,
    Changeset,
    Event,
    Heads,
    Move,
    Obsoleted,
    PhaseMove,
    Pusher,
    Summary,
    Transaction,
)
from subscriber.engine import rules
from subscriber.engine.rules import RuleSpec, compile_rule

JOURNAL = "9f" * 16
ANY = ("hg:**:**:",)


def node(number):
    return f"{number:040x}"


def changeset(number, *files, user="Alice <alice@example.com>", **changes):
    values = {
        "node": node(number),
        "parents": (node(number - 1),),
        "user": user,
        "date": "2026-11-21T10:15:00+01:00",
        "description": "x",
        "phase": "draft",
        "files": files,
    }
    return Changeset(**{**values, **changes})


def event(sequence=1, *, part=1, parts=1, **changes):
    values = {
        "repo": "team/app",
        "branch": "default",
        "journal": JOURNAL,
        "sequence": sequence,
        "time": "2026-11-21T09:15:02.123456Z",
        "transaction": Transaction("t", "serve", "serve", part, parts),
        "pusher": Pusher("alice", "ssh"),
    }
    return Event(**{**values, **changes})


def made(parts, **spec):
    parts = [parts] if isinstance(parts, Event) else parts
    rule = compile_rule(RuleSpec(**{"name": "build", "topics": ANY, **spec}))
    return rules.deliveries([rule], parts, 5.0)


def test_the_examples_in_the_module_are_true():
    assert doctest.testmod(rules) == doctest.TestResults(failed=0, attempted=1)


class TestDelivery:
    def test_says_what_it_is_about(self):
        parts = [
            event(7, part=1, parts=2, heads=Heads(node(9), 1)),
            event(8, part=2, parts=2, heads=Heads(node(9), 1)),
        ]
        (item,) = made(parts)
        assert (item.rule, item.repo, item.branch) == ("build", "team/app", "default")
        assert (item.topic, item.journal) == ("hg:team/app:default:", JOURNAL)
        assert (item.first, item.last, item.event_id) == (7, 8, f"{JOURNAL}/8")
        assert (item.node, item.user, item.created) == (node(9), "alice", 5.0)

    def test_order_key_is_rule_repo_and_branch(self):
        keys = {
            item.order_key
            for name in ("build", "notify")
            for repo in ("a", "a:b")
            for branch in ("default", "b:default")
            for item in made(event(repo=repo, branch=branch), name=name)
        }
        assert len(keys) == 8
        assert "build:a:default" in keys

    @pytest.mark.parametrize(
        ("order", "lanes"),
        [
            ("branch", 4),
            ("repo", 2),
            ("none", 8),
            ("{user}", 2),
            ("{repo} of {user}", 4),
            ("{topic}{user}", 8),
        ],
    )
    def test_those_share_a_lane_that_the_order_says(self, order, lanes):
        abouts = product(("a", "b"), ("default", "stable"), (Pusher("alice", "ssh"), None))
        keys = {
            item.order_key
            for at, (repo, branch, pusher) in enumerate(abouts, 1)
            for item in made(event(at, repo=repo, branch=branch, pusher=pusher), order=order)
        }
        assert len(keys) == lanes

    def test_id_is_the_same_each_time_and_no_other_has_it(self):
        once, again = made(event(7)), made(event(7))
        assert once == again
        others = [
            *made(event(8)),
            *made(event(7), name="notify"),
            *made(event(7, journal="ab" * 16)),
            *made(event(7, heads=Heads(node(1), 1, (node(1), node(2)))), each="head"),
            *made(event(7, changesets=(changeset(3),)), each="changeset"),
        ]
        assert len({item.id for item in [*once, *others]}) == 7
        assert all(len(item.id) == 26 and item.id.isalnum() for item in others)

    def test_rules_are_asked_in_order(self):
        specs = [RuleSpec(name=name, topics=ANY) for name in ("b", "a")]
        found = rules.deliveries([compile_rule(spec) for spec in specs], [event()], 0.0)
        assert [item.rule for item in found] == ["b", "a"]

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"heads": Heads(node(5), 2), "changesets": (changeset(4),)}, node(5)),
            ({"heads": Heads(None, 0)}, None),
            ({"summary": Summary(node(6), (node(6),), 9)}, node(6)),
            ({"changesets": (changeset(3), changeset(4))}, node(4)),
            ({}, None),
        ],
    )
    def test_node_is_the_tip_of_the_branch(self, changes, expected):
        (item,) = made(event(**changes))
        assert item.node == expected

    def test_nobody_pushed(self):
        (item,) = made(event(pusher=None))
        assert item.user is None


class TestConditions:
    @pytest.mark.parametrize(
        ("topics", "matches"),
        [
            (("hg:team/*:default:",), True),
            (("hg:team/*:stable:",), False),
            (("hg:team/*:stable:", "hg:**:default:"), True),
            (("hg:other/**:**:",), False),
        ],
    )
    def test_topic(self, topics, matches):
        assert bool(made(event(), topics=topics)) is matches

    def test_a_pattern_that_is_none_is_refused(self):
        with pytest.raises(Refused):
            compile_rule(RuleSpec(name="x", topics=("team/*",)))

    @pytest.mark.parametrize("origin", ["live", "catchup", "revealed"])
    def test_what_every_rule_sees(self, origin):
        assert made(event(origin=origin))

    def test_ping_only_by_asking(self):
        assert not made(event(origin="ping"))
        assert made(event(origin="ping"), origins=("ping",))
        assert not made(event(origin="live"), origins=("ping",))

    def test_baseline_only_by_asking(self):
        base = event(type=BASELINE, summary=Summary(node(9), (node(9),), 9))
        assert not made(base)
        assert not made(base, origins=("live",))
        assert made(base, origins=("live", "baseline"))
        assert not made(event(), origins=("baseline",))

    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("changesets", {"changesets": (changeset(1),)}),
            ("changesets", {"summary": Summary(node(1), (node(1),), 1001)}),
            ("bookmarks", {"bookmarks": (Move("@", None, node(1)),)}),
            ("tags", {"tags": (Move("1.0", None, node(1)),)}),
            ("phases", {"phases": (PhaseMove(node(1), "draft", "public"),)}),
            ("obsoleted", {"obsoleted": (Obsoleted(node=node(1)),)}),
            ("removed", {"removed": (node(1),)}),
        ],
    )
    def test_changes(self, kind, changes):
        assert made(event(**changes), changes=(kind,))
        assert not made(event(), changes=(kind,))
        others = tuple(other for other in rules.CHANGES if other != kind)
        assert not made(event(**changes), changes=others)
        assert made(event(**changes), changes=(kind, *others))

    @pytest.mark.parametrize(
        ("globs", "matches"),
        [
            (("src/**",), True),
            (("src/*",), False),
            (("docs/**", "**/b.py"), True),
            (("docs/**",), False),
        ],
    )
    def test_files(self, globs, matches):
        item = event(changesets=(changeset(1, "README"), changeset(2, "src/a/b.py")))
        assert bool(made(item, files=globs)) is matches

    def test_a_cut_file_list_is_a_match(self):
        cut = event(changesets=(changeset(1, "README", truncated=True),))
        assert made(cut, files=("src/**",))
        assert not made(cut, files=("src/**",), users=("bob*",))

    def test_a_summary_is_a_match(self):
        assert made(event(summary=Summary(node(1), (node(1),), 9)), files=("src/**",))

    def test_no_changeset_has_no_files(self):
        assert not made(event(bookmarks=(Move("@", None, node(1)),)), files=("**",))

    @pytest.mark.parametrize(
        ("globs", "matches"),
        [(("Alice*",), True), (("*@example.com>",), True), (("Bob*",), False)],
    )
    def test_user_is_the_author(self, globs, matches):
        assert bool(made(event(changesets=(changeset(1),)), users=globs)) is matches

    def test_pusher_is_who_pushed(self):
        assert made(event(), pushers=("bob", "al*"))
        assert not made(event(), pushers=("bob",))
        assert not made(event(pusher=None), pushers=("*",))
        assert not made(event(pusher=Pusher(None, "http")), pushers=("*",))

    def test_phase_of_a_changeset_or_of_a_change(self):
        draft = event(changesets=(changeset(1),))
        published = event(phases=(PhaseMove(node(1), "draft", "public"),))
        assert made(draft, phases=("draft",))
        assert not made(draft, phases=("public",))
        assert made(published, phases=("public",))
        assert not made(published, phases=("draft",))
        assert not made(published, phases=("public",), files=("**",))

    def test_one_changeset_must_fit_all(self):
        item = event(changesets=(changeset(1, "a", user="bob"), changeset(2, "b")))
        assert made(item, users=("bob",), files=("a",))
        assert not made(item, users=("bob",), files=("b",))

    def test_any_part_may_fulfil_a_condition(self):
        parts = [
            event(1, part=1, parts=2, changesets=(changeset(1, "a"),)),
            event(2, part=2, parts=2, bookmarks=(Move("@", None, node(1)),)),
        ]
        assert len(made(parts, files=("a",), changes=("bookmarks",))) == 1
        assert not made(parts, files=("b",))


class TestEach:
    def test_one_per_new_head(self):
        heads = Heads(node(3), 2, added=(node(2), node(3)))
        parts = [event(1, part=1, parts=2, heads=heads), event(2, part=2, parts=2, heads=heads)]
        found = made(parts, each="head")
        assert [item.node for item in found] == [node(2), node(3)]
        assert {(item.first, item.last) for item in found} == {(1, 2)}

    def test_no_new_head(self):
        assert made(event(heads=Heads(node(3), 1)), each="head") == []

    def test_all_heads_of_a_summary(self):
        item = event(summary=Summary(node(2), (node(1), node(2)), 5000))
        assert [each.node for each in made(item, each="head")] == [node(1), node(2)]

    def test_one_per_changeset_with_the_part_that_holds_it(self):
        parts = [
            event(1, part=1, parts=2, changesets=(changeset(1, "a"), changeset(2, "b"))),
            event(2, part=2, parts=2, changesets=(changeset(3, "a"),)),
        ]
        found = made(parts, each="changeset")
        assert [(item.node, item.first, item.last) for item in found] == [
            (node(1), 1, 1),
            (node(2), 1, 1),
            (node(3), 2, 2),
        ]

    def test_only_the_changesets_that_fit(self):
        item = event(changesets=(changeset(1, "a"), changeset(2, "b"), changeset(3, "a")))
        found = made(item, each="changeset", files=("a",))
        assert [each.node for each in found] == [node(1), node(3)]
