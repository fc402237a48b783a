"""Topics: the name under which an event travels.

    topic   = source ":" subject ":"        hg:team/app:default:
    source  = scheme ":" name               hg:team/app

The closing ":" makes a ZeroMQ prefix subscription exact: `hg:team/app:default:` is no prefix of
`hg:team/app:default-2:`. Inside name and subject `:`, `%`, `*`, `?` and control characters are
percent-encoded, upper-case hex of UTF-8, so that a name can neither end a part nor act as a
pattern.

In a pattern, per part, `*` is any run without `/`, `**` any run, `?` one character but `/`;
nothing else is special:

    hg:team/*:release-*:        hg:**:default:        hg:team/**:**:
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .errors import Refused

MAX_LENGTH = 4096
"""Longest topic or pattern in characters; names in Mercurial are far shorter."""

_SHORT = 256
"""Longest pattern in characters that becomes a regular expression; longest name remembered."""

_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f:%*?]")
_ENCODED = re.compile("%([0-9A-F]{2}(?:%[0-9A-F]{2})*)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_GLOB = re.compile(r"\*\*|\*|\?")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r"\*+|.", re.DOTALL)
_RUN = re.compile(r"\*+")
_RUNS = frozenset({"*", "**"})


def encode_part(raw: str) -> str:
    r"""The form of a name inside a topic.

    >>> encode_part("team/app")
    'team/app'
    >>> encode_part("a:b%*?\n")
    'a%3Ab%25%2A%3F%0A'
    >>> encode_part("\x85é")
    '%C2%85é'
    """
    return _encode_short(raw) if len(raw) <= _SHORT else _SPECIAL.sub(_percent, raw)


@lru_cache(maxsize=4096)
def _encode_short(raw: str) -> str:
    """A catch-up meets the same few names again and again."""
    return _SPECIAL.sub(_percent, raw)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def decode_part(encoded: str) -> str:
    """The name that `encode_part` made this from; any other spelling is refused.

    >>> decode_part("a%3Ab")
    'a:b'
    >>> decode_part("%41")
    Traceback (most recent call last):
    ...
    hgext_zmqhooks.wire.errors.Refused: bad-topic: part '%41' is not in its encoded form
    """
    try:
        raw = _ENCODED.sub(lambda m: bytes.fromhex(m[1].replace("%", "")).decode(), encoded)
    except UnicodeDecodeError:
        raw = ""
    if encode_part(raw) != encoded:
        raise Refused("bad-topic", f"part {encoded!r} is not in its encoded form")
    return raw


def source(scheme: str, name: str) -> str:
    """The CloudEvents source of a repository.

    >>> source("hg", "team/app")
    'hg:team/app'
    """
    return f"{scheme}:{encode_part(name)}"


def topic(encoded_source: str, subject: str) -> str:
    """The topic of an event; `subject` is the raw name.

    >>> topic("hg:team/app", "feature: x")
    'hg:team/app:feature%3A x:'
    """
    return f"{encoded_source}:{encode_part(subject)}:"


def split(text: str) -> tuple[str, str, str]:
    """Scheme, name and subject, decoded.

    >>> split("hg:team/app:default:")
    ('hg', 'team/app', 'default')
    >>> split("hg:team/app:default")
    Traceback (most recent call last):
    ...
    hgext_zmqhooks.wire.errors.Refused: bad-topic: 'hg:team/app:default' is not scheme:name:subject:
    """
    scheme, name, subject = _three_parts(text, "bad-topic")
    return scheme, decode_part(name), decode_part(subject)


def split_source(text: str) -> tuple[str, str]:
    """Scheme and name of a source, decoded.

    >>> split_source("hg:team/app")
    ('hg', 'team/app')
    """
    scheme, _, name = text.partition(":")
    if not _SCHEME.fullmatch(scheme) or not name:
        raise Refused("bad-topic", f"source {text!r} is not scheme:name")
    return scheme, decode_part(name)


def _three_parts(text: str, kind: str) -> tuple[str, str, str]:
    parts = text.split(":")
    wellformed = len(parts) == 4 and parts[3] == "" and parts[1] and parts[2]
    if not wellformed or len(text) > MAX_LENGTH or not _SCHEME.fullmatch(parts[0]):
        raise Refused(kind, f"{text[:200]!r} is not scheme:name:subject:")
    return parts[0], parts[1], parts[2]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A topic pattern, such as a rule, a certificate or a session names it."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Refused "bad-pattern" unless `text` has the form of a topic with globs.

        >>> Pattern.parse("hg:team/*:default:").matches("hg:team/app:default:")
        True
        >>> Pattern.parse("hg:team/*:default:").matches("hg:team/app/sub:default:")
        False
        >>> Pattern.parse("hg:team/*").text
        Traceback (most recent call last):
        ...
        hgext_zmqhooks.wire.errors.Refused: bad-pattern: 'hg:team/*' is not scheme:name:subject:
        """
        _, name, subject = _three_parts(text, "bad-pattern")
        if _FORBIDDEN.search(text):
            raise Refused("bad-pattern", f"{text!r} has a control character; write it as %XX")
        if _SURROGATE.search(text):
            raise Refused("bad-pattern", f"{text!r} has half a character (a surrogate)")
        for part in (name, subject):
            for literal in _GLOB.split(part):
                _check_literal(literal, text)
        return cls(text)

    def matches(self, text: str) -> bool:
        """Whether the whole topic fits."""
        return _matcher(self.text)(text)

    def matches_source(self, text: str) -> bool:
        """Whether some topic of this source could fit.

        >>> Pattern.parse("hg:team/*:default:").matches_source("hg:team/app")
        True
        """
        return _matcher(self.text.rsplit(":", 2)[0])(text)

    def covers(self, source: str) -> bool:
        """Whether every topic of this source fits.

        >>> Pattern.parse("hg:team/*:**:").covers("hg:team/app")
        True
        >>> Pattern.parse("hg:team/*:*:").covers("hg:team/app")
        False
        """
        return self.text.endswith(":**:") and self.matches_source(source)

    def meets(self, other: "Pattern") -> bool:
        """Whether some topic can fit both.

        >>> Pattern.parse("hg:**:release-*:").meets(Pattern.parse("hg:team/*:*-1:"))
        True
        >>> Pattern.parse("hg:**:release-*:").meets(Pattern.parse("hg:**:default:"))
        False
        """
        return _meet(list(_tokens(self.text)), list(_tokens(other.text)))

    def within(self, other: "Pattern") -> bool:
        """Whether every topic that fits this one fits the other, too.

        Wildcards are compared as they stand: `?*` is not found to lie within `*?`, though it does.

        >>> Pattern.parse("hg:team/*:release-?:").within(Pattern.parse("hg:**:release-*:"))
        True
        >>> Pattern.parse("hg:**:release-*:").within(Pattern.parse("hg:team/*:**:"))
        False
        """
        return _within(list(_tokens(self.text)), list(_tokens(other.text)))

    @property
    def prefix(self) -> str:
        """Longest literal beginning, what a ZeroMQ subscription can filter by.

        >>> Pattern.parse("hg:team/*:default:").prefix
        'hg:team/'
        """
        return _GLOB.split(self.text, maxsplit=1)[0]


def _check_literal(literal: str, pattern: str) -> None:
    try:
        decode_part(literal)
    except Refused:
        raise Refused(
            "bad-pattern", f"{pattern!r}: {literal!r} is not percent-encoded as topics are"
        ) from None


def matches_any(patterns: Iterable[Pattern], text: str) -> bool:
    """Whether at least one pattern fits the topic."""
    for pattern in patterns:  # noqa: SIM110 - asked for every event; a generator takes twice as long
        if _matcher(pattern.text)(text):
            return True
    return False


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a whole text fits the pattern, in time that grows with the text and no faster.

    A regular expression with several runs in one part tries all ways to share the text among
    them, and patterns come from peers. Such a pattern, and a long one, is walked instead.
    """
    if len(pattern) <= _SHORT and all(len(_RUN.findall(part)) <= 1 for part in pattern.split(":")):
        fullmatch = re.compile(glob_expression(pattern), re.DOTALL).fullmatch
        return lambda text: fullmatch(text) is not None
    return Walk(pattern).fits


class Walk:
    """A glob as a machine with one bit per place in the pattern; each character moves all bits.

    >>> Walk("a/**b*c:").fits("a/x/bb-bc:"), Walk("a/**b*c:").fits("a/b/c:")
    (True, False)
    """

    __slots__ = ("_end", "_literal", "_one", "_prefix", "_runs", "_start", "_wide")

    def __init__(self, pattern: str) -> None:
        self._prefix = _GLOB.split(pattern, maxsplit=1)[0]
        self._literal: dict[str, int] = {}
        self._one = self._runs = self._wide = 0
        place = 1
        for item in _tokens(pattern[len(self._prefix) :]):
            if item in {"*", "**"}:
                self._runs |= place
                self._wide |= place if item == "**" else 0
            elif item == "?":
                self._one |= place
            else:
                self._literal[item] = self._literal.get(item, 0) | place
            place <<= 1
        self._end = place
        self._start = self._past_runs(1)

    def _past_runs(self, places: int) -> int:
        """A run may be empty; no two of them stand side by side."""
        return places | (places & self._runs) << 1

    def fits(self, text: str) -> bool:
        """Whether the whole text fits."""
        if not text.startswith(self._prefix):
            return False
        literal, past, runs = self._literal, self._past_runs, self._runs
        here = self._start
        for character in text[len(self._prefix) :]:
            if character == ":":
                here = (here & literal.get(character, 0)) << 1
            elif character == "/":
                here = here & self._wide | (here & literal.get(character, 0)) << 1
            else:
                here = here & runs | (here & (literal.get(character, 0) | self._one)) << 1
            if not here:
                return False
            here = past(here)
        return bool(here & self._end)


def _tokens(pattern: str) -> Iterable[str]:
    """Characters and wildcards; runs that touch are one, `**` if any of them crosses "/"."""
    for match in _TOKEN.finditer(pattern):
        yield match[0][:2]


def glob_expression(pattern: str) -> str:
    """The regular expression of a glob; ":" ends a part, so no glob crosses it.

    >>> glob_expression("a*b**c?")
    'a[^/:]*b[^:]*c[^/:]'
    """
    wild = {"*": "[^/:]*", "**": "[^:]*", "?": "[^/:]"}
    return "".join([wild.get(token) or re.escape(token) for token in _tokens(pattern)])


def _meet(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether some text fits both globs: both are walked at once, by every way there is."""
    waiting, seen = [(0, 0)], {(0, 0)}
    while waiting:
        here = waiting.pop()
        if here == (len(left), len(right)):
            return True
        new = set(_steps(left, right, *here)) - seen
        seen |= new
        waiting += new
    return False


def _steps(
    left: Sequence[str], right: Sequence[str], at: int, by: int
) -> Iterator[tuple[int, int]]:
    """The places reached by leaving a run behind, or by one character that both take."""
    one = left[at] if at < len(left) else ""
    other = right[by] if by < len(right) else ""
    if one in _RUNS:
        yield at + 1, by
    if other in _RUNS:
        yield at, by + 1
    if one and other and (_takes(one, other) or _takes(other, one)):
        yield at + (one not in _RUNS), by + (other not in _RUNS)


def _takes(wild: str, other: str) -> bool:
    """Whether one token takes a character that the other stands for, seen from the first."""
    if wild == "**":
        return other != ":"
    return other not in ":/" if wild in {"*", "?"} else wild == other


def _within(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """Whether the outer glob takes the inner one, whose wildcards count as characters of a kind."""
    here = _past(outer, {0})
    for token in inner:
        stay = {at for at in here if at < len(outer) and _swallows(outer[at], token)}
        if not stay:
            return False
        here = _past(outer, {at + (outer[at] not in _RUNS) for at in stay})
    return len(outer) in here


def _past(tokens: Sequence[str], places: set[int]) -> set[int]:
    """These places, and those behind a run, which may be empty; no two runs stand side by side."""
    return places | {at + 1 for at in places if at < len(tokens) and tokens[at] in _RUNS}


def _swallows(wild: str, other: str) -> bool:
    """Whether a token takes all that another one, which may be a wildcard itself, stands for."""
    if wild == "**":
        return other != ":"
    if wild == "*":
        return other not in {":", "/", "**"}
    return other not in {":", "/", *_RUNS} if wild == "?" else wild == other
