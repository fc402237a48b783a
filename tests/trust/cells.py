"""The cells of the table of trust: who attacks, what he wants, and the check that stops him.

    @stops("forge", "hgext_zmqhooks/relay/live.py", "if self.curve and …:", "if False:")
    def test_a_copy_from_another_key_is_refused(…) -> None:

The attacker is the name of the test's module. `old` stands once in the file; with `new` in its
place the check is gone, and `mutate.py` shows that the test then fails. docs/explanation/trust.md
has a row for each cell.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

ATTACKERS = (
    "network",
    "stolen_subscriber",
    "stolen_publisher",
    "malicious_relay",
    "local_user",
    "old_key",
)
PROMISES = ("forge", "alter", "replay", "read", "withhold", "impersonate", "exhaust")
NEVER = "if False:"
"""What stands in place of a condition that is never to hold."""

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Mutation:
    """A check, and the text that takes it away."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Cell:
    """One attack. `test`: the name of the function that shows it."""

    attacker: str
    promise: str
    mutation: Mutation
    test: str

    @property
    def node(self) -> str:
        """The test as pytest names it."""
        return f"tests/trust/test_{self.attacker}.py::{self.test}"


def stops(promise: str, file: str, old: str, new: str = NEVER) -> Callable[[Test], Test]:
    """Say what a test shows, and the check without which it has to fail."""
    assert promise in PROMISES, promise

    def marked(test: Test) -> Test:
        test.__dict__["trust"] = (promise, Mutation(file, old, new))
        return test

    return marked


def every() -> Iterator[Cell]:
    """All cells, attacker by attacker, in the order of their files."""
    for attacker in ATTACKERS:
        module = importlib.import_module(f"trust.test_{attacker}")
        for name, test in vars(module).items():
            if inspect.isfunction(test) and (marks := vars(test).get("trust")):
                yield Cell(attacker, *marks, name)
