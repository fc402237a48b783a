"""What a journal must be, judged from its bytes alone, without a line of the product's code."""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

EVENT, MARK = 2, 3
_SIGNED = 32 + 64
"""Bytes of an event record before the event: its certificate's digest, and the signature."""


def raw_events(data: bytes) -> list[bytes]:
    """The events of a file in which every record is whole and its checksum right."""
    found = []
    offset, kind = 0, MARK
    while offset < len(data):
        length, checksum = struct.unpack_from(">II", data, offset)
        covered = data[offset + 8 : offset + 8 + length]
        assert len(covered) == length, f"torn record at {offset}"
        assert zlib.crc32(covered) == checksum, f"wrong checksum at {offset}"
        kind = covered[0]
        if kind == EVENT:
            found.append(covered[1 + _SIGNED :])
        offset += 8 + length
    assert kind == MARK, "the last record of a transaction is its mark"
    return found


class Verdict(NamedTuple):
    """What is wrong, each as words; all four are empty for a good journal."""

    lost: list[str]
    doubled: list[str]
    disordered: list[str]
    phantom: list[str]

    def words(self) -> list[str]:
        """All of it, each under its name."""
        return [f"{name}: {text}" for name in self._fields for text in getattr(self, name)]


def judge(events: Iterable[bytes], served: set[str]) -> Verdict:
    """The events in the order of the file against the nodes that the repository serves."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    lost, phantom = served - reader.live.keys(), reader.live.keys() - served
    return Verdict(sorted(lost), reader.doubled, reader.disordered, sorted(phantom))


def live(events: Iterable[bytes]) -> set[str]:
    """The nodes that were announced and not taken back."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    return set(reader.live)


class _Reader:
    """Believes what it is told, and notes what does not fit what it was told before."""

    def __init__(self) -> None:
        self.live: dict[str, str] = {}
        self.doubled: list[str] = []
        self.disordered: list[str] = []
        self._parents: dict[str, list[str]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._journals: list[str] = []
        self._sequence = 0

    def take(self, event: bytes) -> None:
        document = json.loads(event)
        data = document["data"]
        self._place(document["id"], data)
        self._last[data["branch"]] = {
            "journal": data["journal"],
            "sequence": data["sequence"],
            "sha256": hashlib.sha256(event).hexdigest(),
        }
        for item in data.get("changesets", ()):
            self._changeset(document["id"], data["branch"], item)
        gone = [*data.get("removed", ()), *[item["node"] for item in data.get("obsoleted", ())]]
        gone += [item["node"] for item in data.get("phases", ()) if item["new"] == "secret"]
        for node in gone:
            self.live.pop(node, None)

    def _place(self, name: str, data: dict[str, Any]) -> None:
        journal, sequence = data["journal"], data["sequence"]
        if not self._journals or self._journals[-1] != journal:
            if journal in self._journals:
                self.disordered.append(f"{name} is of a journal that ended")
            self._journals.append(journal)
            self._sequence = 0
        if sequence <= self._sequence:
            self.doubled.append(f"{name} stands behind {self._sequence}")
        elif sequence != self._sequence + 1:
            self.disordered.append(f"{name} stands behind {self._sequence}")
        self._sequence = sequence
        self._links(name, data)

    def _links(self, name: str, data: dict[str, Any]) -> None:
        last = self._last.get(data["branch"])
        here = last is not None and last["journal"] == data["journal"]
        previous = {key: last[key] for key in ("sequence", "sha256")} if last and here else None
        if data["previous"] != previous:
            self.disordered.append(f"{name} follows {data['previous']}, not {previous}")
        continues = last if len(self._journals) > 1 and not here else None
        if data.get("continues") != continues:
            self.disordered.append(f"{name} continues {data.get('continues')}, not {continues}")

    def _changeset(self, name: str, branch: str, item: dict[str, Any]) -> None:
        node = item["node"]
        if node in self.live:
            self.doubled.append(f"{name} announces {node} again")
        for child, where in self.live.items():
            if where == branch and node in self._parents[child]:
                self.disordered.append(f"{name} announces {node} after its child {child}")
        self._parents[node] = item["parents"]
        self.live[node] = branch
