"""Texts of an operator with values of a delivery in them: `{repo}`, `{branch}` and so on.

A name in braces stands for a value; all other braces stay as they are, so that JSON can be written
as it is. `{{repo}}` is the text `{repo}`. A name that is not known is refused when the text is
parsed. What stands around a value cannot be changed by it, since each place has its own escapes:

    url       all but letters, digits and -._~ as %XX: in a path, in a query; no part of a path
              becomes . or .., and no value stands in front of the path
    header    control characters and all that is not ASCII as %XX, and % itself; no blanks at its
              ends, which HTTP does not have
    json      as inside a JSON string: the quotes stand in the template
    form      as in a url: application/x-www-form-urlencoded
    text      as it is, for text/plain
    key       as in a topic: colons, control characters and % as %XX, so that two keys are never
              the same for two branches

`event` and `files` are JSON themselves: in JSON they stand without quotes; they are for bodies.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.topics import encode_part
from hgext_zmqhooks.wire.values import Changeset, Event

from .base import Job

Kind = Literal["url", "header", "json", "form", "text", "key"]

OF_DELIVERY = (
    *("repo", "branch", "node", "user", "topic", "rule"),
    *("event_id", "delivery_id", "attempt", "fence", "traceparent"),
)
"""Values that every delivery has; empty when unknown."""

OF_EVENT = ("type", "time", "origin", "journal", "sequence", "transaction", "via")
"""Values of the event, of its last part if it has several."""

OF_CHANGESET = ("author", "date", "description", "phase")
"""Values of the changeset `node`; empty where the event does not list it."""

DOCUMENTS = ("event", "files")
"""JSON: the exact bytes of the event, of its last part; the files of the changeset `node`."""

NAMES = (*OF_DELIVERY, *OF_EVENT, *OF_CHANGESET, *DOCUMENTS)

_PLACE = re.compile(r"(\{\{[a-z_]+\}\})|\{([a-z_]+)\}")
_VISIBLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_HEADER_LIMIT = 4096
_SAMPLE = {"event": '{"a":"b"}', "files": '["a"]', "sequence": "1", "attempt": "1", "fence": "1"}


class Unfit(ValueError):  # noqa: N818 - a finding, read as a sentence
    """A value that cannot stand where the operator wants it, whatever is done to it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text. `pieces`: texts that stay, and names in between, in turn."""

    kind: Kind
    pieces: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The values that it needs."""
        return frozenset(self.pieces[1::2])

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with these values, escaped; Unfit for a url whose path a value would change."""
        made = "".join(
            self._escaped(piece, values[piece]) if at % 2 else piece
            for at, piece in enumerate(self.pieces)
        )
        if self.kind == "url" and _steps(made):
            raise Unfit(f"the path would have the part {_steps(made)[0]}")
        return made.strip(" ") if self.kind == "header" else made

    def _escaped(self, name: str, value: str) -> str:
        if name in DOCUMENTS and self.kind == "json":
            return value
        return _ESCAPES[self.kind](value)


def parse(text: str, kind: Kind) -> Template:
    r"""The template; ValueError says what is wrong with it.

    >>> made = parse('{"text": "pushed to {branch}", "{{branch}}": {files}}', "json")
    >>> made.fill({"branch": 'a "new" one', "files": "[]"})
    '{"text": "pushed to a \\"new\\" one", "{branch}": []}'
    >>> parse("https://ci/job/{repo}?n={node}", "url").fill({"repo": "team/app", "node": ""})
    'https://ci/job/team%2Fapp?n='
    """
    pieces, end = [""], 0
    for match in _PLACE.finditer(text):
        pieces[-1] += text[end : match.start()]
        end = match.end()
        if match[1]:
            pieces[-1] += match[1][1:-1]
            continue
        _check_name(match[2], kind)
        pieces += [match[2], ""]
    pieces[-1] += text[end:]
    made = Template(kind, tuple(pieces))
    if kind == "json":
        _check_json(made)
    if kind == "url":
        _check_url(made)
    return made


def _check_name(name: str, kind: Kind) -> None:
    if name not in NAMES:
        raise ValueError(f"{{{name}}} is no value; write {{{{{name}}}}} for that text itself")
    if name in DOCUMENTS and kind in {"url", "header", "key"}:
        raise ValueError(f"{{{name}}} can stand in a body only")


def _check_json(made: Template) -> None:
    filled = made.fill({name: _SAMPLE.get(name, "x") for name in NAMES})
    try:
        json.loads(filled)
    except ValueError as error:
        raise ValueError(
            f"is not JSON once values stand in it ({error}): put {{…}} into double quotes,"
            " but {event} and {files} into none"
        ) from None


def _check_url(made: Template) -> None:
    if made.names and not re.match(r"https?://[^/?#{}]+/", made.pieces[0]):
        raise ValueError("values stand in the path or behind it only")


def _steps(url: str) -> list[str]:
    """Parts of the path that lead elsewhere."""
    path = re.split("[?#]", url, maxsplit=1)[0]
    return [part for part in path.split("/")[3:] if part in {".", ".."}]


def _header(value: str) -> str:
    return quote(value[:_HEADER_LIMIT], safe=_VISIBLE, errors="replace")


def _percent(value: str) -> str:
    return quote(value, safe="", errors="replace")


_ESCAPES: dict[Kind, Callable[[str], str]] = {
    "url": _percent,
    "form": _percent,
    "header": _header,
    "json": lambda value: json.dumps(value)[1:-1],
    "text": str,
    "key": lambda value: encode_part(value) if value else "",
}


def values(job: Job, names: Iterable[str]) -> Mapping[str, str]:
    """The values of these names; the event is read only where one needs it."""
    wanted = set(names)
    found = {name: str(getattr(job, name) or "") for name in wanted & set(OF_DELIVERY)}
    if wanted - found.keys():
        found |= _of_event(job)
    return found


def _of_event(job: Job) -> dict[str, str]:
    parts = [events.decode(line) for line in job.lines]
    last, changeset = parts[-1], _changeset(parts, job.node)
    pusher = last.pusher
    return {
        "type": last.type,
        "time": last.time,
        "origin": last.origin,
        "journal": last.journal,
        "sequence": str(last.sequence),
        "transaction": last.transaction.id,
        "via": pusher.via if pusher else "",
        "author": changeset.user if changeset else "",
        "date": changeset.date if changeset else "",
        "description": changeset.description if changeset else "",
        "phase": changeset.phase if changeset else "",
        "event": job.lines[-1].decode(),
        "files": json.dumps(changeset.files if changeset else ()),
    }


def _changeset(parts: list[Event], node: str | None) -> Changeset | None:
    found = (each for part in parts for each in part.changesets if each.node == node)
    return next(found, None)
