"""Order keys, from the rule's words to the claims of a store.

Invariant: of all deliveries of a rule for which its order says the same, at most one runs, and it
is the oldest that is not over.
"""

from enginekit import Feed, spec
from hypothesis import given
from hypothesis import strategies as st
from storekit import BACK, DEAD, DONE, retry

from subscriber.store.base import OPEN, State, Terms
from subscriber.store.memory import MemoryStore

SAME = {
    "branch": lambda about: about[:2],
    "repo": lambda about: about[1],
    "none": lambda about: object(),  # noqa: ARG005 - nothing is the same as anything
    "for-{user}": lambda about: about[2],
    "{branch}{user}": lambda about: (about[0], about[2]),
    "{topic}": lambda about: about[:2],
}
NAMES = st.sampled_from(["a", "b", "a:b", "b%3A"])
EVENTS = st.tuples(st.just("event"), st.tuples(NAMES, NAMES, NAMES))
CLAIMS = st.tuples(st.just("claim"), st.integers(1, 5))
ENDS = st.tuples(st.just("end"), st.integers(0, 9))
STEPS = st.lists(EVENTS | CLAIMS | ENDS, max_size=60)


@given(st.sampled_from(sorted(SAME)), STEPS)
def test_what_shares_an_order_runs_one_after_another(order, steps):
    store, rule, now = MemoryStore(), spec(order=order), 1e9
    feed, groups, claims = Feed(store, rule), {}, []
    for what, value in steps:
        now += 1.0
        if what == "event":
            (made,) = feed.event(value[0], repo=value[1], user=value[2])
            groups.setdefault(SAME[order](value), []).append(made.id)
        elif what == "claim":
            claims += store.claim("o", 5.0, value, now, terms={"build": Terms()})
        elif claims:
            claim = claims.pop(value % len(claims))
            finish = (DONE, DEAD, BACK, retry(now + 3.0))[value % 4]
            store.finish(claim.delivery.id, claim.fence, finish, now)
        for ids in groups.values():
            states = [store.delivery(each).state for each in ids]
            left = [state for state in states if state in OPEN]
            assert State.RUNNING not in left[1:]
