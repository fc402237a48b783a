"""What the verbs print: times of one kind, and nothing from outside that looks like ours."""

import json

from storekit import delivery, outcome

from subscriber import views
from subscriber.store.base import Delivery, Receipt, State


def made(**changes: object) -> Delivery:
    values = {name: getattr(delivery(1), name) for name in delivery(1).__dataclass_fields__}
    return Delivery(**(values | {"number": 1, "state": State.DEAD} | changes))


def test_a_name_with_a_line_in_it_makes_no_line() -> None:
    item = made(repo="a\nxxxx  done      build  b", branch="\x1b[2J", reason="no\nway")

    line = views.delivery_line(item)

    assert "\n" not in line
    assert "\x1b" not in line


def test_times_of_a_receipt_are_written_like_all_others() -> None:
    receipt = Receipt(
        delivery="d", fence=1, attempt=1, owner="o", outcome=outcome(ended=2.5), counted=True
    )

    row = json.loads(views.document(views.receipt_row(receipt)))

    assert (row["started"], row["ended"], row["seconds"]) == (
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:02.500Z",
        1.5,
    )
