"""A journal that is not what it must be: each problem is named with its place."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from hgkit import make_keys

from hgext_zmqhooks import settings, signer
from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.format import EVENT, EVENTS, Mark, frame, read_signed, scan, signed
from hgext_zmqhooks.journal.origin import open_events
from hgext_zmqhooks.verify import Check
from hgext_zmqhooks.wire.events import (
    Changeset,
    Draft,
    Event,
    Heads,
    PhaseMove,
    Summary,
    Transaction,
    encode_item,
)
from hgext_zmqhooks.wire.fold import Fold

NODES = [f"{number:040x}" for number in range(1, 10)]
TIME = "2026-11-21T09:15:02.123456Z"


def changeset(node: str) -> Changeset:
    return Changeset(node=node, parents=(), user="u", date=TIME, description="d", phase="draft")


def draft(node: str, branch: str = "default") -> Draft:
    items = [encode_item(changeset(node))]
    return Draft(
        branch=branch,
        time=TIME,
        transaction=Transaction("TXN:1", "commit"),
        heads=Heads(node, 1, (node,)),
        lists={"changesets": items},
    )


def write(folder: Path, *batches: Iterable[Draft]) -> None:
    """A journal of these transactions."""
    make_keys(folder)
    key = signer.load(settings.parse({"key": str(folder / "publisher.key")}), "app")
    for number, drafts in enumerate(batches, 1):
        writer = Writer(Directory(folder), "app")
        appended = writer.append(lambda *_: None, drafts, Mark(number, b"\1" * 20), key)
        writer.commit(appended)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Three transactions, of which the second touches two branches."""
    write(
        tmp_path,
        [draft(NODES[0])],
        [draft(NODES[1]), draft(NODES[2], "stable")],
        [draft(NODES[3])],
    )
    return tmp_path


def check(folder: Path, end: int | None = None) -> Check:
    found = Check()
    path = folder / EVENTS
    with open_events(path) as source:
        found.read(source, path.stat().st_size if end is None else end)
    return found


def problems(folder: Path) -> list[str]:
    return [str(problem) for problem in check(folder).problems]


def rewrite(folder: Path, number: int, change: object) -> None:
    """Replace the number-th event record by what `change` makes of its parts; None drops it."""
    path = folder / EVENTS
    out, seen = b"", 0
    for record in scan(path.read_bytes()):
        payload: bytes | None = record.payload
        if record.kind == EVENT:
            seen += 1
            if seen == number:
                payload = change(read_signed(record))  # type: ignore[operator]
        if payload is not None:
            out += frame(record.kind, payload)
    path.write_bytes(out)


def test_sound(journal: Path) -> None:
    found = check(journal)
    assert found.problems == []
    assert (found.events, len(found.journals), found.mark) == (4, 1, Mark(3, b"\1" * 20))
    assert set(found.fold.live) == set(NODES[:4])
    assert found.fold.heads["stable"] == {NODES[2]}


def test_flipped_bit(journal: Path) -> None:
    path = journal / EVENTS
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    (problem,) = problems(journal)
    assert problem.startswith("byte ")
    assert problem.endswith("torn record: wrong checksum")


def test_cut_short(journal: Path) -> None:
    path = journal / EVENTS
    found = check(journal, path.stat().st_size - 1)
    assert [problem.text.startswith("torn record") for problem in found.problems] == [True]
    assert found.events == 4


def test_forged_signature(journal: Path) -> None:
    """The record's checksum is right, the signature is not of these bytes."""

    def forge(record: object) -> bytes:
        certificate, signature, event = record  # type: ignore[misc]
        return signed(certificate, signature, event.replace(b'"user":"u"', b'"user":"v"'))

    rewrite(journal, 4, forge)
    (problem,) = problems(journal)
    assert problem.startswith("sequence 4, byte ")
    assert problem.endswith("not signed by the key of 'publisher'")


def test_missing_event(journal: Path) -> None:
    """Its successor's place and its link both show it."""
    rewrite(journal, 2, lambda _record: None)
    found = problems(journal)
    assert [text.partition(", ")[0] for text in found] == ["sequence 3", "sequence 4"]
    assert "sequence 3 stands behind 1" in found[0]
    assert "previous is 2 with SHA-256" in found[1]


def test_unknown_certificate(journal: Path) -> None:
    rewrite(journal, 1, lambda record: signed("00" * 32, record.signature, record.event))
    (problem,) = problems(journal)
    assert "its certificate 000000000000 is not in the journal" in problem


def test_garbage_event(journal: Path) -> None:
    rewrite(journal, 4, lambda record: signed(record.certificate, record.signature, b"{}"))
    (problem,) = problems(journal)
    assert "malformed-event" in problem


def test_fold_of_what_goes() -> None:
    """Removed, secret, and summaries; a head that is told stands for its ancestors."""
    base = {"repo": "app", "branch": "default", "journal": "9f" * 16, "time": TIME}
    transaction = Transaction("TXN:1", "x")

    def event(sequence: int, **fields: object) -> Event:
        return Event(
            **base,  # type: ignore[arg-type]
            sequence=sequence,
            transaction=transaction,
            **fields,  # type: ignore[arg-type]
        )

    fold = Fold.of(
        [
            event(1, summary=Summary(NODES[0], (NODES[0], NODES[1]), 7)),
            event(2, changesets=(changeset(NODES[2]), changeset(NODES[3]))),
            event(3, removed=(NODES[0],), heads=Heads(NODES[4], 1, (NODES[4],), (NODES[0],))),
            event(4, phases=(PhaseMove(NODES[2], "draft", "secret"),)),
            event(5, phases=(PhaseMove(NODES[3], "draft", "public"),)),
        ]
    )
    assert set(fold.live) == {NODES[1], NODES[3], NODES[4]}
    assert fold.heads == {"default": {NODES[1], NODES[4]}}
