"""Whatever line the subscriber is killed at, a restart runs every action and records nothing twice.

The work is done by line_killer.py in a process of its own, which must have no thread when it forks.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

KILLER = Path(__file__).with_name("line_killer.py")
BOUND = 3600


def kill_lines(window: str, *options: str) -> subprocess.CompletedProcess[str]:
    folder = tempfile.mkdtemp(prefix="zk", dir="/tmp")
    top = KILLER.parents[2]
    paths = os.pathsep.join([str(top), str(top / "tests")])
    try:
        return subprocess.run(
            [sys.executable, str(KILLER), window, folder, *options],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
    finally:
        shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(BOUND + 60)
@pytest.mark.parametrize("window", ["intake", "engine"])
def test_killed_at_any_line_nothing_is_lost_or_doubled(
    window: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = kill_lines(window)

    with capsys.disabled():
        print("\n" + done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("window", ["intake", "engine"])
def test_killed_at_some_lines_nothing_is_lost_or_doubled(window: str) -> None:
    done = kill_lines(window, "--step", "97")

    assert done.returncode == 0, done.stdout + done.stderr
