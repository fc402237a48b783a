"""What is said about a server's settings, and what the user with our rights may not do."""

import hashlib
import re
from importlib import resources

import pytest
import redis
from storekit import ValkeyBox, fill
from support.valkey import Server
from support.waiting import wait_for

from subscriber.store.base import StoreError
from subscriber.store.redis import RedisReader
from subscriber.store.redis_server import COMMANDS, acl_line, check_server
from subscriber.store.redis_session import FILES, PREFIX, library


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "primary", fsync="always") as made:
        yield made


@pytest.fixture
def admin(server):
    with server.client() as client:
        yield client


class TestCheck:
    def test_nothing_is_said_about_a_server_that_keeps_everything(self, admin):
        assert check_server(admin, "redis://x") == []

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("maxmemory-policy", "allkeys-lru"),
            ("appendonly", "no"),
            ("appendfsync", "no"),
            ("appendfsync", "everysec"),
        ],
    )
    def test_each_setting_that_may_lose_work_is_named(self, admin, setting, value):
        admin.config_set(setting, value)
        (warning,) = check_server(admin, "redis://x")
        assert warning.startswith(f"{setting} is {value}: ")
        assert f": set {setting} " in warning

    def test_a_replica_needs_min_replicas_and_cannot_be_the_store(self, tmp_path, server, admin):
        admin.config_set("appendfsync", "everysec")
        with (
            Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port)) as replica,
            replica.client() as other,
        ):
            wait_for(lambda: admin.info("replication")["connected_slaves"])
            (warning,) = check_server(admin, "redis://x")
            assert "set min-replicas-to-write 1" in warning
            admin.config_set("min-replicas-to-write", 1)
            assert check_server(admin, "redis://x") == []
            with pytest.raises(StoreError, match="replica") as caught:
                check_server(other, "redis://x")
            assert "sentinels" in caught.value.hint

    def test_an_old_server_is_refused(self, admin, monkeypatch):
        info = admin.info()
        monkeypatch.setattr(admin, "info", lambda: {**info, "redis_version": "6.2.14"})
        with pytest.raises(StoreError, match=r"6\.2\.14"):
            check_server(admin, "redis://x")

    def test_a_server_that_is_gone_is_an_error_of_the_store(self, server, admin):
        server.stop()
        with pytest.raises(StoreError, match="cannot be reached"):
            check_server(admin, "redis://x")


class TestRights:
    @pytest.fixture
    def box(self):
        made = ValkeyBox()
        yield made
        made.store.close()

    @pytest.fixture
    def client(self, box):
        with box.server.client(username=box.name, password="pass") as made:
            yield made

    def test_they_name_what_the_library_calls_and_nothing_else(self):
        folder = resources.files("subscriber.store")
        text = "".join(folder.joinpath(name).read_text() for name in FILES)
        called = re.findall(r"(?:call|many)\('([A-Z]+)'", text)
        assert {word.lower() for word in called} == set(COMMANDS)

    @pytest.mark.parametrize(
        "command",
        [
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("GET", "other"),
            ("HGET", "{zmqhooks:other}:store", "identity"),
            ("HSET", "other", "a", "b"),
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("EVAL", "return 1", "0"),
            ("FUNCTION", "LOAD", "REPLACE", "#!lua name=x"),
            ("FUNCTION", "DELETE", "zmqhooks1"),
            ("FUNCTION", "DUMP"),
            ("CONFIG", "GET", "*"),
            ("CONFIG", "SET", "dir", "/tmp"),
            ("ACL", "LIST"),
            ("CLIENT", "LIST"),
            ("SHUTDOWN",),
            ("REPLICAOF", "NO", "ONE"),
            ("DEL", "{zmqhooks:other}:store"),
            ("FCALL", PREFIX + "heard", "1", "{zmqhooks:other}", b"\x82\xa5relay\xa1x\xa3now\x01"),
        ],
        ids=lambda command: "-".join(map(str, command[:2])),
    )
    def test_all_else_is_refused(self, client, command):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)

    def test_our_user_can_check_the_server(self, client):
        # It may not read the configuration, so that nothing is said about appendfsync.
        assert check_server(client, "redis://x") == []

    def test_two_subscribers_do_not_see_each_other(self, box):
        fill(box.store, 3)
        other = ValkeyBox()
        try:
            assert other.store.newest_event() == 0
            assert other.store.identity() != box.store.identity()
        finally:
            other.store.close()

    def test_without_the_library_and_the_right_to_load_it_the_administrator_is_asked(self, box):
        with box.server.client() as admin:
            admin.function_delete("zmqhooks1")
            try:
                with pytest.raises(StoreError, match="may not load") as caught:
                    box.reopen()
                assert "init --library" in caught.value.hint
                with pytest.raises(StoreError, match="no such store"):
                    RedisReader.open(box.address, box.name)
            finally:
                admin.function_load(library(), replace=True)
        box.reopen()

    def test_a_password_is_changed_while_the_store_is_in_use(self, box):
        fill(box.store, 1)
        with box.server.client() as admin:
            sha256 = [hashlib.sha256(word).hexdigest() for word in (b"pass", b"next")]
            admin.execute_command("ACL", "SETUSER", box.name, f"#{sha256[1]}")
            box.address.credentials.write_text(f"{box.name}:next\n")
            admin.execute_command("ACL", "SETUSER", box.name, f"!{sha256[0]}")
            assert admin.execute_command("CLIENT", "KILL", "USER", box.name) >= 1
        assert box.store.newest_event() == 1

    def test_the_line_can_be_given_again_with_another_password(self, box):
        sha256 = hashlib.sha256(b"other").hexdigest()
        with box.server.client() as admin:
            admin.execute_command(acl_line(box.name, user=box.name, sha256=sha256))
        with (
            box.server.client(username=box.name, password="pass") as old,
            pytest.raises(redis.AuthenticationError),
        ):
            old.ping()
