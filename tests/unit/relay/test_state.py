import sqlite3
import stat

import pytest

from hgext_zmqhooks.relay import state
from hgext_zmqhooks.relay.state import State
from hgext_zmqhooks.service.errors import ServiceError, Unreachable

JOURNAL = "9f" * 16


def test_what_was_flushed_is_read_by_others_and_after_a_restart(tmp_path):
    path = tmp_path / "relay.db"
    mine = State(path)
    mine.bind("ci", "store-1", 100.0)
    mine.position("ci", JOURNAL, "team/app", 3)
    mine.position("ci", JOURNAL, "team/app", 4)
    assert list(state.read(path)) == []
    mine.flush()
    mine.seen("ci", 105.0)
    mine.flush()
    (row,) = state.read(path)
    assert (row.name, row.store, row.seen, row.repo, row.sequence) == (
        "ci", "store-1", 105.0, "team/app", 4,
    )  # fmt: skip
    assert (row.failed, row.error) == (None, "")
    mine.failed("ci", 106.0, "connection lost")
    mine.flush()
    (row,) = state.read(path)
    assert (row.seen, row.failed, row.error) == (105.0, 106.0, "connection lost")
    mine.close()
    again = State(path)
    assert again.store_of("ci") == "store-1"
    assert again.store_of("other") is None
    again.close()


def test_how_far_each_is_known_without_a_look_at_the_file(tmp_path):
    mine = State(tmp_path / "relay.db")
    mine.bind("ci", "store-1", 100.0)
    mine.position("ci", JOURNAL, "team/app", 3)
    assert mine.reached(JOURNAL) == {"ci": 3}
    assert mine.heard("ci") == 100.0
    mine.close()
    again = State(tmp_path / "relay.db")
    assert again.reached(JOURNAL) == {"ci": 3}
    again.position("ci", JOURNAL, "team/app", 5)
    again.seen("ci", 200.0)
    assert (again.reached(JOURNAL), again.heard("ci")) == ({"ci": 5}, 200.0)
    assert (again.reached("0" * 32), again.heard("other")) == ({}, 0.0)
    again.close()


def test_nobody_else_may_read_who_reads_what(tmp_path):
    mine = State(tmp_path / "relay.db")
    mine.bind("ci", "store-1", 100.0)
    mine.flush()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    mine.close()
    assert modes == {"relay.db": 0o600, "relay.db-wal": 0o600, "relay.db-shm": 0o600}


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ServiceError, match="the relay's state cannot be used: No such file"):
        State(tmp_path / "none" / "relay.db")


def test_closing_writes_what_is_left(tmp_path):
    mine = State(tmp_path / "relay.db")
    mine.bind("ci", "store-1", 100.0)
    mine.close()
    again = State(tmp_path / "relay.db")
    assert again.store_of("ci") == "store-1"
    again.close()


def test_no_relay_has_run(tmp_path):
    with pytest.raises(Unreachable, match="no relay has run"):
        list(state.read(tmp_path / "none.db"))


@pytest.mark.parametrize("use", [State, lambda path: list(state.read(path))])
def test_a_file_that_is_not_ours(tmp_path, use):
    path = tmp_path / "relay.db"
    path.write_text("something else altogether, and long enough to have a header" * 20)
    with pytest.raises(ServiceError, match="the relay's state cannot be used"):
        use(path)


def test_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "relay.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(ServiceError, match="newer version"):
        State(path)


def test_a_failed_flush_is_repeated(tmp_path):
    path = tmp_path / "relay.db"
    mine = State(path)
    mine.bind("ci", "store-1", 100.0)
    mine._db.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError, match="locked"):
        mine.flush()
    other.execute("ROLLBACK")
    other.close()
    mine.flush()
    mine.position("ci", JOURNAL, "team/app", 1)
    mine.flush()
    assert len(list(state.read(path))) == 1
    mine.close()
