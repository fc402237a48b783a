"""A repository of this host, asked by `hg` in a process of its own, as a client would see it.

    hg -R PATH serve --stdio   <- branchmap        heads of each branch in the served view
    hg -R PATH log -r …                            which of them are closed, which nodes lie between
    hg -R PATH events --preview -r …               the event that a push of a changeset would make

Mercurial's own served view hides secret changesets and what is obsolete; only the wire protocol
shows exactly that one. Nothing is written.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

from hgext_zmqhooks.service.errors import ServiceError

HG_SECONDS = 300.0
MAX_NODES = 500
"""Nodes that one question names; a command line has an end."""
MAX_MISSING = 1000
"""Nodes that one answer lists."""

_NODE = re.compile("[0-9a-f]{40}")
_LOAD = ("--config", "extensions.hgext_zmqhooks=")
_READ = "may this user read the repository? Try `hg log` there"
_UNKNOWN = "unknown command 'events'"
"""What hg says that does not load the extension."""
_NAMELESS = "no name to publish under"


class Repository:
    """One repository by its folder. Every method raises ServiceError."""

    def __init__(self, path: Path) -> None:
        if not (path / ".hg").is_dir():
            hint = "name its folder on this host with --repository"
            raise ServiceError(f"{path}: not a Mercurial repository", hint=hint)
        self.path = path
        self._hg = shutil.which("hg") or str(Path(sys.executable).with_name("hg"))

    def heads(self) -> Mapping[str, tuple[str, ...]]:
        """The open heads of each branch in the served view, the newest last.

        A branch all of whose heads are closed has an empty tuple.
        """
        served = _branchmap(self._run("serve", "--stdio", ask=b"branchmap\n"))
        # A closing changeset is a head of its branch, unless only a secret one follows it.
        closed = self._nodes("(head() or parents(secret() or obsolete())) and closed()")
        return {
            branch: tuple(node for node in nodes if node not in closed)
            for branch, nodes in served.items()
        }

    def present(self, nodes: Iterable[str]) -> set[str]:
        """Those that the served view has."""
        wanted = sorted(nodes)
        found: set[str] = set()
        for at in range(0, len(wanted), MAX_NODES):
            found.update(self._nodes(f"{_listed(wanted[at : at + MAX_NODES])} and not secret()"))
        return found

    def between(self, heads: Collection[str], known: Collection[str]) -> list[str]:
        """What leads to `heads`, on their branches, and is no ancestor of `known`; oldest first.

        Also what follows `known` on the same branches. At most MAX_MISSING nodes.
        """
        new, old = _listed(sorted(heads)[:MAX_NODES]), _listed(sorted(known)[:MAX_NODES])
        branches = f"branch({new} or {old}) and not secret()"
        return self._nodes(f"(only({new}, {old}) or (descendants({old}) - {old})) and {branches}")

    def preview(self, rev: str, name: str | None = None) -> bytes:
        """The event that a push of one changeset would make, as the extension makes it.

        `name`: of the repository, where hg shall not say it. An hg that does not load the
        extension by itself is told to.
        """
        named = () if name is None else ("--config", f"zmqhooks.repo={name}")
        words = ("events", "--preview", f"--rev={rev}", *named)
        done = self._call(*words)
        if done.returncode != 0 and _UNKNOWN in done.stderr.decode(errors="replace"):
            done = self._call(*_LOAD, *words)
        nameless = _NAMELESS in done.stderr.decode(errors="replace")
        hint = "name it with --repo NAME" if nameless else "see `hg events --check` there"
        return self._output(done, hint)

    def _nodes(self, revset: str) -> list[str]:
        words = ("log", "--rev", revset, "--limit", str(MAX_MISSING), "--template", "{node}\n")
        return self._run(*words).decode("ascii", "replace").split()

    def _run(self, *words: str, ask: bytes = b"") -> bytes:
        return self._output(self._call(*words, ask=ask), _READ)

    def _call(self, *words: str, ask: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        environment = os.environ | {"HGPLAIN": "1", "HGENCODING": "utf-8"}
        try:
            return subprocess.run(
                [self._hg, "-R", str(self.path), *words],
                input=ask,
                env=environment,
                capture_output=True,
                timeout=HG_SECONDS,
                check=False,
            )
        except OSError as error:
            hint = "this verb needs hg, and the repository, on this host"
            raise ServiceError(f"{self._hg}: {error.strerror}", hint=hint) from None
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{self.path}: hg took more than {HG_SECONDS:g} s") from None

    def _output(self, done: "subprocess.CompletedProcess[bytes]", hint: str) -> bytes:
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise ServiceError(f"{self.path}: hg failed: {said}", hint=hint)
        return done.stdout


def _listed(nodes: Iterable[str]) -> str:
    """A revset of nodes, of which some may not be there.

    >>> _listed(["ab", "cd"]), _listed([])
    ('(id(ab)+id(cd))', 'none()')
    """
    words = "+".join(f"id({node})" for node in nodes)
    return f"({words})" if words else "none()"


def _branchmap(answer: bytes) -> dict[str, list[str]]:
    r"""The heads by branch in an answer of the ssh protocol.

    >>> _branchmap(b"46\na%20b " + b"1" * 40)
    {'a b': ['1111111111111111111111111111111111111111']}
    """
    _, _, body = answer.partition(b"\n")
    found = {}
    for line in body.decode("ascii", "replace").splitlines():
        quoted, *nodes = line.split(" ")
        if not all(_NODE.fullmatch(node) for node in nodes):
            raise ServiceError(f"hg gave no heads but {line[:80]!r}")
        found[unquote_to_bytes(quoted).decode(errors="replace")] = nodes
    return found
