"""SIGKILL of `hg events --prune` at lines of ours: the repository goes on, and rolls back right.

Every 97th line in the ordinary run, every 13th in the long one.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault.killhg import forked, hg
from hgkit import make_keys

import hgext_zmqhooks

ROOM = str(Path(hgext_zmqhooks.__file__).parent)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits, and an undo of the last one."""
    make_keys(tmp_path)
    hgrc = tmp_path / "hgrc"
    hgrc.write_text(
        "[ui]\nusername = test\n[extensions]\nhgext_zmqhooks =\n[zmqhooks]\n"
        f"key = {tmp_path}/publisher.key\nroot = {tmp_path}\n"
    )
    monkeypatch.setenv("HGRCPATH", str(hgrc))
    path = tmp_path / "app"
    hg("init", path)
    for name in "abc":
        (path / name).write_text(name)
        assert hg("-R", path, "commit", "-Aqm", name, path / name) == (0, "")
    return path


def prune(repo: Path, line: int) -> None:
    """Die before line number `line` of the extension's modules."""
    count = 0

    def step(frame, event, _argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        if event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return step

    sys.settrace(step)
    hg("-R", repo, "events", "--prune", "--config", "zmqhooks.keep=1K")
    sys.settrace(None)


def killed(repo: Path, step: int, first: int) -> Iterator[Path]:
    """The repository after each kill, and at last after a prune that came to its end."""
    for line in range(first, 100_000, step):
        ended = forked(lambda: prune(repo, line))  # noqa: B023 - it runs here and now
        assert ended in {0, -signal.SIGKILL}
        yield repo
        if ended == 0:
            return


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("step", "first"), [(97, 50), pytest.param(13, 1, marks=pytest.mark.long)])
def test_lines_of_a_prune(repo, tmp_path, step, first):
    store = repo / ".hg/store"
    saved = tmp_path / "saved"
    shutil.copytree(repo / ".hg", saved)
    kept = set()
    for _again in killed(repo, step, first):
        # Then the journal is sound, and holds all three transactions or the newest
        status, words = hg("-R", repo, "events", "--verify")
        assert status == 0, words
        kept.add(words.split()[1])
        # And a rollback takes the newest event with its changeset, or is refused
        undo = (store / "undo").exists()
        status, words = hg("-R", repo, "rollback", "-qf")
        assert status == (0 if undo else 1), words
        status, words = hg("-R", repo, "log", "-T", "{desc}")
        assert words == ("ba" if undo else "cba")
        (repo / "d").write_text("d")
        assert hg("-R", repo, "commit", "-Aqm", "d", repo / "d")[0] == 0
        status, words = hg("-R", repo, "events", "--verify")
        assert status == 0, words
        restore(repo, saved)
    assert kept == {"1", "3"}


def restore(repo: Path, saved: Path) -> None:
    """The repository as it was; the head names the copied file, so that its journal goes on."""
    store = repo / ".hg/store"
    shutil.rmtree(repo / ".hg")
    shutil.copytree(saved, repo / ".hg", symlinks=True)
    found = (store / "zmqhooks-events").stat()
    head = store / "zmqhooks-head"
    document = json.loads(head.read_bytes())
    document.update(dev=found.st_dev, ino=found.st_ino)
    head.write_text(json.dumps(document))
