"""What the tests of the journal share: a store in a folder, and drafts and marks to put in it.

`Store` plays Mercurial: store/journal exists while a transaction is open and says where to cut.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from hgext_zmqhooks.journal.append import Appended, Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.format import BRANCH, EVENT, EVENTS, HEAD, INDEX, Mark, read_signed
from hgext_zmqhooks.journal.heads import Head, decode
from hgext_zmqhooks.journal.origin import open_events, read_branch
from hgext_zmqhooks.journal.prune import Limits, Told
from hgext_zmqhooks.journal.reading import records
from hgext_zmqhooks.journal.telling import event_of
from hgext_zmqhooks.wire.events import Draft, Event, Transaction

TIME = "2026-11-21T09:15:02.123456Z"


class FakeSigner:
    """Signs by hashing: the journal never looks into a signature."""

    def __init__(self, certificate: bytes = b"certificate-1") -> None:
        self.certificate = certificate

    def sign(self, event: bytes) -> bytes:
        return hashlib.sha512(self.certificate + event).digest()


SIGNER = FakeSigner()


def draft(
    branch: str = "default", *nodes: str, removed: Iterable[str] = (), time: str = TIME
) -> Draft:
    changesets = [
        b'{"node":"%b","parents":[],"user":"u","date":"d","description":"","phase":"draft"}'
        % node.encode()
        for node in nodes
    ]
    lists = {"changesets": changesets, "removed": [b'"%b"' % n.encode() for n in removed]}
    return Draft(branch=branch, time=time, transaction=Transaction("t", "commit"), lists=lists)


def node(number: int) -> str:
    return f"{number:040x}"


def mark(revisions: int) -> Mark:
    return Mark(revisions, revisions.to_bytes(20, "big"))


class Store:
    """A store folder and Mercurial's part of the work on it."""

    def __init__(self, path: Path, repo: str = "team/app") -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.repo = repo
        self.files = Directory(path)
        self.writer = Writer(self.files, repo)
        self.revisions = 0
        self.events_file = path / EVENTS
        self.head_file = path / HEAD
        self.index_file = path / INDEX
        self.open_transaction = path / "journal"

    def head(self) -> Head:
        return decode(self.head_file.read_bytes())

    def size(self) -> int:
        return self.events_file.stat().st_size if self.events_file.exists() else 0

    def _register(self, name: str, offset: int) -> None:
        assert offset == self.size(), "the cut is registered before the first byte"
        self.open_transaction.write_text(f"{name}\0{offset}\n")

    def append(self, *drafts: Draft, signer: FakeSigner = SIGNER, **options) -> Appended:
        """Open a transaction and append; it stays open."""
        self.writer.heal()
        self.open_transaction.touch()
        self.revisions += 1
        return self.writer.append(self._register, drafts, mark(self.revisions), signer, **options)

    def close(self) -> None:
        """The commit point."""
        self.open_transaction.rename(self.path / "undo")

    def push(self, *drafts: Draft, **options) -> Appended:
        appended = self.append(*drafts or [draft()], **options)
        self.close()
        self.writer.commit(appended)
        return appended

    def recover(self) -> None:
        """An abort, or `hg recover`."""
        for line in self.open_transaction.read_text().splitlines():
            _name, offset = line.split("\0")
            self.cut(int(offset))
        self.open_transaction.unlink()

    def cut(self, offset: int) -> None:
        if offset:
            with self.events_file.open("r+b") as file:
                file.truncate(offset)
        else:
            self.events_file.unlink(missing_ok=True)

    def rollback(self, appended: Appended) -> None:
        self.writer.before_rollback(appended.offset)
        self.cut(appended.offset)

    def prune(self, limits: Limits) -> int | None:
        """What the extension does: no rollback meanwhile, and one at the right place later."""
        pruning = self.writer.pruning()
        cut = pruning.cut(limits)
        if cut is not None:
            branches = [read_branch(r) for r in pruning.dropped(cut) if r.kind == BRANCH]
            branches += [event_of(r) for r in pruning.dropped(cut) if r.kind == EVENT]
            pruning.write(cut, {each.branch: Told((node(7),), (node(8),)) for each in branches})
        return cut

    def base(self) -> int:
        """What the first byte of the events file counts as."""
        with open_events(self.events_file) as source:
            return source.base

    def events(self) -> list[Event]:
        return list(self.writer.events())

    def event_bytes(self) -> Iterator[bytes]:
        for record in self.writer.stored():
            if record.kind == EVENT:
                yield read_signed(record).event


def check_chain(store: Store) -> None:
    """Dense sequences per journal, and each event names the one before it on its branch."""
    last: dict[str, tuple[str, int, str]] = {}
    sequences: dict[str, int] = {}
    if store.size():
        with open_events(store.events_file) as source:
            head = source.origin.head
            sequences = {region.journal: region.sequence for region in (*head.closed, head)}
            for record in records(source, source.base, source.origin.cut):
                if record.kind == BRANCH:
                    dropped = read_branch(record)
                    last[dropped.branch] = dropped.journal, dropped.sequence, dropped.sha256
    for data, event in zip(store.event_bytes(), store.events(), strict=True):
        assert event.sequence == sequences.get(event.journal, 0) + 1
        sequences[event.journal] = event.sequence
        before = last.get(event.branch)
        if before and before[0] == event.journal:
            assert event.previous
            assert (event.previous.sequence, event.previous.sha256) == before[1:]
        else:
            assert event.previous is None
            found = event.continues
            assert (found and (found.journal, found.sequence, found.sha256)) == before
        last[event.branch] = event.journal, event.sequence, hashlib.sha256(data).hexdigest()
