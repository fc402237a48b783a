"""The repositories of the kill tests, and the eight operations that are killed in them.

    0 --- 1 --- 2 --- 3      default, the working copy at 3, bookmark bm at 1
           \
            4                stable

Rewriting or removing 2 or 3 makes Mercurial put 4 away and back again.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fault import killhg
from hgkit import Host

MARKER = b"/target/"
"""Part of the path of the repository under test, and of no other."""


def hg(*arguments: str | Path) -> str:
    """A command that must succeed; its output."""
    status, output = killhg.hg(*arguments)
    assert status == 0, (arguments, output)
    return output


class Scene:
    """The repository under test, as often as wanted in the same state, and a clone with work."""

    def __init__(self, folder: Path, operation: str) -> None:
        host = Host(folder)
        host.write(extra="strip =\nrebase =\n")
        if operation.endswith("+evolution"):
            host.write(extra="[experimental]\nevolution = all")
        os.environ.update(host.env())
        self.operation = operation
        self.target, self.work = host.root / "target", folder / "work"
        self.place = folder / "place"
        hg("init", self.target)
        self._history()
        self._prepare()
        self._base, self._work = folder / "base", folder / "work-base"
        self.target.rename(self._base)
        if self.work.exists():
            self.work.rename(self._work)

    @property
    def store(self) -> Path:
        """Of the repository under test."""
        return self.target / ".hg/store"

    def _history(self) -> None:
        for name in ("zero", "one", "two", "three"):
            commit(self.target, name)
        hg("-R", self.target, "bookmark", "-r", "1", "bm")
        hg("-R", self.target, "update", "-q", "1")
        hg("-R", self.target, "branch", "-q", "stable")
        commit(self.target, "four")
        hg("-R", self.target, "update", "-q", "3")

    def _prepare(self) -> None:
        if self.operation == "push":
            hg("clone", "-q", "--pull", self.target, self.work)
            commit(self.work, "five")
            hg("-R", self.work, "bookmark", "bb")
            hg("-R", self.work, "update", "-q", "stable")
            commit(self.work, "six")
        elif self.operation == "rollback":
            commit(self.target, "five")

    def fresh(self) -> None:
        """Everything as it was before the first kill."""
        for source, target in ((self._base, self.target), (self._work, self.work)):
            shutil.rmtree(target, ignore_errors=True)
            if source.exists():
                shutil.copytree(source, target, symlinks=True)
        # A copy begins a new journal; here the same one is to go on.
        head = self.store / "zmqhooks-head"
        stat = (self.store / "zmqhooks-events").stat()
        document = json.loads(head.read_bytes())
        head.write_text(json.dumps({**document, "dev": stat.st_dev, "ino": stat.st_ino}))

    def act(self, line: int) -> int:
        """The operation in a child that is killed at this line, 0 for none; its exit status.

        `place` then holds where it was killed, or how many lines there are.
        """

        def child() -> None:
            killer = killhg.Killer(line, self.place)
            killer.arm(MARKER)
            OPERATIONS[self.operation](self)
            self.place.write_text(str(killer.count))

        return killhg.forked(child)


def commit(repository: Path, name: str) -> None:
    """A changeset that adds a file."""
    (repository / name).write_text(f"{name}\n" * 20)
    hg("-R", repository, "commit", "-q", "-A", "-m", name, "-d", "0 0")


def _commit(scene: Scene) -> None:
    commit(scene.target, "killed")


def _amend(scene: Scene) -> None:
    (scene.target / "three").write_text("amended\n")
    hg("-R", scene.target, "commit", "-q", "--amend", "-m", "amended")


def _push(scene: Scene) -> None:
    hg("-R", scene.work, "push", "-q", "-B", "bb", "-f", scene.target)


def _on_target(*arguments: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        hg("-R", scene.target, *arguments)

    return act


_rebase = _on_target("rebase", "-q", "-s", "2", "-d", "4")

OPERATIONS: dict[str, Callable[[Scene], None]] = {
    "commit": _commit,
    "push": _push,
    "bookmark": _on_target("bookmark", "-q", "-f", "-r", "0", "bm"),
    "phase": _on_target("phase", "-q", "--force", "--secret", "-r", "2"),
    "amend": _amend,
    "rebase": _rebase,
    "strip": _on_target("strip", "-q", "-r", "2"),
    "rollback": _on_target("rollback", "-q"),
    "amend+evolution": _amend,
    "rebase+evolution": _rebase,
}
