"""The lock of a store when its holder was killed while it started a command."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subscriber.store.base import StoreError
from subscriber.store.connection import Lock, holder

# Takes the lock, leaves a child that shares it for a while, and dies.
HOLDER = """
import os, signal, sys, time
from pathlib import Path
from subscriber.store.connection import Lock, holder
lock = Lock(Path(sys.argv[1]))
if os.fork() == 0:
    os.close(1)
    time.sleep(float(sys.argv[2]))
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_holder(path: Path, seconds: float) -> None:
    subprocess.run([sys.executable, "-c", HOLDER, str(path), str(seconds)], check=False)


def test_a_lock_that_a_child_of_a_dead_holder_still_shares_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ci.db.lock"
    killed_holder(path, 0.5)

    begin = time.monotonic()
    with Lock(path):
        waited = time.monotonic() - begin

    assert 0.1 < waited < 2


def test_a_living_holder_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ci.db.lock"
    begin = time.monotonic()

    with Lock(path), pytest.raises(StoreError, match="in use by process"):
        Lock(path)

    assert time.monotonic() - begin < 1


def test_who_signs_is_known_to_the_next_holder_and_the_one_after(tmp_path: Path) -> None:
    path = tmp_path / "ci.db.lock"
    with Lock(path) as first:
        assert first.former == ""
        first.sign("ci/büro/1-a")
    # One that does not sign leaves the name that is there
    with Lock(path) as second:
        assert second.former == "ci/büro/1-a"
    with Lock(path) as third:
        assert third.former == "ci/büro/1-a"
        assert holder(tmp_path / "ci.db") == str(os.getpid())


def test_a_lock_file_of_an_older_version_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "ci.db.lock"
    path.write_text("4711\n")

    with Lock(path) as lock:
        assert lock.former == ""
