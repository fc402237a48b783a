"""The verbs that change what is in the store.

One process writes to a SQLite store: the daemon, when it runs. So it is asked, and only when none
runs the verb does it itself, with the store's lock.
"""

import time
from argparse import ArgumentParser
from collections.abc import Mapping

from hgext_zmqhooks.service.errors import ServiceError
from subscriber import views
from subscriber.control import Rows, ask, own_name
from subscriber.host import Host
from subscriber.operate import operate
from subscriber.settings import Settings, beside
from subscriber.stores import open_store

from .base import Call, Verb


def tell(settings: Settings, request: Mapping[str, object]) -> Rows:
    """Let the running daemon do it, or do it here when none runs. ServiceError."""
    rows = ask(beside(settings.state, ".control"), request)
    if rows is not None:
        return rows
    if not settings.store.exists():
        hint = f"the daemon makes it when it starts first: zmq-subscriber --config {settings.file}"
        raise ServiceError(f"{settings.store}: there is no such store yet", hint=hint)
    with Host(settings.state, own_name()) as host, open_store(settings, host.lock) as store:
        return operate(store, request, own_name(), time.time())


def _accept_words(parser: ArgumentParser) -> None:
    parser.add_argument("target", metavar="REPO|JOURNAL/SEQUENCE")
    parser.add_argument("branch", metavar="BRANCH", nargs="?", help="only what is held of it")
    parser.add_argument("--journal", metavar="ID", help="a stopped journal of REPO")


def _accept(call: Call) -> int:
    names = ("verb", "target", "branch", "journal")
    request = {name: getattr(call.words, name) for name in names}
    return views.accepted(tell(call.settings, request), call.out)


VERBS = (
    Verb("accept", "let pass what is held, or a journal that is stopped", _accept, _accept_words),
)
