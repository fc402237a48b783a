"""Whatever line hg is killed at: after `hg recover` the journal tells what the repository holds.

No event without its changeset, no changeset without its event, none twice, and no follower was
ever told of what did not stay. The work is done by hg_killer.py, in a process of its own that runs
on the Mercurial under test.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault import hg_oldest

KILLER = Path(__file__).with_name("hg_killer.py")
OPERATIONS = ("commit", "push", "bookmark", "phase", "amend", "rebase", "strip", "rollback")
WITH_EVOLUTION = ("amend+evolution", "rebase+evolution")
MERCURIALS: dict[str, Callable[[], Path]] = {
    "newest": lambda: Path(sys.executable),
    "oldest": hg_oldest.python,
}
POINTS = 104
FEW = 3
"""Of each operation in `make test`."""
SEED = 20_261_121
BOUND = 1800
BAD = ("lost", "doubled", "out of order", "phantom")


def kills(
    python: Path, folder: Path, points: int, *operations: str, seed: int = SEED
) -> list[dict[str, Any]]:
    """What hg_killer.py answers, one object per operation."""
    top = KILLER.parents[2]
    paths = os.pathsep.join([str(top), str(top / "tests")])
    # Sets in the same order, so that lines are the same ones each time.
    fixed = {"PYTHONPATH": paths, "PYTHONHASHSEED": "0", "HGENCODING": "utf-8"}
    done = subprocess.run(
        [python, KILLER, folder, str(points), str(seed), *operations],
        env=os.environ | fixed,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.timeout(BOUND + 60)
@pytest.mark.parametrize("mercurial", MERCURIALS)
@pytest.mark.parametrize("operation", [*OPERATIONS, *WITH_EVOLUTION])
def test_killed_at_lines_spread_over_all(
    operation: str,
    mercurial: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    (answer,) = kills(MERCURIALS[mercurial](), tmp_path, POINTS, operation)

    row = answer["row"]
    record_property("row", {"table": f"SIGKILL of hg, seed {SEED}", **row})
    print(row, answer["seconds"], "seconds")
    assert not answer["problems"]
    assert row["killed"] >= 100
    assert row["rolled back"]
    assert row["committed"]
    assert not any(row[name] for name in BAD)


@pytest.mark.timeout(300)
def test_killed_at_some_lines_of_each_operation(tmp_path: Path) -> None:
    answers = kills(Path(sys.executable), tmp_path, FEW, *OPERATIONS)

    assert [answer["row"]["operation"] for answer in answers] == list(OPERATIONS)
    for answer in answers:
        assert not answer["problems"]
        assert answer["row"]["killed"] == FEW
