"""Columns for people: what `status` prints, here and there."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line per row, every column as wide as its widest cell; numbers stand to the right.

    >>> aligned([["repository", "behind"], ["app", "12"], ["team/app", "3"]])
    ['repository  behind', 'app             12', 'team/app         3']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(_cell(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _cell(cell: str, width: int) -> str:
    number = cell.replace(".", "", 1).isdecimal() or cell in {"?", "-"}
    return cell.rjust(width) if number else cell.ljust(width)
