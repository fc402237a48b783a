"""What open deliveries wait for, as `status` tells it. Over real stores."""

import pytest
from enginekit import Feed, spec
from storekit import BOXES, DONE, retry

from subscriber import waiting
from subscriber.store.base import Paused, Terms
from subscriber.waiting import find_open


@pytest.fixture(params=sorted(BOXES))
def store(request, tmp_path):
    box = BOXES[request.param](tmp_path)
    yield box.store
    box.store.close()


def feed(store, *names, count=3, **more):
    rules = [spec(name, order="none", **more) for name in names]
    return Feed(store, *rules).events([("default", "team/app", "alice")] * count)


def test_a_lock_is_named_with_its_holder_and_who_waits(store):
    feed(store, "deploy", "migrate", "build")
    terms = {"deploy": Terms("prod"), "migrate": Terms("prod"), "build": Terms()}
    now = store.now()
    claims = store.claim("ci/1", 60.0, 9, now, terms=terms)
    (held,) = [claim.delivery for claim in claims if claim.delivery.lock]

    ((row, cells),) = waiting.locks(find_open(store), terms)

    assert (row["kind"], row["lock"], row["delivery"]) == ("lock", "prod", held.id)
    assert (row["rule"], row["owner"], row["waiting"]) == (held.rule, "ci/1", 5)
    assert (row["repo"], row["branch"]) == ("team/app", "default")
    assert row["since"].endswith("Z")
    assert len(cells) == len(waiting.HEAD)


def test_no_lock_is_held_when_nothing_runs(store):
    feed(store, "deploy")
    terms = {"deploy": Terms("prod")}
    (claim,) = store.claim("ci/1", 60.0, 1, store.now(), terms=terms)
    store.finish(claim.delivery.id, claim.fence, DONE, store.now())

    assert list(waiting.locks(find_open(store), terms)) == []


def test_a_limit_that_bites_is_named(store):
    feed(store, "build", "other")
    terms = {"build": Terms(limit=2), "other": Terms(limit=3)}
    store.claim("ci/1", 60.0, 9, store.now(), terms=terms)

    ((row, text),) = waiting.limits(find_open(store), terms)

    assert row == {"kind": "limit", "rule": "build", "concurrency": 2, "running": 2, "waiting": 1}
    assert text == "rule build: 2 of 2 run, 1 delivery waiting"


def test_a_paused_rule_is_named_with_who_and_why_and_how_to_go_on(store):
    feed(store, "build")
    store.pause(Paused(rule="build", who="alice", at=0.0, reason="the disk is full"))

    ((row, text),) = waiting.paused(find_open(store), store.paused())

    assert (row["kind"], row["rule"], row["who"]) == ("paused", "build", "alice")
    assert (row["at"], row["reason"]) == ("1970-01-01T00:00:00Z", "the disk is full")
    assert (row["waiting"], row["next"]) == (3, "resume build")
    assert "paused by alice" in text
    assert "the disk is full; 3 deliveries waiting" in text


def test_rules_that_are_gone_are_named_with_their_number(store):
    feed(store, "build", "old", count=1500)
    (claim,) = store.claim("ci/1", 60.0, 1, store.now(), terms={"old": Terms()})
    store.finish(claim.delivery.id, claim.fence, retry(store.now() + 99), store.now())

    found = find_open(store)

    assert waiting.gone_rules(found, {"build"}) == {"old": 1500}
    ((row, _),) = waiting.gone(found, {"build"})
    assert (row["kind"], row["rule"], row["open"]) == ("rule", "old", 1500)
