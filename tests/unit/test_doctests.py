"""Examples in docstrings are run: each says what its function really does."""

import doctest
import importlib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def with_examples() -> list[str]:
    """Modules of both packages that show an example."""
    paths = [
        path for name in ("hgext_zmqhooks", "subscriber") for path in (TOP / name).rglob("*.py")
    ]
    shown = [path for path in paths if ">>> " in path.read_text(encoding="utf-8")]
    return sorted(".".join(path.relative_to(TOP).with_suffix("").parts) for path in shown)


@pytest.mark.parametrize("name", with_examples())
def test_examples_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))

    assert result.attempted
    assert not result.failed


def test_the_wire_has_examples() -> None:
    assert {f"hgext_zmqhooks.wire.{name}" for name in ("topics", "events", "envelope")} <= set(
        with_examples()
    )
