"""The table of trust is whole: every cell has its row in the docs, and a check to take away."""

import re
from collections import Counter
from pathlib import Path

import pytest
from trust.cells import ATTACKERS, PROMISES, Cell, Mutation, every
from trust.mutate import TOP, mutated, row

PAGE = (TOP / "docs" / "explanation" / "trust.md").read_text()
CELLS = list(every())


def section(attacker: str) -> str:
    """The part of the page that names the attacker's tests."""
    (found,) = [one for one in PAGE.split("\n### ") if f"`tests/trust/test_{attacker}.py`" in one]
    return found


def rows(attacker: str) -> list[tuple[str, str]]:
    """Promise and test of each row, in order."""
    return re.findall(r"^\| (\w+) \|.*\| `(test_\w+)` \|$", section(attacker), re.MULTILINE)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_cell_has_its_row_and_no_row_is_without(attacker: str) -> None:
    mine = [(cell.promise, cell.test) for cell in CELLS if cell.attacker == attacker]

    assert sorted(rows(attacker)) == sorted(mine)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_test_of_an_attacker_is_a_cell(attacker: str) -> None:
    source = (Path(__file__).parent / f"test_{attacker}.py").read_text()

    assert Counter(re.findall(r"^def (test_\w+)", source, re.MULTILINE)) == Counter(
        cell.test for cell in CELLS if cell.attacker == attacker
    )


def test_no_attacker_is_without_an_answer_to_a_promise() -> None:
    assert {(cell.attacker, cell.promise) for cell in CELLS} == {
        (attacker, promise) for attacker in ATTACKERS for promise in PROMISES
    }
    assert len(CELLS) >= 30


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.test)
def test_the_check_of_every_cell_stands_where_it_is_said_to(cell: Cell) -> None:
    source = (TOP / cell.mutation.file).read_text()

    assert mutated(source, cell.mutation) != source


def test_a_check_that_is_gone_or_stands_twice_is_noticed() -> None:
    for text in ("nothing", "if x: if x:"):
        with pytest.raises(AssertionError, match="times"):
            mutated(text, Mutation("file", "if x:", "if False:"))


@pytest.mark.parametrize(
    ("said", "caught"),
    [
        ("AssertionError: assert 0 == 1", "yes"),
        ("assert not 1", "yes"),
        ("Failed: DID NOT RAISE Refused", "yes"),
        ("", "no"),
        ("NameError: name 'x' is not defined", "no"),
        ("outside the test: failed on setup", "no"),
        ("pytest ended with 4: ", "no"),
    ],
)
def test_only_an_assertion_of_the_test_itself_counts(said: str, caught: str) -> None:
    assert row(CELLS[0], said)["caught"] == caught
