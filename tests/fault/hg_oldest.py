"""An environment with the oldest supported Mercurial, made once inside the one that runs the tests.

It holds what .ci/constraints-oldest.txt names and nothing of ours: that comes by PYTHONPATH.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[2] / ".ci/constraints-oldest.txt"
PLACE = Path(sys.prefix) / "hg-oldest"
PACKAGES = ("mercurial", "pyzmq", "pynacl")
DEADLINE = 600


def python() -> Path:
    """Its Python; made at first use, and anew when the constraints or our own Python change."""
    found = PLACE / "bin/python"
    wanted = f"{sys.version}\n{PINS.read_text()}"
    with PLACE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        stamp = PLACE / "installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(PLACE, ignore_errors=True)
            _run([sys.executable, "-m", "venv", PLACE])
            pip = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--constraint", PINS, *PACKAGES])
            stamp.write_text(wanted)
    return found


def _run(command: list[str | Path]) -> None:
    subprocess.run(command, check=True, timeout=DEADLINE)
