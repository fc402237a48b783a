"""SIGKILL at every line of the writer, in a child process; then what is on disk is looked at.

Mercurial's own part is played by `Store`: whatever was appended before the commit point is cut
at the offset that was registered, as `hg recover` does.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.journal.stores import Store, check_chain, draft, mark, node

import hgext_zmqhooks.journal
from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.journal.index import Index
from hgext_zmqhooks.journal.prune import Limits

ROOM = str(Path(hgext_zmqhooks.journal.__file__).parent)


def killed(action: Callable[[], object], at: int) -> bool:
    """Run `action` in a child that dies at the line number `at` of the journal's modules.

    False: the child came to its end before.
    """
    with warnings.catch_warnings():
        # The child runs nothing but the writer, which has no use for the other threads' locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            _run_and_die(action, at)
            os._exit(0)
        finally:
            os._exit(99)
    _pid, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, f"the child ended with {status}"
    return status == signal.SIGKILL


def _run_and_die(action: Callable[[], object], at: int) -> None:
    lines = 0

    def trace(frame, event, _argument):
        nonlocal lines
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        if event == "line":
            lines += 1
            if lines > at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    action()
    sys.settrace(None)


def every_line(tmp_path: Path, prepare: Callable[[Store], Callable[[], object]], step: int = 1):
    """A fresh store for each line of the action that `prepare` gives, killed there."""
    for at in range(0, 5000, step):
        store = Store(tmp_path / str(at))
        if not killed(prepare(store), at):
            assert at > 20, "the action has lines"
            return
        yield store
    pytest.fail("the action does not end")


def filled(store: Store) -> Store:
    store.push(draft("default", node(1)), draft("stable", node(2)))
    store.push(draft("default", node(3)))
    return store


def check_index(store: Store) -> None:
    index = Index(store.files, store.head())
    for branch, sequence in {event.branch: event.sequence for event in store.events()}.items():
        found = index.last(branch)
        assert found
        assert found.sequence == sequence


def served(store: Store) -> int:
    follower = Follower(store.path)
    follower.poll()
    return sum(len(follower.read(info.journal, 0)) for info in follower.journals())


def goes_on(store: Store, events: int) -> None:
    """The store holds `events`, is whole, and takes further ones."""
    store.writer.heal()
    assert len(store.events()) == events == served(store)
    assert store.head().size == store.size() + store.base()
    check_index(store)
    store.push(draft("default"), draft("stable"), draft("new"))
    check_chain(store)
    check_index(store)
    assert served(store) == events + 3


def test_commit(tmp_path):
    def prepare(store):
        appended = filled(store).append(draft("stable"), draft("x"))
        store.close()
        return lambda: store.writer.commit(appended)

    for store in every_line(tmp_path, prepare):
        assert store.head().size <= store.size(), "never ahead of what is committed"
        assert served(store) in {3, 5}
        goes_on(store, 5)
        assert store.writer.standing() == "current"


def test_commit_that_begins_a_journal(tmp_path):
    def prepare(store):
        filled(store).rollback(store.push(draft("default", node(4))))
        appended = store.append(draft("default", removed=[node(4)]))
        store.close()
        return lambda: store.writer.commit(appended)

    for store in every_line(tmp_path, prepare):
        store.writer.heal()
        assert store.writer.undone() == {}, "it was told"
        goes_on(store, 4)


def test_commit_that_grows_the_index(tmp_path):
    def prepare(store):
        filled(store).push(*[draft(f"b{number}") for number in range(28)])
        appended = store.append(*[draft(f"c{number}") for number in range(5)])
        store.close()
        return lambda: store.writer.commit(appended)

    for store in every_line(tmp_path, prepare, step=3):
        goes_on(store, 36)


def test_append(tmp_path):
    def prepare(store):
        filled(store)
        return lambda: store.append(draft("default", node(5)), draft("stable"), draft("y"))

    for store in every_line(tmp_path, prepare, step=3):
        assert served(store) == 3
        if store.open_transaction.exists():
            store.recover()
        goes_on(store, 3)
        assert len(store.head().closed) == 0


def test_heal_after_a_crash(tmp_path):
    def prepare(store):
        filled(store).append(draft("stable"), draft("x"))
        store.close()
        return store.writer.heal

    for store in every_line(tmp_path, prepare):
        goes_on(store, 5)
        assert store.head().closed == ()


def test_heal_of_a_lost_head(tmp_path):
    def prepare(store):
        filled(store).head_file.unlink()
        return store.writer.heal

    for store in every_line(tmp_path, prepare, step=3):
        goes_on(store, 3)


def test_heal_of_a_file_that_was_cut(tmp_path):
    def prepare(store):
        appended = filled(store).push(draft("stable"))
        store.cut(appended.offset)
        return store.writer.heal

    for store in every_line(tmp_path, prepare, step=3):
        goes_on(store, 3)


@pytest.mark.parametrize("cut", [True, False])
def test_before_rollback(tmp_path, cut):
    def prepare(store):
        last = filled(store).push(draft("stable", node(8)))
        store.last = last.offset
        return lambda: store.writer.before_rollback(last.offset)

    for store in every_line(tmp_path, prepare, step=3):
        assert served(store) in {3, 4}
        if cut:
            # By a Mercurial without the extension, since ours was killed
            store.cut(store.last)
            store.writer.heal()
            assert store.writer.standing() == "ended"
            assert store.writer.undone() in ({}, {"stable": [node(8)]})
        else:
            store.writer.heal()
            assert store.writer.standing() == "current"
            assert store.writer.undone() == {}
        goes_on(store, 3 if cut else 4)


def test_prune(tmp_path):
    def prepare(store):
        filled(store).push(draft("x"))
        return lambda: store.prune(Limits(size=700))

    for store in every_line(tmp_path, prepare, step=3):
        served_before = served(store)
        dropped = store.writer.pruning().head.first - 1
        assert dropped in {0, 3}, "all that was to go went, or nothing"
        assert served_before == served(store) == 4 - dropped
        assert store.writer.standing() == "current"
        goes_on(store, 4 - dropped)
        assert store.head().closed == ()


@pytest.mark.long
def test_a_whole_transaction_with_its_rollback(tmp_path):
    def prepare(store):
        filled(store)

        def action():
            appended = store.append(draft("default", node(9)))
            store.close()
            store.writer.commit(appended)
            store.rollback(appended)
            store.push(draft("default", removed=[node(9)]))

        return action

    for store in every_line(tmp_path, prepare):
        if store.open_transaction.exists():
            store.recover()
        store.writer.heal()
        found = store.events()
        assert len(found) in {3, 4}
        assert store.writer.last_mark() in {mark(2), mark(3), mark(4)}
        goes_on(store, len(found))
