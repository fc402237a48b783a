"""What `zmq-keys show` says of a certificate at a given time."""

from pathlib import Path

import pytest

from hgext_zmqhooks.keys import make, show
from hgext_zmqhooks.keys.files import write_private
from hgext_zmqhooks.wire import keyfiles

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("at", "standing"),
    [
        (NOW - make.CLOCK_SKEW - 1, "not-yet"),
        (NOW - make.CLOCK_SKEW, "valid"),
        (NOW + make.DAY - 1, "valid"),
        (NOW + make.DAY, "expired"),
    ],
)
def test_the_standing_follows_the_time(tmp_path: Path, at: int, standing: str) -> None:
    root = keyfiles.generate("root")
    key = make.certified(root, make.Wish("ci", read=(make.EVERYTHING,), days=1), NOW)
    write_private(tmp_path / "ci.key", key.encode())

    (described,) = show.describe(tmp_path / "ci.key", at)

    assert described.standing == standing
    assert f"standing:    {standing}" in show.as_text(described).splitlines()
