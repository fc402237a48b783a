"""The judge of the kill tests sees each kind of damage to a journal."""

import hashlib
import json
import struct
import zlib
from typing import Any

import pytest
from fault import hg_oracle

A, B, C = ("a" * 40, "b" * 40, "c" * 40)


def journal(*data: dict[str, Any], journal: str = "j") -> list[bytes]:
    """Good events of one branch with these contents."""
    events: list[bytes] = []
    for sequence, content in enumerate(data, 1):
        previous = None
        if events:
            digest = hashlib.sha256(events[-1]).hexdigest()
            previous = {"sequence": sequence - 1, "sha256": digest}
        place = {"branch": "default", "journal": journal, "sequence": sequence}
        document = {
            "id": f"{journal}/{sequence}",
            "data": {**place, "previous": previous, **content},
        }
        events.append(json.dumps(document).encode())
    return events


def told(node: str, *parents: str) -> dict[str, Any]:
    return {"changesets": [{"node": node, "parents": list(parents)}]}


GOOD = journal(told(A), told(B, A), {"removed": [B]}, told(C, A))


def test_a_good_journal() -> None:
    assert hg_oracle.judge(GOOD, {A, C}) == ([], [], [], [])


@pytest.mark.parametrize(
    ("events", "served", "names"),
    [
        (GOOD, {A, B, C}, {"lost"}),
        (GOOD, {A}, {"phantom"}),
        (journal(told(A), told(A)), {A}, {"doubled"}),
        ([*GOOD, GOOD[-1]], {A, C}, {"doubled", "disordered"}),
        ([GOOD[0], GOOD[2]], {A}, {"disordered"}),
        (journal(told(A), told(B, A))[1:], {B}, {"disordered"}),
        (journal(told(B, A), told(A)), {A, B}, {"disordered"}),
        (journal(told(A)) + journal(told(B, A), journal="k"), {A, B}, {"disordered"}),
        (journal(told(A), {**told(B), "previous": None}), {A, B}, {"disordered"}),
    ],
    ids=["lost", "phantom", "told twice", "repeated", "gap", "cut", "child", "breaks", "unlinked"],
)
def test_damage_is_named(events: list[bytes], served: set[str], names: set[str]) -> None:
    verdict = hg_oracle.judge(events, served)

    assert {name for name in verdict._fields if getattr(verdict, name)} == names


def record(kind: int, payload: bytes) -> bytes:
    covered = bytes([kind]) + payload
    return struct.pack(">II", len(covered), zlib.crc32(covered)) + covered


def test_records_are_taken_apart() -> None:
    data = record(1, b"token") + record(2, b"x" * 96 + b"event") + record(3, b"mark")

    assert hg_oracle.raw_events(data) == [b"event"]
    for damaged in (data[:-1], data[:-1] + b"!", data[: -len(record(3, b"mark"))]):
        with pytest.raises(AssertionError):
            hg_oracle.raw_events(damaged)
