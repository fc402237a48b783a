"""Why nobody listens: `hg events --check` tells a daemon that is down from a closed socket."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nobody import unprivileged

from hgext_zmqhooks.checkup import unheard


@pytest.fixture
def run() -> Iterator[Path]:
    """A folder of sockets in one that everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        made = Path(name) / "run"
        made.mkdir(mode=0o755)
        yield made
        made.chmod(0o755)


def test_no_socket_means_that_no_daemon_runs(run: Path) -> None:
    reason, hint = unheard(f"{run}/publish")

    assert reason == f"nobody listens: {run}/publish does not exist"
    assert hint.startswith("start zmq-subscriber or zmq-relay")


def test_a_socket_that_was_left_behind_means_so_too(run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{run}/publish")

    reason, hint = unheard(f"{run}/publish")

    assert reason == "nobody listens any more"
    assert hint.startswith("start zmq-subscriber or zmq-relay")


@pytest.mark.parametrize("closed", ["folder", "socket"])
def test_what_is_closed_to_this_user_is_named(run: Path, closed: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{run}/publish")
        listening.listen()
        place = run if closed == "folder" else run / "publish"
        place.chmod(0o700 if os.geteuid() == 0 else 0)

        with unprivileged() as user:
            reason, hint = unheard(f"{run}/publish")

    assert f"{place} (" in reason
    assert reason.endswith(f"by user {user}")
    assert "`group`" in hint
