r"""Globs over paths and names, in time that grows with the text and no faster.

`*` stops at "/", `**` crosses it, `?` is one character but "/"; as in Mercurial's globs `**/` may
stand for no folder at all.

The texts come from whoever may commit. A regular expression with several runs tries all ways to
share a text among them: a user name of a few hundred thousand characters would hold the whole
daemon, since the engine of `re` lets no other thread go on. So it is used only where it is sure to
be fast; else the glob is walked.
"""

import re
from collections.abc import Iterable

_SHORT = 256
"""Longest text in characters for which a glob of two runs is left to `re`."""

_WILD = re.compile(r"\*\*/|\*\*|\*|\?")
_ITEM = re.compile(r"\*\*/|\*\*|\*|\?|.", re.DOTALL)
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def glob_expression(glob: str) -> str:
    r"""The regular expression of a glob over paths and names.

    >>> glob_expression("src/**/*.p?")
    'src/(?:.*/)?[^/]*\\.p[^/]'
    """
    literals = _WILD.split(glob)
    wild = [_MEANING[match] for match in _WILD.findall(glob)]
    pairs = zip(literals, [*wild, ""], strict=True)
    return "".join(re.escape(literal) + meaning for literal, meaning in pairs)


class Glob:
    """One glob.

    >>> Glob("src/**/*.py").fits("src/a.py"), Glob("src/*.py").fits("src/a/b.py")
    (True, False)
    """

    __slots__ = ("_expression", "_runs", "_walk")

    def __init__(self, glob: str) -> None:
        self._runs = sum(wild != "?" for wild in _WILD.findall(glob))
        self._expression = re.compile(glob_expression(glob), re.DOTALL)
        self._walk = Walk(glob)

    def fits(self, text: str) -> bool:
        """Whether the whole text fits."""
        if self._runs <= 1 or (self._runs == 2 and len(text) <= _SHORT):
            return self._expression.fullmatch(text) is not None
        return self._walk.fits(text)


class Walk:
    """A glob as a machine with one bit per place in it; each character moves all bits.

    >>> Walk("**/a*c").fits("x/abc"), Walk("**/a*c").fits("xabc")
    (True, False)
    """

    __slots__ = ("_any", "_end", "_enter", "_inner", "_literal", "_name", "_one", "_skip")

    def __init__(self, glob: str) -> None:
        self._literal: dict[str, int] = {}
        self._one = self._name = self._any = self._skip = self._enter = self._inner = 0
        place = 1
        for item in _ITEM.findall(glob):
            if item == "**/":  # two places: before its first character, and in its folders
                self._enter |= place
                place <<= 1
                self._inner |= place
                self._any |= place
            elif item in {"*", "**"}:
                self._skip |= place
                self._name |= place if item == "*" else 0
                self._any |= place if item == "**" else 0
            elif item == "?":
                self._one |= place
            else:
                self._literal[item] = self._literal.get(item, 0) | place
            place <<= 1
        self._end = place

    def _past_runs(self, here: int) -> int:
        """A run may be empty."""
        while (more := here | (here & self._skip) << 1 | (here & self._enter) << 2) != here:
            here = more
        return here

    def fits(self, text: str) -> bool:
        """Whether the whole text fits."""
        here = self._past_runs(1)
        for character in text:
            one = here & (self._literal.get(character, 0) | self._enter)
            stay = here & self._any
            if character == "/":
                one |= here & self._inner
                stay |= (here & self._enter) << 2
            else:
                one |= here & self._one
                stay |= here & self._name
            here = self._past_runs(stay | one << 1)
            if not here:
                return False
        return bool(here & self._end)


class Globs:
    """Fits a text when one glob does, or when there is none."""

    __slots__ = ("_globs",)

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = tuple(Glob(glob) for glob in globs)

    def fits(self, text: str | None) -> bool:
        """Whether one fits; no text fits none."""
        if not self._globs:
            return True
        return text is not None and any(glob.fits(text) for glob in self._globs)
