"""Take away one check after another, and show that the test that aims at it fails.

    PYTHONPATH=tests python -m trust.mutate [WORD…]      only the tests whose names have a WORD

In a copy of the tree: the tests pass as it is; then, for each cell, the text of its check is
replaced, its test is run, and has to fail by an assertion. Prints a table; status 1 if a test did
not notice, or failed for another reason.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.tables import lines
from trust.cells import Cell, Mutation, every

TOP = Path(__file__).parents[2]
PARTS = ("hgext_zmqhooks", "subscriber", "tests", "docs")
FILES = ("pyproject.toml", "Makefile", "README.md")
ASSERTIONS = ("AssertionError", "assert ", "Failed: DID NOT RAISE")
"""How the message of a test begins that found what it was looking for."""
WORKERS = 2
SECONDS = 300


class Tree:
    """A copy of the sources in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            shutil.copytree(TOP / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy(TOP / name, folder / name)

    def run(self, *tests: str) -> str:
        """Nothing if the tests pass; else the message of the first that does not."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "-n", "0", f"--junitxml={report}", *tests],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{self.folder / 'tests'}"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return ""
        return next(_messages(report), f"pytest ended with {done.returncode}: {done.stdout[-500:]}")

    def without(self, cell: Cell) -> str:
        """What the test says when the check is gone; nothing if it passes."""
        path = self.folder / cell.mutation.file
        whole = path.read_text()
        path.write_text(mutated(whole, cell.mutation))
        try:
            return self.run(cell.node)
        finally:
            path.write_text(whole)


def _messages(report: Path) -> Iterator[str]:
    if report.exists():
        for fault in ET.parse(report).getroot().iter():
            if fault.tag in {"failure", "error"}:
                kind = "" if fault.tag == "failure" else "outside the test: "
                yield kind + fault.get("message", "").partition("\n")[0]


def mutated(whole: str, mutation: Mutation) -> str:
    """The text of a file without the check. AssertionError if it is not there exactly once."""
    found = whole.count(mutation.old)
    assert found == 1, f"{mutation.file}: {mutation.old!r} stands there {found} times"
    return whole.replace(mutation.old, mutation.new)


def judge(cells: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
    """What the test of each cell says without the check, in copies of the tree."""
    with tempfile.TemporaryDirectory(prefix="trust") as folder:
        trees = [Tree(_made(Path(folder) / str(number))) for number in range(WORKERS)]
        if said := trees[0].run(*(cell.node for cell in cells)):
            raise SystemExit(f"without any mutation: {said}")
        idle = list(trees)

        def one(cell: Cell) -> tuple[Cell, str]:
            tree = idle.pop()
            try:
                return cell, tree.without(cell)
            finally:
                idle.append(tree)

        with ThreadPoolExecutor(WORKERS) as pool:
            yield from pool.map(one, cells)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def row(cell: Cell, said: str) -> dict[str, object]:
    """A line of the table."""
    check = " ".join(cell.mutation.old.split())
    return {
        "cell": f"{cell.attacker} / {cell.promise}",
        "check removed": f"{cell.mutation.file}: {check[:70]}",
        "test": cell.test,
        "caught": "yes" if said.startswith(ASSERTIONS) else "no",
        "it says": said[:60] or "it passed",
    }


def main(words: Sequence[str]) -> int:
    """Print the table; the exit status."""
    cells = [one for one in every() if not words or any(word in one.node for word in words)]
    rows = [row(*judged) for judged in judge(cells)]
    print("\n".join(lines(rows)))
    missed = [one for one in rows if one["caught"] != "yes"]
    print(f"{len(rows) - len(missed)} of {len(rows)} checks: their tests fail without them")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
