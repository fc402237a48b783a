"""Documentation pages as programs: their files and commands, in order.

A fenced block is a file when its first line is a comment with an absolute path, else commands when
its language is `sh`; blocks without a language are for reading. Paths of the page stand for
folders of the test: `substitute` names them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(sh|ini|yaml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# (/\S+)\n")


@dataclass(frozen=True)
class File:
    path: Path
    text: str

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text)


@dataclass(frozen=True)
class Commands:
    text: str


def steps(page: Path, substitute: Mapping[str, Path]) -> Iterator[File | Commands]:
    text = page.read_text()
    for path, instead in substitute.items():
        text = text.replace(path, str(instead))
    for language, block in _BLOCK.findall(text):
        if named := _NAMED.match(block):
            yield File(Path(named[1]), block[named.end() :])
        elif language == "sh":
            yield Commands(block)
