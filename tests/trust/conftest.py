"""A place for a relay, and a subscriber that follows a relay which lies."""

from collections.abc import Iterator

import pytest
import relaykit
from trust import scenes


@pytest.fixture
def place() -> Iterator[relaykit.Place]:
    with relaykit.place() as here:
        yield here


@pytest.fixture
def scene() -> Iterator[scenes.Scene]:
    with scenes.begin() as begun:
        yield begun
