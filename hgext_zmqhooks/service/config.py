"""Configuration: a YAML file becomes a frozen typed value, once, or an error that helps.

    settings = load(Path("relay.yml"), RelaySettings)

The types are msgspec structs such as `Frozen`: frozen, and no key is unknown. A class with a
`parse(value)` that raises ValueError may be the type of a field, so that errors name its key:

    Path       relative to the folder of the configuration file
    Duration   seconds as a float: 15m, 1.5h, 24h, 90d, 250ms, or a plain number of seconds
    Size       bytes as an int: 64KiB, 4MiB, 1GB, or a plain number
    Endpoint   (endpoints.py) ipc:///path or tcp://host:port
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from .access import me
from .errors import ConfigError

MAX_BYTES = 4 << 20
"""The largest configuration file that is read."""

T = TypeVar("T")

_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("k" if base == 1000 else "K", "M", "G", "T"), 1)
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?) *([A-Za-z]*)")
_PATH = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*)`$")
_WORD = re.compile("`(.*?)`")
_WORDS = {"str": "a text", "int": "a whole number", "bool": "true or false", "null": "nothing"}
_WORDS |= {"array": "a list", "object": "a mapping", "float": "a number"}
_QUOTES = "look at the line named; indent with blanks, and put texts with : # * & { [ in quotes"
_SAMPLE = "add it; `zmq-subscriber init` prints a sample of all keys"
_MAPPING = "write lines such as `store: sqlite:ci.db`; `zmq-subscriber init` prints a sample"
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a file: every key is known, nothing changes later."""


class Duration(float):
    """Seconds, written with a unit in the file."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """`duration` as a type for settings."""
        return cls(duration(value))


class Size(int):
    """Bytes, written with a unit in the file."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "Size":
        """`size` as a type for settings."""
        return cls(size(value))


def duration(text: object) -> float:
    """Seconds.

    >>> duration("15m"), duration("250ms"), duration(3)
    (900.0, 0.25, 3.0)
    >>> duration("soon")
    Traceback (most recent call last):
    ...
    ValueError: not a duration such as 250ms, 30s, 15m, 24h or 90d
    """
    seconds = _scaled(text, _SECONDS)
    if seconds is None:
        raise ValueError("not a duration such as 250ms, 30s, 15m, 24h or 90d")
    return seconds


def span(seconds: float) -> str:
    """Seconds as one may write them.

    >>> span(691200), span(90), span(0.25), span(0)
    ('8d', '90s', '0.25s', '0s')
    """
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def size(text: object) -> int:
    """Bytes.

    >>> size("64KiB"), size("1.5 MB"), size(7)
    (65536, 1500000, 7)
    """
    amount = _scaled(text, _BYTES)
    if amount is None or amount != int(amount):
        raise ValueError("not a size such as 512, 64KiB, 4MiB or 1GB")
    return int(amount)


def _scaled(value: object, units: Mapping[str, float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    match = _NUMBER.fullmatch(str(value))
    if not match or match[2] not in units:
        return None
    return float(match[1]) * units[match[2]]


def load(path: Path, kind: type[T]) -> T:
    """The file as a value of `kind`; ConfigError names file, key, value, reason and a hint."""
    return convert(read(path), kind, path)


def read(path: Path) -> dict[str, Any]:
    """The mapping that the file holds, untyped."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "correct the path behind --config; `zmq-subscriber init` prints a sample"
        if not isinstance(error, FileNotFoundError):
            hint = f"it must be a file that {me()} may read"
        raise ConfigError(path, "", None, f"cannot be read: {reason}", hint) from None
    if len(data) > MAX_BYTES:
        raise ConfigError(path, "", None, f"larger than {MAX_BYTES} bytes", "is it the right file?")
    return parse(data, path)


def parse(data: bytes, path: Path) -> dict[str, Any]:
    """The mapping that these bytes of YAML hold; `path` is named in errors."""
    try:
        # _Loader is a SafeLoader: it makes plain values only.
        document = yaml.load(data, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split()).replace('in "<byte string>", ', "")
        raise ConfigError(path, "", None, f"not YAML: {reason}", _yaml_hint(reason)) from None
    except RecursionError:
        raise ConfigError(path, "", None, "not YAML: nested too deeply", _QUOTES) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(path, "", document, "not a mapping of keys to values", _MAPPING)
    return document


def _yaml_hint(reason: str) -> str:
    if "stands there twice" in reason:
        return "keep one of the two"
    if "aliases" in reason:
        return "write the value out where it is needed"
    return _QUOTES


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what would be lost silently, and aliases, which can explode."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(None, None, "aliases are not accepted", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                problem = f"key {name!r} stands there twice"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def convert(document: Mapping[str, Any], kind: type[T], path: Path, *, within: str = "") -> T:
    """`document` as a value of `kind`; `within` is the key of `path` it was found under."""

    def hook(wanted: Any, value: Any) -> Any:
        return _path(value, path.parent) if issubclass(wanted, Path) else wanted.parse(value)

    try:
        return msgspec.convert(document, kind, dec_hook=hook)
    except msgspec.ValidationError as error:
        raise _explain(str(error), document, kind, path, within) from None


def _path(value: object, folder: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a path")
    return folder.absolute() / value


def _explain(
    text: str, document: Mapping[str, Any], kind: object, path: Path, within: str
) -> ConfigError:
    """Put msgspec's one-line message as file, key, value, reason and hint."""
    place = _PATH.search(text)
    reason = text[: place.start()] if place else text
    steps = [
        name or (int(index) if index.isdigit() else index)
        for name, index in _STEP.findall(place[1] if place else "")
    ]
    if unknown := _UNKNOWN.fullmatch(reason):
        valid = _fields(kind, steps)
        return ConfigError(
            path,
            _key(within, [*steps, unknown[1]]),
            _value(document, [*steps, unknown[1]]),
            "unknown key",
            nearest(unknown[1], valid),
        )
    if missing := _MISSING.fullmatch(reason):
        return ConfigError(
            path, _key(within, [*steps, missing[1]]), None, "required, but missing", _SAMPLE
        )
    value = _value(document, steps) if steps else None
    reason = _WORD.sub(lambda word: _words(word[1]), reason[:1].lower() + reason[1:])
    hint = _choice(kind, steps, value) or _example(reason, value)
    return ConfigError(path, _key(within, steps), value, reason, hint)


def _words(types: str) -> str:
    """What msgspec calls types, as an operator calls it.

    >>> _words("array | null")
    'a list or nothing'
    """
    return " or ".join(_WORDS.get(word, word) for word in types.split(" | "))


def _example(reason: str, value: object) -> str:
    """How it is to be written, as far as the reason tells; else nothing."""
    if reason.startswith("expected") and "a list" in reason and isinstance(value, str):
        return f'write ["{value}"]'
    _, found, examples = reason.partition("such as ")
    return f"write one such as {examples}" if found else ""


def nearest(given: str, valid: list[str]) -> str:
    """A hint that names the valid word nearest to the one given, or all of them.

    >>> nearest("publsh", ["publish", "subscribe"])
    'did you mean "publish"?'
    >>> nearest("x", ["publish", "subscribe"])
    'valid are: publish, subscribe'
    """
    close = difflib.get_close_matches(given, valid, n=1)
    return f'did you mean "{close[0]}"?' if close else "valid are: " + ", ".join(sorted(valid))


def _key(within: str, steps: list[str | int]) -> str:
    text = within
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) or step == "..." else f".{step}"
    return text.lstrip(".")


def _value(document: Any, steps: list[str | int]) -> object:
    for step in steps:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _fields(kind: object, steps: list[str | int]) -> list[str]:
    """The valid keys of the struct that stands at `steps` inside `kind`."""
    return [
        field.encode_name
        for struct in _types(kind, steps)
        if isinstance(struct, inspect.StructType)
        for field in struct.fields
    ]


def _choice(kind: object, steps: list[str | int], value: object) -> str:
    """A hint where only certain words are valid, else nothing."""
    valid = [
        str(word)
        for literal in _types(kind, steps)
        if isinstance(literal, inspect.LiteralType)
        for word in literal.values
    ]
    return nearest(str(value), valid) if valid else ""


def _types(kind: object, steps: list[str | int]) -> list[inspect.Type]:
    found = [inspect.type_info(kind)]
    for step in steps:
        found = [inner for one in found for inner in _inside(one, step)]
    return [alternative for one in found for alternative in _alternatives(one)]


def _alternatives(one: inspect.Type) -> tuple[inspect.Type, ...]:
    return one.types if isinstance(one, inspect.UnionType) else (one,)


def _inside(one: inspect.Type, step: str | int) -> list[inspect.Type]:
    inner: list[inspect.Type] = []
    for kind in _alternatives(one):
        if isinstance(kind, inspect.StructType):
            inner += [field.type for field in kind.fields if field.encode_name == step]
        elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
            inner.append(kind.item_type)
        elif isinstance(kind, inspect.DictType):
            inner.append(kind.value_type)
    return inner
