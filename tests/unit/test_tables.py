"""What tests record as rows is shown in columns."""

from support import tables


def test_words_stand_left_and_numbers_right() -> None:
    rows = [{"operation": "push", "points": 100}, {"operation": "strip", "points": 7}]

    assert tables.lines(rows) == ["operation  points", "push          100", "strip           7"]
