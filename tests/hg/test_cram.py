"""What a user of hg sees: the .t files beside this one, run by Mercurial's own runner.

The wheel of Mercurial has no tests, its source archive has. It is fetched once, for the installed
version, through pip, and kept inside the virtual environment.
"""

import fcntl
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from hgkit import HG, make_keys

HERE = Path(__file__).parent
CACHE = Path(sys.prefix) / "hg-source"
FETCH_DEADLINE = 300


@pytest.fixture(scope="module")
def runner() -> Path:
    """run-tests.py of the installed Mercurial."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        name = f"mercurial-{version('mercurial')}"
        script = CACHE / name / "tests/run-tests.py"
        if not script.exists():
            _fetch(name)
        return script


def _fetch(name: str) -> None:
    requirement = name.replace("-", "==")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--no-binary", ":all:", "--dest", CACHE, requirement],
        check=True,
        timeout=FETCH_DEADLINE,
    )
    archive = CACHE / f"{name}.tar.gz"
    with tarfile.open(archive) as source:
        tests = [member for member in source if member.name.startswith(f"{name}/")]
        # Python 3.11 before 3.11.4 has no filters; the archive is Mercurial's own.
        how = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        source.extractall(CACHE, members=tests, **how)
    archive.unlink()


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """The environment of a .t file: PUBLISHER_KEY for its use, and other keys by name."""
    make_keys(tmp_path)
    found = {"PUBLISHER_KEY": str(tmp_path / "publisher.key")}
    day = 86_400
    kinds: dict[str, dict[str, object]] = {
        "EXPIRED_KEY": {"valid": (-9 * day, -1 * day)},
        "LATE_KEY": {"valid": (-89 * day, 1 * day)},
        "EARLY_KEY": {"valid": (1 * day, 9 * day)},
        "DEFAULT_KEY": {"publish": ("hg:**:default:",)},
        "FOREIGN_KEY": {"publish": ("hg:other/**:**:",)},
        "READING_KEY": {"roles": ("subscriber",)},
    }
    for name, how in kinds.items():
        folder = tmp_path / name
        folder.mkdir()
        make_keys(folder, **how)  # type: ignore[arg-type]
        found[name] = str(folder / "publisher.key")
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", sorted(HERE.glob("*.t")), ids=lambda path: path.stem)
def test_cram(script: Path, runner: Path, keys: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            runner,
            f"--with-hg={HG}",
            f"--tmpdir={tmp_path / 'cram'}",
            f"--outputdir={tmp_path}",
            "--port=0",
            script.name,
        ],
        cwd=HERE,
        env={**os.environ, **keys, "PACKAGE": str(HERE.parents[1] / "hgext_zmqhooks")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 1 tests, 0 skipped, 0 failed" in done.stdout + done.stderr
