"""Order keys: which deliveries of a rule run one after another. Pure.

    order: branch               one lane per repository and branch
    order: repo                 one lane per repository
    order: none                 each delivery has a lane of its own
    order: "deploy-{branch}"    one lane per value of what stands in braces

A template takes the fields {repo} {branch} {user} {topic} {node}; `{{` and `}}` are braces.
"""

from collections.abc import Callable, Mapping
from string import Formatter

from hgext_zmqhooks.wire.topics import encode_part

BRANCH = "branch"
WORDS = (BRANCH, "repo", "none")
FIELDS = ("repo", "branch", "user", "topic", "node")
MAX_LENGTH = 200
NOBODY = "%"
"""Stands for a value that an event does not have; no encoded value is like it."""

Values = Mapping[str, str | None]
Order = Callable[[str, str, Values], str]
"""Rule, delivery id, what the delivery is about -> order key."""


def compile_order(text: str) -> Order:
    """What makes the order keys of a rule; ValueError for a text that says no order.

    Values are encoded and set apart by colons, so that two deliveries share a key only if all
    their values are the same.

    >>> about = {"repo": "team/app", "branch": "feature: x", "user": None}
    >>> [compile_order(each)("build", "s7t2", about) for each in WORDS]
    ['build:team/app:feature%3A x', 'build:team/app', 'build:none:s7t2']
    >>> compile_order("for-{user}{repo}")("build", "s7t2", about)
    'build:for-:%:team/app'
    >>> compile_order("brunch")
    Traceback (most recent call last):
    ...
    ValueError: neither branch, repo, none nor a template with fields
    """
    if text == "none":
        return lambda rule, made, _values: f"{rule}:none:{made}"
    parts = {BRANCH: _fields("repo", "branch"), "repo": _fields("repo")}.get(text) or _parse(text)

    def key(rule: str, _made: str, values: Values) -> str:
        return ":".join([rule, *(_written(part, values) for part in parts)])

    return key


Part = tuple[str, str | None]
"""A text that stays, and a field behind it."""


def _fields(*names: str) -> list[Part]:
    return [("", name) for name in names]


def _parse(text: str) -> list[Part]:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    parts: list[Part] = []
    for literal, field, form, conversion in Formatter().parse(text):
        if field is not None and field not in FIELDS:
            raise ValueError(f"{{{field}}} is none of its fields")
        if form or conversion:
            raise ValueError(f"{{{field}}} takes nothing behind its name")
        parts.append((literal, field))
    if not any(field for _, field in parts):
        raise ValueError("neither branch, repo, none nor a template with fields")
    return parts


def _written(part: Part, values: Values) -> str:
    literal, field = part
    pieces = [encode_part(literal)] if literal else []
    if field is not None:
        value = values[field]
        pieces.append(NOBODY if value is None else encode_part(value))
    return ":".join(pieces)
