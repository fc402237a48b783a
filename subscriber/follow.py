"""What happens in a store, told as it happens: `tail`, and `deliveries --follow`.

A process of its own looks into the store several times a second; the daemon knows nothing of it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from hgext_zmqhooks.service.errors import EXIT
from subscriber.store.base import MAX_LIST, Reader
from subscriber.store.values import OPEN, Delivery, Wanted
from subscriber.views import (
    Printer,
    Row,
    delivery_line,
    delivery_row,
    every,
    receipt_line,
    receipt_row,
)

LOOK_SECONDS = 0.25
WATCHED = 1000
"""Open deliveries that one look asks for; the next look goes on with others."""

Told = Iterable[tuple[Row, str]]
"""Each as JSON and as a line."""


def tail(store: Reader, out: Printer, count: int | None) -> int:
    """Print new deliveries and the receipts of those that are open, as they come.

    `count`: end after so many lines; None: until interrupted.
    """
    return _print(News(store).look, out, count)


def follow(changes: "Changes", out: Printer) -> int:
    """Print what is made or changes its state, until interrupted."""
    return _print(changes.look, out, None)


def _print(look: Callable[[], Told], out: Printer, count: int | None) -> int:
    printed = 0
    while True:
        for row, line in look():
            out.row(row, line)
            printed += 1
            if printed == count:
                return EXIT.OK
        time.sleep(LOOK_SECONDS)


class News:
    """What happened in a store since the last look: deliveries made, attempts ended."""

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._after = _newest(store)
        # Deliveries that may get receipts, with the fence of the newest one told.
        self._open = {item.id: item.fence for item in every(store, Wanted(states=OPEN))}

    def look(self) -> Iterator[tuple[Row, str]]:
        """What is new."""
        for made in self._store.deliveries(Wanted(after=self._after), MAX_LIST):
            self._after = made.number
            self._open[made.id] = -1
            yield delivery_row(made), delivery_line(made)
        for name in list(self._open)[:WATCHED]:
            item = self._store.delivery(name)  # before its receipts, so that none is missed
            for receipt in self._store.receipts(name):
                if receipt.fence > self._open[name]:
                    self._open[name] = receipt.fence
                    yield receipt_row(receipt), f"{name}  {receipt_line(receipt)}"
            fence = self._open.pop(name)
            if item is not None and item.state in OPEN:
                self._open[name] = fence  # behind all others


class Changes:
    """Deliveries that fit and are not now as they were at the last look.

    Made before a listing, so that nothing is lost between the two; what happens meanwhile is told
    in both. States are asked for when they are told: one that becomes dead fits `--state dead` only
    then.
    """

    def __init__(self, store: Reader, wanted: Wanted) -> None:
        self._store = store
        self._states = wanted.states
        self._wanted = replace(wanted, states=None)
        self._after = _newest(store)
        self._open = {item.id: item for item in every(store, replace(wanted, states=OPEN))}

    def look(self) -> Iterator[tuple[Row, str]]:
        """What is new."""
        for made in self._store.deliveries(replace(self._wanted, after=self._after), MAX_LIST):
            self._after = made.number
            yield from self._told(made)
        for name, before in list(self._open.items())[:WATCHED]:
            item = self._store.delivery(name)
            self._open.pop(name)
            if item is None:
                continue
            if (item.state, item.fence) != (before.state, before.fence):
                yield from self._told(item)
            else:
                self._open[name] = before  # behind all others

    def _told(self, item: Delivery) -> Iterator[tuple[Row, str]]:
        if item.state in OPEN:
            self._open[item.id] = item
        else:
            self._open.pop(item.id, None)
        if self._states is None or item.state in self._states:
            yield delivery_row(item), delivery_line(item)


def _newest(store: Reader) -> int:
    newest = store.deliveries(Wanted(), 1, newest=True)
    return newest[-1].number if newest else 0
