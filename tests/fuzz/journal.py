"""Targets of the journal's files: records, head, index, and a reader over all of them."""

import atexit
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from fuzz import mutate, seeds
from fuzz.target import Target

from hgext_zmqhooks.journal import format as form
from hgext_zmqhooks.journal import heads, origin
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.format import EVENT, EVENTS, HEAD, INDEX, JournalError, Torn
from hgext_zmqhooks.journal.glance import glance
from hgext_zmqhooks.journal.heads import Head
from hgext_zmqhooks.journal.index import Index
from hgext_zmqhooks.wire import events

BRANCHES = "abcab"
FOREVER = 1e12
"""A clock by which every file is settled: a reader goes past the head."""


@cache
def folder(target: str) -> Path:
    """A store folder of this process, for one target."""
    holder = tempfile.TemporaryDirectory(prefix="zh-fuzz-")
    atexit.register(holder.cleanup)
    return Path(holder.name)


def records(data: bytes) -> None:
    """The records up to the first torn byte are those bytes, each is a value or Torn, and the head that they say is read again as itself."""  # noqa: E501
    found, end = [], 0
    with suppress(Torn):
        for record in form.scan(data):
            found.append(record)
            end = record.end
    assert b"".join(form.frame(one.kind, one.payload) for one in found) == data[:end]
    for record in found:
        for read in (form.read_signed, form.read_mark, origin.read_branch, origin._decode):
            with suppress(Torn, heads.NewerHead):
                read(record)
        with suppress(Torn):
            glance(record.offset, record.payload)
    with suppress(Torn):
        head = heads.extend(Head(), found, end)
        assert heads.decode(head.encode()) == head


def head(data: bytes) -> None:
    """Bytes are no head, a newer one, or one that is read again as itself from what it encodes to."""  # noqa: E501
    with suppress(heads.BadHead, heads.NewerHead):
        found = heads.decode(data)
        assert heads.decode(found.encode()) == found
        found.journal_at(found.size)
        origin.Origin(found).applied(found, (0, 0))


@cache
def truth() -> tuple[Head, dict[str, set[tuple[int, str]]]]:
    """A journal in the folder: its head, and of each branch sequence and digest of its events."""
    data = seeds.journal(BRANCHES)
    folder("index").joinpath(EVENTS).write_bytes(data)
    found: dict[str, set[tuple[int, str]]] = {}
    for record in form.scan(data):
        if record.kind == EVENT:
            event = form.read_signed(record).event
            value = events.decode(event)
            found.setdefault(value.branch, set()).add((value.sequence, events.digest(event)))
    return heads.extend(Head(), form.scan(data), len(data)), found


@cache
def whole_index() -> bytes:
    """The index of that journal."""
    committed, _ = truth()
    Index(Directory(folder("index")), committed).update({}, committed)
    return folder("index").joinpath(INDEX).read_bytes()


def index(data: bytes) -> None:
    """Whatever the index holds, an answer is an event of that branch that the journal has, or none; and an update mends it or leaves it."""  # noqa: E501
    committed, known = truth()
    folder("index").joinpath(INDEX).write_bytes(data)
    found = Index(Directory(folder("index")), committed)
    branch = "abx"[len(data) % 3]
    last = found.last(branch)
    assert last is None or (last.sequence, last.sha256) in known.get(branch, ())
    found.update({}, committed)
    Index(Directory(folder("index")), committed).places()


def store(data: bytes) -> None:
    """Whatever head and events file hold, a reader gives events in dense sequences, of which each was stored as it is given, or a journal error."""  # noqa: E501
    written, _, content = data.partition(b"\n")
    here = folder("store")
    here.joinpath(HEAD).write_bytes(written)
    here.joinpath(EVENTS).write_bytes(content)
    follower = Follower(here, clock=lambda: FOREVER)
    with suppress(JournalError):
        follower.poll()
    for info in follower.journals():
        after = info.first - 1
        with suppress(JournalError):
            while found := follower.read(info.journal, after, max_records=3):
                assert [one.sequence for one in found] == list(
                    range(after + 1, after + 1 + len(found))
                )
                assert all(one.event in content for one in found)
                assert all(one.certificate in content for one in found)
                after = found[-1].sequence
        with suppress(JournalError):
            follower.since(info.journal, 1e9)


EVENTS_FILES = [one.partition(b"\n")[2] for one in seeds.stores()]
TARGETS = (
    Target("records", records, [seeds.journal("aba"), *EVENTS_FILES], mutate.records, 8192),
    Target("head", head, [one.partition(b"\n")[0] for one in seeds.stores()], mutate.json_bytes),
    Target("index", index, [whole_index()]),
    Target("store", store, seeds.stores(), mutate.store, 8192),
)
