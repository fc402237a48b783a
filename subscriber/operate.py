"""What the verbs that write do to a store, each under its name.

    accept      let pass what is held            accept.py
    redeliver   have deliveries run again        {"ids": […]}
    give-up     end open deliveries as dead      {"ids": […], "reason": …}
    pause       start nothing more of a rule     {"rule": …, "reason": …}
    resume      start its deliveries again       {"rule": …}

The daemon does it when it runs, asked over its control socket, since it alone writes to its store;
else the verb itself does. Both come here. A row says what was done, and who wanted it; rows of
what was so already have `changed` false.
"""

from collections.abc import Callable, Mapping

from hgext_zmqhooks.service.errors import ServiceError
from subscriber.accept import Request, accept
from subscriber.control import Rows
from subscriber.store.base import Paused, Store

MAX_IDS = 200
"""Deliveries of one request, which has at most 64 KiB."""

Words = Mapping[str, object]
Operation = Callable[[Store, Words, str, float], Rows]
"""Store, request, who asks, unix seconds -> what was done, a row each. Raises ServiceError."""


def operate(store: Store, request: Words, who: str, now: float) -> Rows:
    """Do what a request says; its `verb` names what. Raises ServiceError."""
    operation = OPERATIONS.get(str(request.get("verb")))
    if operation is None:
        raise _unknown()
    return operation(store, request, who, now)


def _unknown() -> ServiceError:
    """For a verb, or words of it, that came from another version than ours."""
    return ServiceError("the running daemon does not know this request", hint="restart it")


def _accept(store: Store, request: Words, who: str, now: float) -> Rows:
    return accept(store, Request.read(request, who), now)


def _redeliver(store: Store, request: Words, who: str, now: float) -> Rows:
    changed = store.redeliver(_ids(request), now)
    return [{"kind": "redelivered", "delivery": one, "who": who} for one in changed]


def _give_up(store: Store, request: Words, who: str, now: float) -> Rows:
    why = _text(request, "reason")
    reason = f"given up by {who}: {why}" if why else f"given up by {who}"
    changed = store.bury(_ids(request), reason, now)
    return [{"kind": "given-up", "delivery": one, "who": who} for one in changed]


def _pause(store: Store, request: Words, who: str, now: float) -> Rows:
    paused = Paused(rule=_text(request, "rule"), who=who, at=now, reason=_text(request, "reason"))
    changed = store.pause(paused)
    row = next((row for row in store.paused() if row.rule == paused.rule), paused)
    said = {"who": row.who, "at": row.at, "reason": row.reason, "changed": changed}
    return [{"kind": "paused", "rule": row.rule, **said}]


def _resume(store: Store, request: Words, who: str, _now: float) -> Rows:
    rule = _text(request, "rule")
    return [{"kind": "resumed", "rule": rule, "who": who, "changed": store.resume(rule)}]


def _ids(request: Words) -> list[str]:
    given = request.get("ids")
    if not isinstance(given, list) or len(given) > MAX_IDS:
        raise _unknown()
    return [str(one) for one in given]


def _text(request: Words, key: str) -> str:
    given = request.get(key)
    if not isinstance(given, str):
        raise _unknown()
    return given


OPERATIONS: Mapping[str, Operation] = {
    "accept": _accept,
    "redeliver": _redeliver,
    "give-up": _give_up,
    "pause": _pause,
    "resume": _resume,
}
