"""Daemons are killed and stopped, clocks set; every delivery is done, once, and in order."""

from collections.abc import Callable

import pytest
from fault import fleet

Recorder = Callable[[str, object], None]


def check(outcome: fleet.Outcome, record_property: Recorder) -> None:
    record_property("row", {"table": outcome.title, **outcome.row})
    print(fleet.shown(outcome))
    assert not outcome.problems


@pytest.mark.long
@pytest.mark.timeout(fleet.SECONDS + 120)
def test_one_daemon_on_sqlite(record_property: Recorder) -> None:
    check(fleet.sqlite(fleet.SQLITE), record_property)


@pytest.mark.long
@pytest.mark.timeout(fleet.SECONDS + 120)
def test_four_daemons_on_valkey(record_property: Recorder) -> None:
    check(fleet.valkey(fleet.VALKEY), record_property)


def test_one_daemon_on_sqlite_with_scripts_in_short(record_property: Recorder) -> None:
    outcome = fleet.scripts(fleet.Size(240, fleet.SQLITE.plan.limited(1)))

    check(outcome, record_property)
    assert outcome.row["kill"] == outcome.row["stop"] == outcome.row["jump"] == 1


def test_four_daemons_on_valkey_in_short(record_property: Recorder) -> None:
    outcome = fleet.valkey(fleet.Size(1000, fleet.VALKEY.plan.limited(2)))

    check(outcome, record_property)
    assert outcome.row["kill"] == outcome.row["stop"] == outcome.row["outage"] == 2
