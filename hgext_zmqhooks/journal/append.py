"""The writer: events into the journal, inside Mercurial's transaction, under the store lock.

The order of effects, for the extension that calls:

    repo.transaction, outermost, no store/journal     heal(), standing(), last_mark(), undone()
    second-round finalizer                            append(tr.add, …)
    postclose callback                                commit(appended)
    repo._rollback, before Mercurial truncates        before_rollback(offset in store/undo)
    hg events --repair                                repair()

`append` registers where Mercurial must truncate before the first byte is written: an abort,
`hg recover` and `hg rollback` take the events away as they do changesets. `commit` replaces the
head in one step, then updates the index. A kill anywhere leaves a head that is not ahead of what is
committed, and an index that is not ahead of the head; the next `heal` brings both up to date.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..wire import split
from ..wire.values import Draft, Event
from .batch import Batch, Signer
from .files import Files
from .format import (
    EVENT,
    EVENTS,
    HEAD,
    INDEX,
    MARK,
    MARK_LENGTH,
    UNDONE,
    Mark,
    Record,
    Torn,
    read_mark,
    read_signed,
)
from .heads import BadHead, Head, begin, decode, emptied, extend, lower
from .index import Index, Place
from .origin import open_events, rebuilt
from .prune import Pruning
from .reading import CHUNK, record_at, records
from .telling import Sound, collect, event_of


@dataclass(frozen=True, slots=True)
class Appended:
    """What one `append` wrote; hand it to `commit` once the transaction is committed.

    `events`: how many. `offset`: size of the file before. `live`: (offset of the record, topic)
    of the first events, within the bounds of `batch.py`, for `Writer.frames`.
    """

    head: Head
    offset: int
    events: int
    live: tuple[tuple[int, bytes], ...]
    certificate: bytes
    index: Index
    branches: Mapping[bytes, Place]

    @property
    def empty(self) -> bool:
        """Nothing was written: the transaction neither told anything nor moved the changelog."""
        return self.head.size == self.offset


class Writer:
    """The journal of one store. Every method wants the store lock held; nothing is kept between.

    `repo`: the repository's name, as events carry it. Methods raise OSError, and Torn where the
    events file is damaged: then nothing was changed, and nothing can be appended until somebody
    has looked at it.
    """

    def __init__(self, files: Files, repo: str) -> None:
        self._files = files
        self._repo = repo

    def heal(self) -> None:
        """Make the head say what the events file holds. Call only while store/journal is absent.

        The head lags after a crash between commit and postclose, and where it could not be
        written; it is ahead after a rollback by a Mercurial without the extension. Reads only
        what stands behind the head, unless the file shrank or the head is gone.
        """
        before = self._stored_head()
        head = self._settled(before)
        if head == (before or Head()):
            return
        if before is None or head.size < before.size:
            self._files.remove(INDEX)
        self._files.write_atomic(HEAD, head.encode())

    def pruning(self) -> Pruning:
        """Retention, for a journal that is current. Call only while store/journal is absent."""
        self.heal()
        return Pruning(self._files, self._settled())

    def stat(self) -> tuple[int, int]:
        """Bytes that the events file has, and how many were dropped and not stood for."""
        return self._size(), self._base()

    def standing(self) -> str:
        """What the next event is to the journal: "new", "current" or "ended".

        "new": this store has no journal; it begins with baselines. "current": goes on. "ended":
        history was undone, copied, renamed or restored; `append` begins a new journal id by itself,
        whose events name what they continue. It has no baselines.
        """
        return self._standing(self._settled())

    def last_mark(self) -> Mark | None:
        """The unfiltered changelog as the last transaction left it.

        None: nothing is known about it, so there is nothing to reconcile. Either the store has
        no journal yet ("new", baselines say where it begins), or all that it held was rolled back
        or removed ("ended": `undone()` says what is known, the rest must not be announced again).
        """
        return self._mark(self._settled())

    def undone(self) -> dict[str, list[str]]:
        """Nodes by branch of which events told that a rollback cut off.

        The next `append` with events must tell how it is with them, removed or there: it begins
        the new journal, after which this is empty.
        """
        return self._undone(self._settled())

    def stored(self) -> Iterator[Record]:
        """All records of the file up to the head, of all journals, checked, in bounded memory."""
        head = self._settled()
        if head.size:
            with open_events(self._files.path(EVENTS)) as source:
                yield from records(source, source.base, head.size)

    def events(self) -> Iterator[Event]:
        """All events of the file up to the head, oldest first, in bounded memory.

        Closed journals are included, under the name that the repository had then.
        """
        for record in self.stored():
            if record.kind == EVENT:
                yield event_of(record)

    def append(
        self,
        register: Callable[[str, int], None],
        drafts: Iterable[Draft],
        mark: Mark,
        signer: Signer,
        *,
        limit: int = split.LIMIT,
    ) -> Appended:
        """Write the events of one transaction, and the changelog's state after it.

        `register(name, offset)` is `tr.add`: called once, before the first byte. A draft larger
        than `limit` becomes consecutive parts. Drafts are taken one by one and written part by
        part. Without drafts only the mark is written, and nothing if that did not change.
        """
        head = self._settled()
        offset = head.size
        index = Index(self._files, head)
        following = iter(drafts)
        first = next(following, None)
        if first is None and mark == self._mark(head):
            return Appended(head, offset, 0, (), b"", index, {})
        register(EVENTS, offset - self._base())
        with self._files.append(EVENTS) as out:
            batch = Batch(out, offset, signer, limit, index)
            if first is not None:
                head = batch.events(self._opened(head), first, following)
            batch.mark(mark)
        return Appended(
            head=replace(head, size=batch.offset),
            offset=offset,
            events=batch.count,
            live=tuple(batch.live),
            certificate=signer.certificate,
            index=index,
            branches=batch.branches(),
        )

    def commit(self, appended: Appended) -> None:
        """Make what was appended visible to readers. Call after the commit, lock still held.

        An OSError must not fail the push: the events are committed, `heal` will find them.
        """
        if appended.empty:
            return
        self._files.write_atomic(HEAD, appended.head.encode())
        if appended.events:
            self._files.remove(UNDONE)
        appended.index.update(appended.branches, appended.head)

    def frames(self, appended: Appended) -> list[tuple[bytes, bytes, bytes, bytes]]:
        """The first committed events as (topic, event, signature, certificate), read back.

        For the live copy, which may be lost: what cannot be read any more is left out.
        """
        out: list[tuple[bytes, bytes, bytes, bytes]] = []
        try:
            with open_events(self._files.path(EVENTS)) as source:
                for offset, topic in appended.live:
                    found = read_signed(record_at(source, offset, appended.head.size))
                    out.append((topic, found.event, found.signature, appended.certificate))
        except (OSError, Torn):
            return out
        return out

    def before_rollback(self, cut: int) -> bool:
        """Prepare for a rollback that will cut the events file at byte `cut`.

        False where the file does not reach that far, and nothing can be cut.

        First what it undoes is kept for `undone`, then the head is lowered: a reader never sees
        a head beyond the file. If the cut then does not happen, `heal` raises the head again.
        """
        head = self._settled()
        cut += self._base()
        if cut >= head.size:
            return cut == head.size
        undone = self._undone(head)
        with open_events(self._files.path(EVENTS)) as source:
            collect(records(source, cut, head.size), undone)
            if cut < head.start:
                lowered = replace(rebuilt(source, cut), ended=True)
            else:
                lowered = lower(head, records(source, cut, head.size), cut)
        self._lower(lowered, undone)
        return True

    def _lower(self, head: Head, undone: dict[str, list[str]]) -> None:
        """Before the file is cut: what is undone first, then the head."""
        journal = {"version": 1, "journal": head.journal, "branches": undone}
        self._files.write_atomic(UNDONE, json.dumps(journal).encode())
        self._files.remove(INDEX)
        self._files.write_atomic(HEAD, head.encode())

    def repair(self) -> tuple[int, str] | None:
        """Set aside what stands behind the last sound transaction; None where nothing is damaged.

        Returns the new size of the events file, and the name of the file that keeps the rest. The
        journal ended: the next transaction begins a new one, and tells again what is missing in
        it. Call only while store/journal is absent; killed anywhere, it can be called again.
        """
        stored = self._stored_head()
        if not self._size():
            return None
        with open_events(self._files.path(EVENTS), damaged=True) as source:
            sound = Sound(source)
            end = sound.end
            if end == source.size:
                return None
            aside = f"{EVENTS}-damaged-{secrets.token_hex(4)}"
            with self._files.append(aside) as out:
                for offset in range(end, source.size, CHUNK):
                    out.write(source.read(offset, CHUNK))
            lowered = emptied(stored or Head())
            if end > source.base:
                lowered = replace(rebuilt(source, end), ended=True)
        undone = self._undone(stored) if stored else {}
        for branch, nodes in sound.undone.items():
            undone.setdefault(branch, []).extend(nodes)
        self._lower(lowered, undone)
        with self._files.patch(EVENTS) as file:
            file.truncate(end - source.base)
        return end, aside

    def _stored_head(self) -> Head | None:
        data = self._files.read(HEAD)
        try:
            return None if data is None else decode(data)
        except BadHead:
            return None

    def _settled(self, stored: Head | None = None) -> Head:
        """The head as it must be for the events file at hand, whatever is written."""
        head = stored or self._stored_head() or Head()
        if not self._size():
            return emptied(head) if head.size else head
        with open_events(self._files.path(EVENTS)) as source:
            head, size = source.origin.applied(head, source.place), source.size
            if size == head.size:
                return head
            try:
                if size > head.size:
                    return extend(head, records(source, head.size, size), size)
            except Torn:
                if head.size == source.origin.cut:
                    raise
            # Not the file that the head was written for: what it holds itself decides.
            return rebuilt(source, size)

    def _size(self) -> int:
        """Bytes that the events file has, without those that were dropped."""
        found = self._files.stat(EVENTS)
        return found.st_size if found else 0

    def _base(self) -> int:
        """What the first byte of the events file counts as."""
        if not self._size():
            return 0
        with open_events(self._files.path(EVENTS)) as source:
            return source.base

    def _standing(self, head: Head) -> str:
        if not head.journal:
            return "new"
        return "ended" if head.ended or self._moved(head) else "current"

    def _moved(self, head: Head) -> bool:
        """Whether the head was written for another file, or for a repository of another name."""
        found = self._files.stat(EVENTS)
        place = (found.st_dev, found.st_ino) if found else (head.dev, head.ino)
        return (head.repo, head.dev, head.ino) != (self._repo, *place)

    def _mark(self, head: Head) -> Mark | None:
        if not head.size:
            return None
        offset = max(0, head.size - MARK_LENGTH)
        with open_events(self._files.path(EVENTS)) as source:
            record = record_at(source, offset, head.size)
        if record.kind != MARK:
            raise Torn(offset, "no mark at the end of a transaction")
        return read_mark(record)

    def _undone(self, head: Head) -> dict[str, list[str]]:
        """Of the rollback that ended the journal which is still the head's; else void."""
        data = self._files.read(UNDONE) if head.ended else None
        try:
            document = json.loads(data or b"{}")
        except ValueError:  # lost with the power; it must not stop every push from now on
            return {}
        if not isinstance(document, dict) or document.get("journal") != head.journal:
            return {}
        branches = document.get("branches")
        return branches if isinstance(branches, dict) else {}

    def _opened(self, head: Head) -> Head:
        """The head of the journal that takes the next event, in the file just opened."""
        if self._standing(head) != "current":
            head = begin(head, secrets.token_hex(16), self._repo, head.size)
        found = self._files.stat(EVENTS)
        assert found is not None, "it is open"
        return replace(head, dev=found.st_dev, ino=found.st_ino)
