"""What only the SQLite store has: its file, its lock, its versions, and what its errors say."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from storekit import DONE, JOURNAL, SqliteBox, batch, delivery, fill, record
from support.nobody import unprivileged

from subscriber.store import connection, migrate
from subscriber.store.base import State, StoreError, Terms, Wanted
from subscriber.store.sqlite import SqliteReader, SqliteStore

SCHEMAS = Path(__file__).parents[2] / "conformance" / "schemas"
NOW = 2_000_000_000.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ci.db"


@pytest.fixture
def open_folder():
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def shape(db):
    """Everything that a schema makes, without its white space."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
    made = [(*row[:3], " ".join((row[3] or "").split())) for row in rows]
    return made, db.execute("PRAGMA user_version").fetchone()


class TestFile:
    def test_only_its_user_may_read_it_whatever_the_umask(self, path):
        old = os.umask(0)
        try:
            with SqliteStore.open(path) as store:
                fill(store, 1)
                modes = {
                    entry.name: stat.S_IMODE(entry.stat().st_mode)
                    for entry in path.parent.iterdir()
                }
        finally:
            os.umask(old)
        assert set(modes) >= {"ci.db", "ci.db-wal", "ci.db.lock"}
        assert set(modes.values()) == {0o600}

    def test_every_step_is_on_disk_before_it_returns(self, path):
        with SqliteStore.open(path) as store:
            assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2
            assert store._db.execute("PRAGMA foreign_keys").fetchone()[0] == 1

    def test_all_tables_are_strict(self, path):
        with SqliteStore.open(path) as store:
            tables = store._db.execute("PRAGMA table_list").fetchall()
        ours = [row for row in tables if not row[1].startswith("sqlite_")]
        assert len(ours) == 19
        assert all(row[5] for row in ours)

    def test_a_finished_claim_uses_no_full_scan(self, path):
        """The engine's statements must stay quick with a million old deliveries."""
        values = {
            "rule": "build",
            "order_key": "x",
            "now": 1.0,
            "limit": 1,
            "offset": 0,
            "id": "x",
            "fence": 1,
            "until": 1.0,
            "before": 1.0,
            "owner": None,
            "journal": "x",
        }
        names = (
            "lane leased waiting ready due_lanes candidates held_by running extend old_deliveries"
        )
        with SqliteStore.open(path) as store:
            for name in [*names.split(), "first_part", "oldest_events", "expired", "leases"]:
                plan = store._db.execute(f"EXPLAIN QUERY PLAN {migrate.queries()[name]}", values)
                steps = [row[3] for row in plan]
                whole = [step for step in steps if step in {"SCAN delivery", "SCAN event"}]
                assert not whole, steps
                assert not [step for step in steps if step == "SCAN lane"], steps


def effort(store, work):
    """Of how many of SQLite's own steps some work is."""
    count = [0]

    def step():
        count[0] += 1

    store._db.set_progress_handler(step, 1)
    work()
    store._db.set_progress_handler(None, 1)
    return count[0]


def claim_and_finish(store, **how):
    (claimed,) = store.claim("ci", 60.0, 1, NOW, **how)
    assert store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)


class TestEffort:
    """What waits, and what is kept, costs nothing."""

    @pytest.fixture
    def store(self, tmp_path):
        box = SqliteBox(tmp_path, quick=True)
        yield box.store
        box.store.close()

    def lanes(self, store, first, last, rule="build"):
        items = [
            delivery(n, rule, id=f"{rule}-{n}", order_key=str(n)) for n in range(first, last + 1)
        ]
        records = [record(n) for n in range(first, last + 1)]
        store.accept(batch(last, first - 1 or None, records=records, deliveries=items))

    def test_of_lanes_that_wait(self, store):
        self.lanes(store, 1, 10)
        few = effort(store, lambda: claim_and_finish(store))
        self.lanes(store, 11, 3000)
        many = effort(store, lambda: claim_and_finish(store))
        assert many < few * 1.5

    def test_of_a_flooded_rule_that_may_not_run(self, store):
        self.lanes(store, 1, 20, "flood")
        self.lanes(store, 21, 22, "quiet")
        terms = {"flood": Terms(limit=0), "quiet": Terms()}
        few = effort(store, lambda: claim_and_finish(store, terms=terms))
        self.lanes(store, 23, 3000, "flood")
        many = effort(store, lambda: claim_and_finish(store, terms=terms))
        assert many < few * 1.5
        assert effort(store, lambda: store.next_due(terms=terms)) < few

    def test_of_receipts_that_are_kept(self, store):
        self.lanes(store, 1, 3000)
        few = effort(store, lambda: claim_and_finish(store))
        for _ in range(2990):
            claim_and_finish(store)
        many = effort(store, lambda: claim_and_finish(store))
        assert many < few * 1.5

    @pytest.mark.parametrize(
        "wanted",
        [
            Wanted(id="unknown"),
            Wanted(event_id=f"{JOURNAL}/1"),
            Wanted(states=frozenset({State.DEAD, State.RETRYING})),
        ],
        ids=["id", "event", "states"],
    )
    def test_of_deliveries_that_are_not_wanted(self, store, wanted):
        self.lanes(store, 1, 10)
        few = effort(store, lambda: store.deliveries(wanted, 9))
        self.lanes(store, 11, 3000)
        many = effort(store, lambda: store.deliveries(wanted, 9))
        assert many < few * 2

    def test_of_events_that_tell_of_other_changesets(self, store):
        records = [record(n, nodes=(f"{n:040x}",)) for n in range(1, 3001)]
        store.accept(batch(3000, None, records=records))
        assert effort(store, lambda: store.trace(f"{77:040x}", 9)) < 200

    def test_of_what_is_too_new_to_be_forgotten(self, store):
        self.lanes(store, 1, 3000)
        for _ in range(100):
            claim_and_finish(store)
        assert effort(store, lambda: store.prune(900.0, 1)) < 200

    def test_of_events_behind_one_that_stays(self, store):
        store.accept(batch(1000, None, records=[record(n) for n in range(1, 1001)]))
        assert effort(store, lambda: store.prune(900.0, 1000)) < 500


class TestLock:
    def test_a_second_daemon_is_told_who_has_it(self, path):
        with SqliteStore.open(path):
            with pytest.raises(StoreError) as caught:
                SqliteStore.open(path)
            assert f"in use by process {os.getpid()}" in str(caught.value)
            assert str(path) in str(caught.value)
            assert caught.value.hint
        SqliteStore.open(path).close()

    def test_another_process_is_told_too_and_gets_it_when_we_are_gone(self, path):
        script = (
            "import sys; from pathlib import Path\n"
            "from subscriber.store.sqlite import SqliteStore\n"
            "SqliteStore.open(Path(sys.argv[1])).close()"
        )
        command = [sys.executable, "-c", script, str(path)]
        with SqliteStore.open(path):
            refused = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=60
            )
        assert refused.returncode != 0
        assert f"in use by process {os.getpid()}" in refused.stderr
        subprocess.run(command, check=True, timeout=60)

    def test_a_reader_needs_no_lock(self, path):
        with SqliteStore.open(path) as store, SqliteReader.open(path) as reader:
            fill(store, 2)
            (claimed,) = store.claim("ci", 60.0, 1, NOW)
            assert reader.delivery(claimed.delivery.id) == claimed.delivery
            store.finish(claimed.delivery.id, claimed.fence, DONE, NOW)
            assert [item.state for item in reader.deliveries(Wanted(), 9)] == [
                State.DONE,
                State.PENDING,
            ]
            assert reader.status() == store.status()
            assert reader.identity() == store.identity()


class TestReader:
    def test_without_a_store(self, path):
        with pytest.raises(StoreError, match="no such store") as caught:
            SqliteReader.open(path)
        assert caught.value.hint
        assert not path.exists()

    def test_cannot_write(self, path):
        SqliteStore.open(path).close()
        with SqliteReader.open(path) as reader, pytest.raises(sqlite3.OperationalError):
            reader._db.execute("DELETE FROM event")

    def test_after_the_daemon_has_ended(self, path):
        with SqliteStore.open(path) as store:
            fill(store, 1)
        with SqliteReader.open(path) as reader:
            assert reader.newest_event() == 1


class TestVersions:
    @pytest.mark.parametrize("old", range(1, migrate.VERSION + 1))
    def test_migrated_equals_fresh(self, path, tmp_path, old):
        # Given a database of an old version
        db = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
        db.executescript((SCHEMAS / f"{old}.sql").read_text())
        db.execute(f"PRAGMA user_version = {old}")
        # When it is migrated
        connection.update(db)
        # Then it cannot be told from a fresh one
        with SqliteStore.open(path) as store:
            assert shape(db) == shape(store._db)
        db.close()

    def test_decisions_of_before_are_kept(self, tmp_path):
        # Given a database of version 4 with a decision
        db = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
        db.executescript((SCHEMAS / "4.sql").read_text())
        db.execute("PRAGMA user_version = 4")
        db.execute("INSERT INTO relay VALUES ('hg1', 0)")
        db.execute(
            "INSERT INTO journal (journal, repo, relay, head, first_seen)"
            " VALUES ('j', 'app', 'hg1', 9, 0)"
        )
        db.execute(
            "INSERT INTO decision (at, who, verb, journal, sequence)"
            " VALUES (1, 'alice', 'admit', 'j', 7)"
        )
        # When it is migrated
        connection.update(db)
        # Then it is there, and the next one has the next number
        db.execute(
            "INSERT INTO decision (at, who, verb, journal, sequence)"
            " VALUES (2, 'bob', 'vouch', 'j', 9)"
        )
        rows = db.execute("SELECT number, who, verb, sequence FROM decision").fetchall()
        assert rows == [(1, "alice", "admit", 7), (2, "bob", "vouch", 9)]
        db.close()

    def test_deliveries_of_before_go_on(self, path):
        # Given a database of version 5 with a delivery of each kind, in lanes of their own
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript((SCHEMAS / "5.sql").read_text())
        db.execute("PRAGMA user_version = 5")
        db.execute("INSERT INTO store VALUES (1, 'me', 4000000000000000, 9)")
        db.execute(
            "INSERT INTO journal (journal, repo, relay, scanned, head, first_seen)"
            " VALUES ('j', 'app', 'hg1', 9, 9, 0)"
        )
        db.execute("INSERT INTO certificate VALUES ('c', x'00')")
        kinds = [
            ("done", None, None, 7.0),
            ("pending", 3, None, None),
            ("running", None, NOW + 60, None),
            ("retrying", None, NOW + 90, None),
            ("retrying", 4, None, None),
            ("held", None, None, None),
        ]
        for n, (state, turn, due, ended) in enumerate(kinds, 1):
            held = int(state == "held")
            db.execute(
                f"INSERT INTO event VALUES ({n}, 'j', {n}, 's{n}', 'app', 'b', 't', 'j/{n}', 'y',"
                f" 'x', 1, 1, x'00', x'00', 'c', 1.0, {held})"
            )
            db.execute("INSERT INTO lane VALUES (?, 'build', ?, ?, ?)", (n, f"key {n}", turn, due))
            db.execute(
                f"INSERT INTO delivery (number, id, lane, repo, branch, topic, journal, event_id,"
                f" first, last, created, state, attempts, fence, owner, claimed, ended) VALUES"
                f" ({n}, 'd{n}', {n}, 'app', 'b', 't', 'j', 'j/{n}', {n}, {n}, {n}, ?, 1, 5,"
                " 'ci', 1.0, ?)",
                (state, ended),
            )
            db.execute(
                f"INSERT INTO receipt VALUES ({n}, 4, 1, 'ci', 1, 2, 'x', '', 0, 0, x'', 0, 1)"
            )
        db.close()
        # When the daemon opens it
        with SqliteStore.open(path) as store:
            # Then each of them is where it was, and goes on
            found = store.deliveries(Wanted(), 9)
            assert [item.state.value for item in found] == [kind[0] for kind in kinds]
            assert [item.order_key for item in found] == [f"key {n}" for n in range(1, 7)]
            assert (found[2].lease_until, found[3].due) == (NOW + 60, NOW + 90)
            assert len(store.receipts("d1")) == 1
            assert store.certificate("c") == bytes(1)
            assert store.status().events == 6
            assert store.identity() == "me"
            claims = store.claim("ci", 60.0, 9, NOW)
            assert [claim.delivery.id for claim in claims] == ["d2", "d5"]
            assert claims[0].fence > 4_000_000_000_000_000
            assert store.next_due() == NOW + 60
            claims = store.claim("ci", 60.0, 9, NOW + 100)
            assert {claim.delivery.id for claim in claims} == {"d2", "d3", "d4", "d5"}
            assert store.release("j", "b", 9) == 1
            assert [claim.delivery.id for claim in store.claim("ci", 60.0, 9, NOW)] == ["d6"]

    def test_the_newest_schema_is_kept_for_later_versions(self):
        kept = (SCHEMAS / f"{migrate.VERSION}.sql").read_text()
        assert kept == migrate.text("schema.sql")

    def test_a_step_that_fails_leaves_the_old_form(self, path, monkeypatch):
        SqliteStore.open(path).close()
        monkeypatch.setattr(migrate, "VERSION", migrate.VERSION + 1)
        twice = "CREATE TABLE new (a INTEGER) STRICT;\nCREATE TABLE new (a);"
        broken = {f"migrate-{migrate.VERSION}.sql": twice}
        monkeypatch.setattr(migrate, "text", broken.__getitem__)
        with pytest.raises(StoreError):
            SqliteStore.open(path)
        db = sqlite3.connect(path)
        made, version = shape(db)
        db.close()
        assert version == (migrate.VERSION - 1,)
        assert "new" not in [row[1] for row in made]

    def test_a_step_is_taken_and_data_stays(self, path, monkeypatch):
        with SqliteStore.open(path) as store:
            fill(store, 1)
        monkeypatch.setattr(migrate, "VERSION", migrate.VERSION + 1)
        steps = {f"migrate-{migrate.VERSION}.sql": "CREATE TABLE new (a INTEGER) STRICT;"}
        monkeypatch.setattr(migrate, "text", steps.__getitem__)
        with pytest.raises(StoreError, match="older version"):
            SqliteReader.open(path)
        with SqliteStore.open(path) as store:
            assert "new" in [row[1] for row in shape(store._db)[0]]
            assert store.newest_event() == 1
        with SqliteReader.open(path) as reader:
            assert connection.version(reader._db) == migrate.VERSION

    @pytest.mark.parametrize("opened", [SqliteStore, SqliteReader])
    def test_a_newer_one_is_refused(self, path, opened):
        SqliteStore.open(path).close()
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(StoreError, match="version 99"):
            opened.open(path)


class TestErrors:
    def test_a_full_disk_loses_nothing_and_goes_on(self, path):
        with SqliteStore.open(path) as store:
            fill(store, 1)
            pages = store._db.execute("PRAGMA page_count").fetchone()[0]
            store._db.execute(f"PRAGMA max_page_count = {pages}")
            big = batch(2, 1, records=[record(2, body=bytes(100_000))], deliveries=[delivery(2)])
            with pytest.raises(StoreError, match="disk is full") as caught:
                store.accept(big)
            assert caught.value.file == str(path)
            assert "free some space" in caught.value.hint
            assert store.journals()[0].scanned == 1
            assert len(store.claim("ci", 1.0, 9, NOW)) == 1
            store._db.execute("PRAGMA max_page_count = 1000000")
            assert store.accept(big).new == 1

    def test_a_file_that_cannot_be_written(self, path):
        with SqliteStore.open(path) as store:
            store._db.execute("PRAGMA query_only = ON")
            with pytest.raises(StoreError, match="cannot be written") as caught:
                fill(store, 1)
            assert "mode" in caught.value.hint

    @pytest.mark.parametrize("opened", [SqliteStore, SqliteReader])
    def test_something_else_than_a_database(self, path, opened):
        path.write_bytes(b"not a database, but long enough to be looked at as one" * 20)
        with pytest.raises(StoreError, match="not a SQLite database") as caught:
            opened.open(path)
        assert caught.value.file == str(path)

    def test_a_damaged_database(self, path):
        with SqliteStore.open(path) as store:
            fill(store, 50)
        data = bytearray(path.read_bytes())
        data[4096:] = bytes(len(data) - 4096)
        path.write_bytes(data)
        with pytest.raises(StoreError, match="damaged") as caught, SqliteStore.open(path) as store:
            store.events(0, 10)
        assert f"{path} .recover" in caught.value.hint

    def test_a_store_of_another_user_is_named(self, open_folder):
        store = open_folder / "ci.db"
        SqliteStore.open(store).close()
        for file in open_folder.iterdir():
            file.chmod(0)

        with unprivileged() as user:
            with pytest.raises(StoreError) as writing:
                SqliteStore.open(store)
            with pytest.raises(StoreError) as reading:
                SqliteReader.open(store)

        assert f"may not be written by user {user}" in writing.value.reason
        assert "chown -R" in writing.value.hint
        assert f"{store} (" in reading.value.reason
        assert f"may not be read by user {user}" in reading.value.reason

    @pytest.mark.parametrize("name", ["ci.db", "ci.db.lock"])
    def test_a_store_of_this_user_that_is_read_only_needs_another_mode(self, open_folder, name):
        open_folder.chmod(0o777)
        store = open_folder / "ci.db"
        with unprivileged() as user:
            SqliteStore.open(store).close()
            (open_folder / name).chmod(0o444)
            with pytest.raises(StoreError) as caught:
                SqliteStore.open(store)

        assert f"may not be written by user {user}" in caught.value.reason
        assert caught.value.hint.endswith(f"writable: chmod u+w {open_folder / name}")

    def test_a_reader_that_may_not_enter_the_folder_is_told(self, open_folder):
        inner = open_folder / "inner"
        inner.mkdir()
        inner.chmod(0o700 if os.geteuid() == 0 else 0)

        with unprivileged(), pytest.raises(StoreError, match="may not be entered"):
            SqliteReader.open(inner / "ci.db")
        inner.chmod(0o755)

    def test_no_folder(self, tmp_path):
        with pytest.raises(StoreError, match="cannot be opened") as caught:
            SqliteStore.open(tmp_path / "none" / "ci.db")
        assert "folder" in caught.value.hint

    def test_a_folder_in_its_place(self, tmp_path):
        (tmp_path / "ci.db").mkdir()
        with pytest.raises(StoreError, match="cannot be opened"):
            SqliteStore.open(tmp_path / "ci.db")

    def test_another_writer_that_does_not_end(self, path):
        with SqliteStore.open(path) as store:
            store._db.execute("PRAGMA busy_timeout = 1")
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                fill(store, 1)
            other.close()
            fill(store, 1)

    def test_after_closing(self, path):
        store = SqliteStore.open(path)
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.status()

    def test_a_failed_opening_gives_the_lock_back(self, path):
        path.write_bytes(b"x" * 1000)
        with pytest.raises(StoreError):
            SqliteStore.open(path)
        path.unlink()
        SqliteStore.open(path).close()
