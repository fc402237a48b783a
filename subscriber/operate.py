"""What the verbs that write do to a store, each under its name.

The daemon does it when it runs, asked over its control socket, since it alone writes to its store;
else the verb itself does. Both come here.
"""

from collections.abc import Callable, Mapping

from hgext_zmqhooks.service.errors import ServiceError
from subscriber.accept import Request, accept
from subscriber.control import Rows
from subscriber.store.base import Store

Operation = Callable[[Store, Mapping[str, object], str, float], Rows]
"""Store, request, who asks, unix seconds -> what was done, a row each. Raises ServiceError."""


def operate(store: Store, request: Mapping[str, object], who: str, now: float) -> Rows:
    """Do what a request says; its `verb` names what. Raises ServiceError."""
    operation = OPERATIONS.get(str(request.get("verb")))
    if operation is None:
        raise ServiceError("the running daemon does not know this verb", hint="restart it")
    return operation(store, request, who, now)


def _accept(store: Store, request: Mapping[str, object], who: str, now: float) -> Rows:
    return accept(store, Request.read(request, who), now)


OPERATIONS: Mapping[str, Operation] = {"accept": _accept}
