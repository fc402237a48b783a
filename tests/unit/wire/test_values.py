"""The typed values are values: frozen, compared by content."""

from dataclasses import FrozenInstanceError, fields

import pytest
import wirekit

from hgext_zmqhooks.wire import values
from hgext_zmqhooks.wire.values import Draft, Event, Place


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises((FrozenInstanceError, AttributeError)):
        wirekit.EVENT.sequence = 2  # type: ignore[misc]


def test_an_event_is_a_draft_a_place_and_its_lists() -> None:
    """`events.encode` takes an event apart by these names."""
    names = {item.name for item in fields(Event)}
    parts = {item.name for item in fields(Draft)} | {item.name for item in fields(Place)}

    assert names == (parts - {"lists"}) | set(values.LISTS)
