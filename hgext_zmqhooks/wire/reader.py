"""Taking typed values out of JSON objects that came from outside, naming the key that was wrong."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import Refused

T = TypeVar("T")


def parse(data: bytes | str) -> object:
    """The JSON value of these bytes, where every reader sees the same one; else ValueError.

    Python's own reader would take UTF-16, a byte order mark, halves of characters (surrogates),
    NaN, 1e999 as infinity, and the last of two equal keys where another language takes the first:
    a signature would then cover two different events.

    >>> parse(b'{"a":1}')
    {'a': 1}
    >>> parse(b'{"a":1,"a":2}')
    Traceback (most recent call last):
    ...
    ValueError: a key occurs twice
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        value: object = _DECODER.decode(text)
        if "\\u" in text:  # the one way for a surrogate to come in; we never write one
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
)


class Reader:
    """One JSON object; `where` is its place in the document, as in "data.transaction."."""

    __slots__ = ("_kind", "_value", "_where")

    def __init__(self, value: object, kind: str, where: str = "") -> None:
        if not isinstance(value, dict):
            raise Refused(kind, f"{where.rstrip('.') or 'it'} is not a JSON object")
        self._value: dict[str, Any] = value
        self._kind = kind
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def get(self, key: str) -> object:
        """Whatever stands under `key`, None where it is absent."""
        return self._value.get(key)

    def refuse(self, key: str, expected: str) -> Refused:
        """The error that says that `key` is not `expected`."""
        return Refused(self._kind, f"{self._where}{key} is not {expected}")

    def text(self, key: str, form: re.Pattern[str] | None = None) -> str:
        """A text that `form` matches as a whole."""
        value = self._value.get(key)
        if type(value) is not str or (form is not None and form.fullmatch(value) is None):
            raise self.refuse(key, _described(form))
        return value

    def maybe(self, key: str, form: re.Pattern[str] | None = None) -> str | None:
        """A text, or None where the key is null or absent."""
        return None if self._value.get(key) is None else self.text(key, form)

    def number(self, key: str, least: int = 0) -> int:
        """A whole number from `least` to 2**63 - 1."""
        value = self._value.get(key)
        if type(value) is not int or not least <= value < 2**63:
            raise self.refuse(key, f"a whole number from {least}")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false where the key is absent."""
        value = self._value.get(key, False)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def items(self, key: str) -> list[Any]:
        """A list; empty where the key is absent."""
        value = self._value.get(key, [])
        if not isinstance(value, list):
            raise self.refuse(key, "a list")
        return value

    def texts(self, key: str, form: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """A list of texts."""
        if key not in self._value:
            return ()
        values = self.items(key)
        for value in values:
            if type(value) is not str or (form and not form.fullmatch(value)):
                raise self.refuse(key, f"a list of {_described(form)}")
        return tuple(values)

    def each(self, key: str, read: "Callable[[Reader], T]") -> tuple[T, ...]:
        """A list of objects, each read by `read`."""
        if key not in self._value:  # most lists of most events
            return ()
        where = f"{self._where}{key}[]."
        return tuple([read(Reader(item, self._kind, where)) for item in self.items(key)])

    def inside(self, key: str, read: "Callable[[Reader], T]") -> T:
        """An object."""
        return read(Reader(self._value.get(key), self._kind, f"{self._where}{key}."))

    def perhaps(self, key: str, read: "Callable[[Reader], T]") -> T | None:
        """An object, or None where the key is null or absent."""
        return None if self._value.get(key) is None else self.inside(key, read)

    def mapping(self, key: str) -> dict[str, Any]:
        """An object whose keys are data."""
        value = self._value.get(key, {})
        if not isinstance(value, dict):
            raise self.refuse(key, "an object")
        return value


def _described(form: re.Pattern[str] | None) -> str:
    return f"text of the form {form.pattern}" if form else "text"
