"""Fixtures of the journal's tests."""

from pathlib import Path

import pytest
from unit.journal.stores import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
