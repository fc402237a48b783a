"""How an address is read, what a client does, and what its errors mean: against a real server."""

import pytest
import redis
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.service.redis_client import (
    AddressError,
    RedisUrl,
    connect,
    explain,
    host_port,
    parse_address,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("valkey")) as made:
        yield made


def credentials(path, line):
    path.write_text(line)
    path.chmod(0o600)
    return path


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("redis://db", ("db", 6379, "", 0, False)),
            ("redis://db:1/", ("db", 1, "", 0, False)),
            ("rediss://[::1]:7/3", ("::1", 7, "", 3, True)),
            ("unix:///run/a%20b", ("", 0, "/run/a b", 0, False)),
            ("unix:///run/v@2.sock?db=2", ("", 0, "/run/v@2.sock", 2, False)),
        ],
    )
    def test_its_parts(self, text, parts):
        url = RedisUrl.parse(text)
        assert (url.host, url.port, url.path, url.db, url.tls) == parts
        assert str(parse_address(text)) == text

    @pytest.mark.parametrize(
        "text",
        [
            *("db", "http://db", "redis://", "redis://db:0", "redis://db:65536", "redis://db:x"),
            *("redis://db/x", "redis://db/-1", "redis://db/0/1", "redis://db?db=1", "redis://db#1"),
            *("redis://[::1", "redis://a b", f"redis://db/{2**31}", "unix://run/x", "unix:x"),
            *("unix:///x?a=1", "unix:///x?db=y", 5, None),
        ],
    )
    def test_what_is_no_address(self, text):
        with pytest.raises(ValueError, match=r"redis|unix|host|IPv6"):
            RedisUrl.parse(text)

    @pytest.mark.parametrize(
        "text",
        [
            *("redis://:geheim@db/0", "rediss://ci:geheim@db", "redis://geheim@db"),
            *("redis://:/geheim?@db", "redis://:x@geheim@db", "unix://ci:geheim@/run/v.sock"),
            *("redis://:a/geheim@db/0", "redis://:a#geheim@db", "redis://:a?geheim@db"),
            *("unix:///s.sock?password=geheim", "redis://db/0?password=geheim"),
        ],
    )
    def test_a_password_in_it_is_refused_and_not_repeated(self, text):
        with pytest.raises(AddressError, match="credentials") as caught:
            parse_address(text)
        assert "geheim" not in str(caught.value)

    def test_a_password_of_a_sentinel_is_not_repeated(self):
        with pytest.raises(AddressError, match="'s:7' is not host") as caught:
            parse_address("redis://any/1", sentinels=("ci:geheim@s:7",), service="ci")
        assert "geheim" not in str(caught.value)

    def test_a_socket_may_have_any_path(self):
        assert RedisUrl.parse("unix:///run/a@b/s.sock").path == "/run/a@b/s.sock"

    def test_sentinels_have_their_port(self):
        address = parse_address("redis://any/1", sentinels=("a", "b:7"), service="ci")
        assert address.sentinels == (("a", 26379), ("b", 7))
        assert str(address) == "redis://any/1 (primary of ci)"

    @pytest.mark.parametrize(
        ("url", "more"),
        [
            ("redis://db", {"sentinels": ("a",)}),
            ("redis://db", {"service": "ci"}),
            ("unix:///x", {"sentinels": ("a",), "service": "ci"}),
            ("redis://db", {"sentinels": ("a b",), "service": "ci"}),
            ("redis://db", {"ca": "ca.pem"}),
        ],
    )
    def test_what_does_not_go_together(self, url, more):
        with pytest.raises(AddressError):
            parse_address(url, **more)

    def test_a_host_may_have_a_default_port(self):
        assert host_port("db", 5) == ("db", 5)
        with pytest.raises(ValueError, match="host"):
            host_port("", 5)


class TestClient:
    def test_it_has_a_name_and_the_database(self, server):
        address = parse_address(server.url[:-1] + "3")
        with connect(address, name="zmqhooks ci/1 ü") as client:
            client.set("k", b"\xff")
            assert client.get("k") == b"\xff"
            assert client.client_getname() in ("zmqhooks_ci/1__", b"zmqhooks_ci/1__")
        with server.client(db=3) as admin:
            assert admin.get("k") == b"\xff"

    def test_a_unix_socket(self, tmp_path):
        with (
            Server(tmp_path, unix=True) as server,
            connect(parse_address(server.url), name="x") as client,
        ):
            assert client.ping()

    def test_a_lost_connection_is_one_error_and_then_another_connection(self, tmp_path):
        with Server(tmp_path) as server, connect(parse_address(server.url), name="x") as client:
            client.set("k", 1)
            server.kill()
            with pytest.raises(redis.ConnectionError) as caught:
                client.get("k")
            assert explain(caught.value)[0].startswith("it cannot be reached")
            server.start()
            assert client.get("k") == b"1"

    def test_a_server_that_is_stopped_is_given_up(self, tmp_path):
        with (
            Server(tmp_path) as server,
            connect(parse_address(server.url), name="x", timeout=0.3) as client,
        ):
            client.incr("k")
            with server.frozen(), pytest.raises(redis.TimeoutError) as caught:
                client.incr("k")
            assert explain(caught.value)[0].startswith("it does not answer")
            # Once, or never: it is not repeated.
            assert int(wait_for(lambda: client.get("k"))) <= 2


class TestCredentials:
    @pytest.fixture
    def admin(self, server):
        with server.client() as client:
            yield client
            client.acl_deluser("ci")

    def user(self, admin, *passwords):
        rules = [">" + password for password in passwords]
        admin.execute_command("ACL", "SETUSER", "ci", "reset", "on", *rules, "~*", "+@all")

    def test_they_are_read_again_at_each_connect(self, server, admin, tmp_path):
        # Given a client that is connected with one of two passwords
        self.user(admin, "one", "two")
        path = credentials(tmp_path / "c", "ci:one\n")
        with connect(parse_address(server.url, credentials=path), name="x") as client:
            assert client.acl_whoami() in ("ci", b"ci")
            # When the file has the other one, and the first is taken away
            credentials(path, "ci:two\n")
            admin.execute_command("ACL", "SETUSER", "ci", "<one")
            admin.execute_command("CLIENT", "KILL", "USER", "ci")
            # Then it goes on
            assert client.acl_whoami() in ("ci", b"ci")

    def test_a_refused_password_says_so(self, server, admin, tmp_path):
        self.user(admin, "one")
        path = credentials(tmp_path / "c", "ci:other")
        with connect(parse_address(server.url, credentials=path), name="x") as client:
            with pytest.raises(redis.AuthenticationError) as caught:
                client.ping()
            reason, hint = explain(caught.value)
            assert "refuses" in reason
            assert "credentials" in hint
            assert "other" not in reason

    @pytest.mark.parametrize(("line", "mode"), [("ci", 0o600), ("ci:one", 0o644)])
    def test_a_file_that_cannot_be_used_says_so(self, server, tmp_path, line, mode):
        path = credentials(tmp_path / "c", line)
        path.chmod(mode)
        with connect(parse_address(server.url, credentials=path), name="x") as client:
            for _ in range(2):
                with pytest.raises(redis.AuthenticationError) as caught:
                    client.ping()
                reason, hint = explain(caught.value)
                assert reason.startswith(str(path))
                assert hint
            credentials(path, "default:any")
            assert client.ping()

    def test_the_default_user_needs_no_name(self, tmp_path):
        path = credentials(tmp_path / "c", ":pass:word")
        with (
            Server(tmp_path / "v", "--requirepass", "pass:word") as server,
            connect(parse_address(server.url, credentials=path), name="x") as client,
        ):
            assert client.ping()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "replicas"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), "disk"),
        (redis.ReadOnlyError("You can't write against a read only replica."), "replica"),
        (redis.exceptions.OutOfMemoryError("command not allowed"), "memory"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "may not"),
        (redis.ResponseError("ERR strange"), "failed"),
    ],
)
def test_errors_have_a_meaning(error, words):
    assert words in explain(error)[0]
