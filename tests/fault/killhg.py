"""hg inside this process, or in a forked child that kills itself at a chosen Python line.

In an armed child the lines are counted that are executed in these windows; at line number N the
child sends itself SIGKILL:

    close      of the outermost transaction of the repository under test
    rollback   of the repository, with what the extension does before
    strip      what `repair.strip` and its helpers do themselves, between its transactions too
    extension  what it does before a transaction exists, when it begins, and after the lock

It kills at line boundaries only, and what the process wrote stays in the page cache: this says
nothing about power loss.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from mercurial import dispatch, localrepo, repair, transaction

from hgext_zmqhooks import extension

try:  # 7.2 moved the request
    from mercurial import main_script

    Request = main_script.request
except ImportError:
    Request = dispatch.request

CLOSING = frozenset(
    {
        "transaction.py",
        "vfs.py",
        "util.py",
        "changelog.py",
        "revlog.py",
        "localrepo.py",
        "bookmarks.py",
        "phases.py",
        "store.py",
        "scmutil.py",
        "fncache.py",
    }
)
"""Mercurial's modules that the end of a transaction goes through."""
STRIPPING = frozenset({"repair.py"})
"""Where a strip cuts; what it calls would be ten thousand lines that only read."""


def hg(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; its exit status and all that it said."""
    out = io.BytesIO()
    request = Request([os.fsencode(item) for item in arguments], fout=out, ferr=out)
    status = dispatch.dispatch(request) or 0
    return status, out.getvalue().decode("utf-8", "replace")


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; its exit status, -9 if it was killed, 99 if it raised."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as the parent
        os._exit(99)
    os._exit(0)


@cache
def _counted(filename: str, modules: frozenset[str]) -> bool:
    path = Path(filename)
    if "hgext_zmqhooks" in path.parts:
        return True
    return "mercurial" in path.parts and path.name in modules


class Killer:
    """Counts lines inside windows, and kills at number `line`; 0 counts all and kills never."""

    def __init__(self, line: int, place: Path) -> None:
        self.count = 0
        self._line = line
        self._place = place
        self._modules: frozenset[str] | None = None

    def arm(self, marker: bytes) -> None:
        """Open the windows for the repository whose path contains `marker`."""

        def outermost(tr: Any) -> bool:
            return tr._count == 1 and marker in tr._opener.join(b"")

        self._window(transaction.transaction, "close", CLOSING, outermost)
        self._window(localrepo.localrepository, "rollback", CLOSING)
        self._window(repair, "strip", STRIPPING)
        for name in ("begin", "join", "publish"):
            self._window(extension.Attached, name, CLOSING)

    def _window(
        self,
        owner: Any,
        name: str,
        modules: frozenset[str],
        applies: Callable[[Any], bool] = lambda _first: True,
    ) -> None:
        function = getattr(owner, name)

        def inside(*args: Any, **kwargs: Any) -> Any:
            if not applies(args[0]):
                return function(*args, **kwargs)
            outer, self._modules = self._modules, modules
            sys.settrace(self._enter)
            try:
                return function(*args, **kwargs)
            finally:
                self._modules = outer
                if outer is None:
                    sys.settrace(None)

        setattr(owner, name, inside)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        modules = self._modules
        if modules is None or not _counted(frame.f_code.co_filename, modules):
            return None
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self._line:
                name = Path(frame.f_code.co_filename).name
                self._place.write_text(f"{name}:{frame.f_lineno}")
                os.kill(os.getpid(), signal.SIGKILL)
        return self._step
