"""The control socket: what is said over it, whatever its size, and what cannot stop the daemon."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hgext_zmqhooks.service.life import Stop
from subscriber.control import MAX_LINE, Control, ask

ROWS: list[dict[str, object]] = [{"kind": "accepted", "branch": "b" * 200}] * 1000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where a daemon answers each request with the same rows."""
    stop, control = Stop(), Control(tmp_path / "c", lambda _request, _who: ROWS)
    thread = threading.Thread(target=control.run, args=(stop,), daemon=True)
    thread.start()
    yield tmp_path / "c"
    stop.set()
    thread.join(20)
    control.close()


def test_an_answer_may_be_long(place: Path) -> None:
    assert ask(place, {"verb": "accept"}) == ROWS


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "request_", [b"no JSON\n", b"[]\n", b"[" * (MAX_LINE - 1) + b"\n", b"x" * MAX_LINE]
)
def test_what_is_no_request_has_no_answer_and_the_next_one_has(
    place: Path, request_: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(place))
        connection.sendall(request_)
        assert connection.recv(10) == b""

    assert ask(place, {"verb": "accept"}) == ROWS
