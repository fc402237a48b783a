"""Many things are killed and stopped at random while clients push; nothing is lost or doubled."""

from collections.abc import Callable

import pytest
from fault import soak

SECONDS = 270
KILLS = 500
SEED = 20_261_121
MORE = 120
"""Seconds by which a slow machine may be late with its kills."""


@pytest.mark.long
@pytest.mark.timeout(SECONDS + MORE + soak.LEVEL_SECONDS + 300)
def test_everything_is_killed_at_random(record_property: Callable[[str, object], None]) -> None:
    plan = soak.Plan(SECONDS, SEED, pause=0.3, pace=0.5, kills=0.8, least=KILLS, more=MORE)

    with soak.Soak.made(plan) as made:
        outcome = made.run()

    record_property("row", {"table": soak.TITLE, **outcome.row})
    print(*outcome.notes, sep="\n")
    assert not outcome.problems
    assert not any(outcome.row[name] for name in soak.BAD)
    assert outcome.row["kills"] >= KILLS
