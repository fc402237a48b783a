"""`.ci/run` says what ran, and fails when a suite failed or held no test; scripts can start."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
MAKEFILE = """\
test test-long:
\t@{python} -m pytest -q -p no:cacheprovider --rootdir . suites/$@.py
"""
PASSES, FAILS, EMPTY = "def test_it(): pass\n", "def test_it(): assert 0\n", ""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout with this `.ci/run` and two small suites."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "suites").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(MAKEFILE.format(python=sys.executable))
    return tmp_path


def run(clone: Path, short: str, long: str) -> subprocess.CompletedProcess[str]:
    (clone / "suites" / "test.py").write_text(short)
    (clone / "suites" / "test-long.py").write_text(long)
    return subprocess.run(
        [clone / ".ci" / "run"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": "/usr/bin:/bin"},
        check=False,
    )


def test_both_suites_run_and_are_named(clone: Path) -> None:
    done = run(clone, PASSES, PASSES)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 passed") == 2
    assert "== make test passed" in done.stdout
    assert "== make test-long passed" in done.stdout


@pytest.mark.parametrize("bad", [FAILS, EMPTY], ids=["fails", "empty"])
@pytest.mark.parametrize("suite", ["test", "test-long"])
def test_a_suite_that_fails_or_is_empty_fails_the_run(clone: Path, suite: str, bad: str) -> None:
    done = run(clone, *((bad, PASSES) if suite == "test" else (PASSES, bad)))

    assert done.returncode != 0
    assert f"== make {suite} failed with status" in done.stdout


def test_a_script_starts_where_the_path_has_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a checkout" / "bin"
    folder.mkdir(parents=True)
    python, script, other = folder / "python", folder / "hg", folder / "other"
    python.symlink_to(sys.executable)
    script.write_text(f"#!{python}\nimport sys\nprint('hg', *sys.argv[1:])\n")
    other.write_text("#!/usr/bin/env python\n")
    script.chmod(0o755)
    with pytest.raises(FileNotFoundError):
        subprocess.run([script], check=False)

    for _twice in range(2):
        subprocess.run([sys.executable, SCRIPT.with_name("mend_scripts.py"), folder], check=True)

    done = subprocess.run([script, "a b"], capture_output=True, text=True, check=True)
    assert done.stdout == "hg a b\n"
    assert other.read_text() == "#!/usr/bin/env python\n"
