"""Whatever happens to a store, sequences are dense, links are right, and readers see a prefix.

A history is a list of steps as Mercurial makes them. `told` is the model: every event that was
committed and not undone, as bytes, in order.
"""

import tempfile
import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.journal.stores import FakeSigner, Store, check_chain, draft, node

from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.prune import Limits
from hgext_zmqhooks.wire.events import decode

branches = st.lists(st.sampled_from("abcd"), min_size=0, max_size=4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), branches),
        st.tuples(st.just("abort"), branches),
        st.tuples(st.just("crash"), branches),
        st.tuples(st.just("headless"), branches),
        st.tuples(st.sampled_from(["rollback", "half a rollback", "foreign rollback"])),
        st.tuples(st.sampled_from(["lose index", "lose head", "rename", "renew"])),
        st.tuples(st.just("prune"), st.integers(0, 4000), st.booleans()),
    ),
    max_size=12,
)


class History:
    """A store, what it told, and two readers: one patient, one that goes past the head at once."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.told: list[bytes] = []
        self.before: tuple[int, list[bytes]] | None = None
        self.number = 0
        self.signer = FakeSigner()
        self.patient = Follower(path)
        self.hasty = Follower(path, clock=lambda: time.time() + 10)

    def open(self, names: list[str]):
        drafts = []
        for name in names:
            self.number += 1
            drafts.append(draft(name, node(self.number)))
        self.before = self.store.size(), list(self.told)
        appended = self.store.append(*drafts, signer=self.signer)
        self.look()
        return appended

    def push(self, names):
        appended = self.open(names)
        self.store.close()
        self.store.writer.commit(appended)
        self.tell(len(names))

    def tell(self, count: int) -> None:
        """`count` events more, behind those that were there: nothing else changed."""
        found = list(self.store.event_bytes())
        assert found[: len(self.told)] == self.told
        assert len(found) == len(self.told) + count
        self.told = found

    def abort(self, names):
        self.open(names)
        self.before = None
        self.store.recover()

    def crash(self, names):
        """A kill between two halves of the last record, then `hg recover`."""
        appended = self.open(names)
        self.before = None
        if not appended.empty:
            self.store.cut(self.store.size() - 20)
            self.look()
        self.store.recover()

    def headless(self, names):
        """A kill, or a full disk, between the commit point and the head."""
        self.open(names)
        self.store.close()
        self.tell(len(names))

    def rollback(self):
        if self.before:
            offset, told = self.before
            self.before = None
            self.store.writer.before_rollback(offset)
            self.look()
            self.store.cut(offset)
            self.told = told

    def half_a_rollback(self):
        if self.before:
            self.store.writer.before_rollback(self.before[0])

    def foreign_rollback(self):
        if self.before:
            offset, self.told = self.before
            self.before = None
            self.store.cut(offset)
            self.store.writer.heal()

    def lose_index(self):
        self.store.index_file.unlink(missing_ok=True)

    def lose_head(self):
        self.store.head_file.unlink(missing_ok=True)

    def rename(self):
        self.store = Store(self.store.path, self.store.repo + "x")

    def renew(self):
        self.signer = FakeSigner(self.signer.certificate + b"+")

    def prune(self, size, headless):
        """With a kill before the head is written, or without; later rollbacks find their place."""
        self.store.writer.heal()
        if self.store.writer.standing() != "current":
            return
        former, head = self.store.base(), self.store.head_file.read_bytes()
        if self.store.prune(Limits(size=size)) is None:
            return
        if headless:
            self.store.head_file.write_bytes(head)
        if self.before:
            offset, told = self.before
            self.before = offset + former - self.store.base(), told
        kept = list(self.store.event_bytes())
        dropped = self.told[: len(self.told) - len(kept)]
        assert dropped + kept == self.told
        self.told = kept
        if self.before:
            self.before = self.before[0], self.before[1][len(dropped) :]
        self.look()

    def look(self) -> None:
        """Readers see nothing but what was told."""
        for reader in (self.patient, self.hasty):
            view = served(reader)
            names = {info.repo for info in reader.journals()}
            expected = [data for data in self.told if repo(data) in names]
            assert view == expected[: len(view)]

    def check(self) -> None:
        self.look()
        self.store.writer.heal()
        assert list(self.store.event_bytes()) == self.told
        check_chain(self.store)
        for reader in (self.patient, self.hasty):
            name = self.store.head().repo if self.told else ""
            assert served(reader) == [data for data in self.told if repo(data) == name]


def repo(event: bytes) -> str:
    return decode(event).repo


def served(reader: Follower) -> list[bytes]:
    reader.poll()
    out = []
    for info in reader.journals():
        after = info.first - 1
        while batch := reader.read(info.journal, after, 3):
            out += [stored.event for stored in batch]
            after = batch[-1].sequence
        assert after == info.sequence
    return out


@settings(max_examples=150, deadline=None)
@given(steps)
@example([("headless", ["a"]), ("push", ["a"]), ("prune", 0, False), ("rollback",)])
def test_readers_see_a_prefix_of_a_dense_and_linked_journal(history):
    with tempfile.TemporaryDirectory() as folder:
        model = History(Path(folder) / "store")
        for step, *arguments in history:
            getattr(model, step.replace(" ", "_"))(*arguments)
            model.look()
        model.check()
        model.push(["a", "b", "c", "d", "e"])
        model.check()
