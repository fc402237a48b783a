"""Tables at the end of a run of pytest, from rows that tests record, under xdist too.

    record_property("row", {"table": "Kills of hg", "operation": "push", "points": 100})

Rows of one table have the same keys. A row is shown whether its test passed or not.
"""

from collections.abc import Iterator
from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(terminalreporter):
        tables.setdefault(row.pop("table"), []).append(row)
    for title, rows in sorted(tables.items()):
        terminalreporter.section(title)
        for line in lines(rows):
            terminalreporter.write_line(line)


def _rows(reporter: pytest.TerminalReporter) -> Iterator[dict[str, Any]]:
    finished = [report for how in ("passed", "failed") for report in reporter.stats.get(how, ())]
    for report in sorted(finished, key=lambda report: str(report.nodeid)):
        for name, value in getattr(report, "user_properties", ()):
            if name == "row" and report.when == "call":
                yield dict(value)


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The rows under their names, words to the left and numbers to the right."""
    names = list(rows[0])
    shown = [names, *[[str(row[name]) for name in names] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in shown
    ]
