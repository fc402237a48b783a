# ruff: noqa: PTH123
# Mercurial's paths are bytes, which pathlib has not.
"""Where Mercurial's versions differ, and what of its inside we touch; each shim names its version.

Everything here was tried on 6.9, 7.0, 7.1 and 7.2.
"""

import importlib
import threading
from typing import Any, NamedTuple

import hgdemandimport
from mercurial import encoding, error, extensions

testedwith = b"6.9 7.0 7.1 7.2"
minimumhgversion = b"6.9"
buglink = b"https://pypi.org/project/hg-zmqhooks/"

_importing = threading.Lock()


def eager(name: str) -> Any:
    """One of our modules, loaded with all it imports, now.

    Mercurial imports lazily, and a lazy module used for the first time by several threads at once
    (hgweb) is seen half loaded (CPython gh-114763, Python before 3.13). So whatever needs zmq or
    nacl is imported here, at first use, under one lock.
    """
    with _importing, hgdemandimport.deactivated():
        return importlib.import_module(f"{__package__}.{name}")


def text(raw: bytes) -> str:
    """Names and texts as they stand in the changelog, as str: never through the locale.

    Mercurial writes UTF-8; what an old version wrote otherwise gets U+FFFD, so that the same
    history gives the same event bytes under every encoding.
    """
    return raw.decode("utf-8", "replace")


def stored(local: bytes) -> str:
    """The UTF-8 that stands behind a name in Mercurial's local encoding, as str."""
    try:
        return text(encoding.fromlocal(local))
    except Exception:  # noqa: BLE001 - error.Abort: the name has no UTF-8, as a file system may give
        return text(bytes(local))


def message(words: str) -> bytes:
    """A str of ours as Mercurial's ui wants it."""
    return encoding.tolocal(words.encode("utf-8", "replace"))


def raw_texts(revision: Any) -> tuple[bytes, bytes]:
    """User and description of a `changelogrevision`, the bytes that the changelog holds.

    6.9 to 7.2: its properties answer in the local encoding; the raw text is private.
    """
    raw = getattr(revision, "_text", None)
    if raw is None:  # the null revision
        return b"", b""
    _manifest, user, _date, files = revision._offsets
    return raw[raw.index(b"\n") + 1 : user], raw[files + 2 :]


def lock_at_once(repo: Any) -> Any:
    """The store lock, None where it cannot be had without waiting."""
    try:
        return repo.lock(wait=False)
    except error.LockError:
        return None


def abort(words: str, hint: str) -> Exception:
    """The error that ends a command; for modules that do not import Mercurial."""
    found: Exception = error.Abort(message(words), hint=message(hint))
    return found


class Branches(NamedTuple):
    """The heads of all branches of a view at one moment.

    `entries`: branch in local encoding -> nodes of its heads, the newest last, closed ones too.
    `closed`: nodes that close their branch, perhaps more than those.
    """

    entries: dict[bytes, list[bytes]]
    closed: frozenset[bytes]

    def heads(self, branch: bytes) -> list[bytes]:
        """Every head, closed ones too."""
        return self.entries.get(branch, [])

    def open_heads(self, branch: bytes) -> list[bytes]:
        """Heads that do not close the branch."""
        return [node for node in self.heads(branch) if node not in self.closed]

    def tip(self, branch: bytes) -> bytes | None:
        """The newest open head, else the newest closed one, else None."""
        heads = self.open_heads(branch) or self.heads(branch)
        return heads[-1] if heads else None

    def changed(self, other: "Branches") -> list[bytes]:
        """Branches whose heads are not the same in `other`."""
        if self.entries == other.entries:
            return []
        names = dict.fromkeys([*self.entries, *other.entries])
        return [name for name in names if self.heads(name) != other.heads(name)]


def branches(repo: Any) -> Branches:
    """The branches of this view now; later changes of Mercurial's own map do not reach it.

    A copy of its dictionary, because asking it branch by branch takes 40 ms at 10,000 branches.
    Its lists are replaced, never changed in place (6.9 to 7.2, `inherit_for` relies on it too).
    """
    found = repo.branchmap()
    if getattr(found, "_pure_topo_branch", None) is not None:  # 7.0: branch-cache v3, experimental
        entries = {name: list(found.branchheads(name, closed=True)) for name in found}
    else:
        entries = dict(found._entries)
    return Branches(entries, frozenset(found._closednodes))


def local(name: bytes) -> bytes:
    """A branch name from the changelog as Mercurial's branch map has it."""
    return encoding.tolocal(name)


def wrap(container: Any, name: str, wrapper: Any) -> None:
    """`extensions.wrapfunction`; 7.0 and later want the name as str, 6.9 accepts it."""
    extensions.wrapfunction(container, name, wrapper)


def trusted(ui: Any, path: bytes) -> bool:
    """Whether hg honours all of this configuration file; 6.9 to 7.2 have no public question."""
    with open(path, "rb") as file, ui.silent():
        return ui._trusted(file, path)
