"""The verbs about deliveries that came to an end, or shall: `redeliver` and `dead`."""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass

from hgext_zmqhooks.service.errors import EXIT, ServiceError
from hgext_zmqhooks.service.words import counted
from subscriber import views
from subscriber.operate import MAX_IDS
from subscriber.selection import SHOWN, Selection, chosen, named
from subscriber.store.values import State
from subscriber.views import delivery_line, delivery_row, single

from .base import Call, Usage, Verb, count
from .filters import add_filters, add_state, any_given, wanted

AGAIN = frozenset({State.DONE, State.DEAD, State.SUPERSEDED, State.RETRYING})
"""What can run again: all that is final, and what waits for its next attempt."""
WAITING = frozenset({State.PENDING, State.RETRYING, State.HELD})
"""What can be given up: all that is open and does not run."""
LISTED = 20


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with deliveries.

    `states`: those that it is for; `usual`: those that filters choose where no state is named.
    `done`, `would`: what becomes of each, in words.
    """

    request: dict[str, object]
    states: frozenset[State]
    usual: frozenset[State]
    done: str
    would: str


def _redeliver_words(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="*", help="a delivery (a beginning will do)")
    add_state(parser, AGAIN)
    _order_words(parser)


def _order_words(parser: ArgumentParser) -> None:
    add_filters(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="also to more than one")


def _redeliver(call: Call) -> int:
    usual = frozenset({State.DEAD})
    order = Order({"verb": "redeliver"}, AGAIN, usual, "runs again", "would run again")
    return _carry_out(call, order)


def _dead_words(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="*", help="with --give-up: what to give up")
    parser.add_argument("--give-up", action="store_true", help="end open deliveries as dead")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why they are given up")
    parser.add_argument("-n", "--limit", type=count, default=LISTED, help="list at most so many")
    _order_words(parser)


def _dead(call: Call) -> int:
    words = call.words
    if words.give_up:
        request = {"verb": "give-up", "reason": words.reason}
        return _carry_out(call, Order(request, WAITING, WAITING, "given up", "would be given up"))
    if words.id or words.reason or words.yes:
        raise Usage("ID, --reason and --yes go with --give-up", hint="`show ID` tells of one")
    with call.store() as store:
        return views.dead_letters(store, call.out, wanted(words, {State.DEAD}), words.limit)


def _carry_out(call: Call, order: Order) -> int:
    """Do it; PROBLEM if not all of it was done, and where it is only said what would be."""
    found = _found(call, order)
    for item in found.left:
        row = {"kind": "unchanged", "delivery": item.id, "state": item.state.value}
        call.out.row(row, f"{delivery_line(item)}: left as it is")
    if len(found.ids) > 1 and not call.words.id and not call.words.yes:
        return _ask_first(call, order, found)
    left = _tell(call, order, found)
    if found.ids:
        for text in _hindrances(call, found):
            call.out.block(text)
    return EXIT.PROBLEM if found.left or left else EXIT.OK


def _found(call: Call, order: Order) -> Selection:
    words = call.words
    if bool(words.id) == any_given(words):
        hint = "name deliveries by ID, or choose them: --rule, --repo, --branch, --since, --until"
        raise Usage("either IDs or filters, and one of both", hint=hint)
    with call.store() as store:
        if words.id:
            return named(store, words.id, order.states)
        found = chosen(store, wanted(words, order.usual))
    if not found.ids:
        if words.rule is not None and words.rule not in {one.name for one in call.settings.rules}:
            call.rule(words.rule)
        states = ", ".join(sorted(words.state if getattr(words, "state", None) else order.usual))
        raise ServiceError(f"no delivery that is {states} fits", hint="`deliveries` lists all")
    return found


def _ask_first(call: Call, order: Order, found: Selection) -> int:
    for item in found.shown:
        call.out.row(delivery_row(item), delivery_line(item))
    more = len(found.ids) - len(found.shown)
    rest = f"and {more} older; " if more else ""
    row = {
        "kind": "selection",
        "done": False,
        "count": len(found.ids),
        "rules": dict(found.rules),
        "states": {state.value: number for state, number in found.states.items()},
    }
    text = f"{rest}{found} {order.would}; nothing is done yet: repeat it with --yes"
    call.out.row(row, text)
    return EXIT.PROBLEM


def _tell(call: Call, order: Order, found: Selection) -> int:
    """Have it done to all; returns how many were not as they had been any more."""
    told = 0
    for at in range(0, len(found.ids), MAX_IDS):
        for row in call.tell({**order.request, "ids": found.ids[at : at + MAX_IDS]}):
            told += 1
            if call.out.as_json or len(found.ids) <= SHOWN:
                call.out.row(row, f"{row['delivery']}  {order.done}, says {row['who']}")
    left = len(found.ids) - told
    if len(found.ids) > SHOWN:
        call.out.block(f"{counted(told, 'delivery')}: {order.done}")
    if left:
        call.out.block(f"{counted(left, 'delivery')} changed meanwhile, and stay as they are now")
    return left


def _hindrances(call: Call, found: Selection) -> Iterator[str]:
    """Why what shall run again does not do so at once."""
    if call.words.verb != "redeliver":
        return
    known = {rule.name for rule in call.settings.rules}
    with call.store() as store:
        paused = {row.rule: row for row in store.paused()}
    for name in sorted(found.rules):
        if name not in known:
            yield f"rule {name} is not configured: its deliveries wait until it is again"
        elif name in paused:
            yield single(f"rule {name} is paused, by {paused[name].who}: until `resume {name}`")
    runs = call.running()
    if runs.pid is None:
        yield f"daemon: {runs}"


VERBS = (
    Verb("redeliver", "have deliveries run again", _redeliver, _redeliver_words),
    Verb("dead", "list dead letters, or make some of what is open", _dead, _dead_words),
)
