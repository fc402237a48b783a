"""What an operator's request does to a store, and what of it is refused."""

import pytest
from storekit import DEAD, fill

from hgext_zmqhooks.service.errors import ServiceError
from subscriber.operate import MAX_IDS, operate
from subscriber.store.base import State
from subscriber.store.memory import MemoryStore

FIRST, SECOND = "build-9f-1", "build-9f-2"


@pytest.fixture
def store():
    made = MemoryStore()
    fill(made, 2)
    return made


def state(store, name):
    return store.delivery(name).state


def test_only_what_changed_is_answered(store):
    (claim,) = store.claim("w", 60.0, 1, 5000.0)
    store.finish(FIRST, claim.fence, DEAD, 5000.0)
    request = {"verb": "redeliver", "ids": [FIRST, SECOND, "none"]}

    rows = operate(store, request, "alice", 5001.0)

    assert rows == [{"kind": "redelivered", "delivery": FIRST, "who": "alice"}]
    assert state(store, FIRST) is State.PENDING


def test_what_is_given_up_keeps_who_did_it_and_why(store):
    operate(store, {"verb": "give-up", "ids": [FIRST], "reason": "old"}, "alice", 5000.0)
    operate(store, {"verb": "give-up", "ids": [SECOND], "reason": ""}, "bob", 5000.0)

    found = [store.delivery(name) for name in (FIRST, SECOND)]
    assert [(one.state, one.reason) for one in found] == [
        (State.DEAD, "given up by alice: old"),
        (State.DEAD, "given up by bob"),
    ]


def test_the_first_pause_counts_until_it_is_taken_back(store):
    def pause(who):
        (row,) = operate(store, {"verb": "pause", "rule": "build", "reason": "x"}, who, 5000.0)
        return row["who"], row["changed"]

    def resume():
        (row,) = operate(store, {"verb": "resume", "rule": "build"}, "carol", 5001.0)
        return row["changed"]

    assert [pause("alice"), pause("bob")] == [("alice", True), ("alice", False)]
    assert [resume(), resume()] == [True, False]
    assert pause("bob") == ("bob", True)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"verb": "drop"},
        {"verb": "redeliver"},
        {"verb": "redeliver", "ids": FIRST},
        {"verb": "redeliver", "ids": [FIRST] * (MAX_IDS + 1)},
        {"verb": "give-up", "ids": [FIRST]},
        {"verb": "pause", "rule": None, "reason": ""},
        {"verb": "pause", "rule": "build"},
        {"verb": "resume"},
    ],
)
def test_what_no_version_of_ours_asks_for_is_refused(store, request_):
    with pytest.raises(ServiceError, match="does not know this request"):
        operate(store, request_, "alice", 5000.0)
    assert state(store, FIRST) is State.PENDING
    assert store.paused() == []
