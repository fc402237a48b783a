"""What happens to the journal around one transaction, and the live copy after it.

    open        settings and key are checked before anything exists; heal; compare the mark
    opened      the view before; drafts of what the journal did not know yet
    finalize    second-round finalizer: drafts, signed, appended          <- in the transaction
    commit      postclose: the head; a failure warns, the push is done    <- store lock still held
    publish     txnclose hook: live copy of what `commit` made visible    <- lock released

Duplicates this allows: a live copy and the journal both carry the event (receivers count it once).
Losses it forbids: an event is in the file before its changesets are committed, and a kill between
commit and head is healed at the next `open`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import catchup, changes, pusher, settings, signer
from .journal.append import Appended, Writer
from .journal.format import Mark
from .journal.telling import fold
from .scope import Scopes
from .settings import Curve, Settings
from .storefiles import StoreFiles
from .wire.events import Draft, Transaction

if TYPE_CHECKING:
    from .publish import Publisher, PublishResult

UNSETTLED = Mark((1 << 64) - 1, b"\0" * 20)
"""The mark between the transactions of a strip: fits no changelog, so that a crash is noticed."""


@dataclass(frozen=True)
class Asked:
    """What a person asked to be told, in a transaction that does nothing else.

    `whole`: it tells the whole history, in place of the baselines of a new journal.
    """

    drafts: Callable[[changes.Stamp], Iterable[Draft]]
    whole: bool = False


@dataclass
class Opened:
    """One transaction: what it needs from its beginning to its end."""

    config: Settings
    signer: signer.KeySigner
    curve: Curve | None
    writer: Writer
    inside_strip: bool
    before: changes.Snapshot | None = None
    pending: list[Draft] = field(default_factory=list)
    appended: Appended | None = None


class Recorder:
    """One repository's way into its journal. `name`: the repository's, as events carry it.

    `stripping` is set while `repair.strip` works: it needs up to three transactions, of which the
    first takes away more than is to go; only the last one tells what became of it.
    `asked` is set for a transaction that `hg events` makes; `told` is the last one committed.
    """

    def __init__(self, name: str, publisher: Callable[[], "Publisher"], scopes: Scopes) -> None:
        self.name = name
        self.stripping: changes.Stripped | None = None
        self.asked: Asked | None = None
        self.told: Opened | None = None
        self._publisher = publisher
        self._scopes = scopes
        self._committed: list[tuple[Opened, Appended]] = []

    def writer(self, repo: Any) -> Writer:
        """The journal of the repository's store."""
        return Writer(StoreFiles(repo.svfs), self.name)

    def open(self, repo: Any, desc: bytes, texts: dict[str, str | None]) -> Opened:
        """Before the transaction exists. Raises SettingError, and Torn for a damaged journal."""
        config = settings.parse(texts)
        key = signer.load(config, self.name)
        curve = signer.curve(config, key.secret)
        writer = self.writer(repo)
        if not repo.svfs.exists(b"journal"):
            writer.heal()
            writer.last_mark()
        return Opened(config, key, curve, writer, self.stripping is not None and desc != b"repair")

    def warnings(self, repo: Any, opened: Opened, unknown: list[str]) -> list[str]:
        """What the user of this command or request should know, each once."""
        scope = self._scopes.current(repo.ui.environ)
        late = opened.signer.warning(signer.now())
        texts = [text for text in [late, *unknown] if text and text not in scope.warned]
        scope.warned.update(texts)
        return texts

    def opened(self, repo: Any, tr: Any, opened: Opened) -> None:
        """The transaction exists and has changed nothing yet."""
        if opened.inside_strip:
            return
        if self.stripping is not None:
            opened.before = self.stripping.afterwards(repo)
            return
        opened.before = changes.Snapshot.of(repo)
        opened.pending = list(self._behind(repo, tr, opened))

    def behind(self, repo: Any) -> bool:
        """Whether the journal does not know how the repository is now."""
        writer = self.writer(repo)
        return writer.standing() == "new" or bool(writer.undone()) or not _fits(repo, writer)

    def _behind(self, repo: Any, tr: Any, opened: Opened) -> Any:
        assert opened.before is not None
        stamp = self._stamp(repo, tr)
        branches = opened.before.branches
        writer = opened.writer
        if writer.standing() == "new":
            whole = self.asked is not None and self.asked.whole
            return () if whole else catchup.baselines(repo, branches, stamp)
        undone = writer.undone()
        if not undone and _fits(repo, writer):
            return ()
        whole = writer.last_mark() is None
        return catchup.drafts(repo, fold(writer.stored()), undone, branches, stamp, whole=whole)

    def finalize(self, repo: Any, tr: Any, opened: Opened) -> None:
        """Append the events. An OSError here aborts the transaction, as it must; SettingError."""
        mark = UNSETTLED if opened.inside_strip else mark_of(repo)

        def register(name: str, offset: int) -> None:
            tr.add(name.encode(), offset)

        opened.appended = opened.writer.append(
            register, self._covered(self._drafts(repo, tr, opened), opened), mark, opened.signer
        )

    def _covered(self, drafts: Iterable[Draft], opened: Opened) -> Iterator[Draft]:
        """The drafts, as long as the certificate covers their branches. Raises SettingError."""
        for draft in drafts:
            opened.signer.check_branch(self.name, draft.branch)
            yield draft

    def _drafts(self, repo: Any, tr: Any, opened: Opened) -> Any:
        if opened.before is None:
            return
        yield from opened.pending
        stamp = self._stamp(repo, tr)
        yield from changes.drafts(repo, tr, opened.before, stamp, self.stripping)
        if self.asked is not None:
            yield from self.asked.drafts(stamp)

    def _stamp(self, repo: Any, tr: Any) -> changes.Stamp:
        environ = repo.ui.environ
        scope = self._scopes.current(environ)
        source = tr.hookargs.get(b"source")
        # The second line of a name is a URL, perhaps with a password in it.
        name = tr.hookargs[b"txnname"].split(b"\n")[0]
        return changes.Stamp(
            time=changes.now(),
            transaction=Transaction(
                id=tr.hookargs[b"txnid"].decode("ascii"),
                name=name.decode("utf-8", "replace"),
                source=source.decode("utf-8", "replace") if source else None,
            ),
            pusher=pusher.identify(environ, stdio=scope.stdio),
            traceparent=pusher.traceparent(environ),
        )

    def commit(self, opened: Opened) -> None:
        """Show the events to readers. An OSError leaves that to the next transaction."""
        assert opened.appended is not None
        opened.writer.commit(opened.appended)
        self.told = opened
        if opened.appended.events and opened.config.relay and opened.config.live_timeout:
            self._committed.append((opened, opened.appended))

    def publish(self, repo: Any) -> "list[PublishResult]":
        """Live copies of what was committed since the last call."""
        committed, self._committed = self._committed, []
        scope = self._scopes.current(repo.ui.environ)
        results = []
        for opened, appended in committed:
            start = time.monotonic()
            end = start + opened.config.live_timeout - scope.spent
            if start < end:
                results.append(self._copy(opened, appended, end))
                scope.spent += time.monotonic() - start
        return results

    def _copy(self, opened: Opened, appended: Appended, end: float) -> "PublishResult":
        messages = opened.writer.frames(appended)
        publisher = self._publisher()
        left = max(0.0, end - time.monotonic())
        return publisher.publish(opened.config.relay, messages, left, opened.curve)


def mark_of(repo: Any) -> Mark:
    """The unfiltered changelog as it is now."""
    log = repo.unfiltered().changelog
    return Mark(len(log), log.tip())


def _fits(repo: Any, writer: Writer) -> bool:
    return writer.last_mark() == mark_of(repo)
