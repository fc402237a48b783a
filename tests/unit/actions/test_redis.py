"""The redis action against a real server: the stream, the head, and what must not go back."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis
import wirekit
from actionskit import job, run
from signing import changeset, node
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.service.clock import boot_clock
from hgext_zmqhooks.wire import events
from hgext_zmqhooks.wire.values import Heads, Link, Move, Summary, Transaction
from subscriber.actions.base import LEASE_OVER, Cancel, Job, Kind, Verdict
from subscriber.actions.make import described, make, missing, refused
from subscriber.actions.place import Place
from subscriber.actions.redis import Redis
from subscriber.actions.redis_settings import RedisSettings, wrong_redis
from subscriber.engine import schedule

HEAD = "head:team/app:default"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def client(valkey: Server) -> Iterator[redis.Redis]:
    with valkey.client() as made:
        made.flushall()
        yield made


def said(url: str, **more: object) -> RedisSettings:
    value = {"url": url, "stream": "hg:{repo}", "head": "head:{repo}:{branch}", **more}
    found = msgspec.convert(value, RedisSettings, dec_hook=lambda kind, text: kind.parse(text))
    assert list(wrong_redis(found)) == []
    return found


def action(valkey: Server, folder: Path, **more: object) -> Redis:
    made = make(said(valkey.url, **more), Place(folder, folder / "runners"))
    assert isinstance(made, Redis)
    return made


def event(sequence: int = 1, tip: str | None = None, **more: object) -> bytes:
    """An event that says what the branch's newest head is."""
    heads = Heads(tip, int(tip is not None))
    before = Link(sequence - 1, "0" * 64) if sequence > 1 else None
    values = {"heads": heads, "sequence": sequence, "previous": before, **more}
    return events.encode(wirekit.event(**values))


def about(*lines: bytes, fence: int = 7, delivery: str = "d1", **more: object) -> Job:
    return job(*lines, fence=fence, delivery_id=delivery, repo="team/app", **more)


def head(client: redis.Redis) -> dict | None:
    found = client.get(HEAD)
    return json.loads(found) if found else None


def entries(client: redis.Redis) -> list[dict[bytes, bytes]]:
    return [entry for _, entry in client.xrange("hg:team/app")]


def test_an_event_stands_in_the_stream_as_it_is_and_tells_the_head(
    valkey: Server, client: redis.Redis, tmp_path: Path
) -> None:
    line = event(3, node(3), changesets=(changeset(3),))

    verdict = run(action(valkey, tmp_path), about(line))

    assert (verdict.kind, verdict.reason) == (Kind.DONE, "in the stream hg:team/app")
    assert entries(client) == [
        {
            b"id": f"{wirekit.JOURNAL}/3".encode(),
            b"delivery": b"d1",
            b"fence": b"7",
            b"topic": b"hg:team/app:default:",
            b"event": line,
        }
    ]
    assert head(client) == {
        "node": node(3),
        "repo": "team/app",
        "branch": "default",
        "journal": wirekit.JOURNAL,
        "sequence": 3,
        "delivery": "d1",
        "fence": 7,
    }
    assert 29 * 86400 < client.ttl(HEAD) <= 30 * 86400


def test_each_part_is_an_entry(valkey: Server, client: redis.Redis, tmp_path: Path) -> None:
    parts = [
        event(at, node(9), transaction=Transaction("t1", "serve", None, at, 2)) for at in (1, 2)
    ]

    run(action(valkey, tmp_path), about(*parts))

    assert [entry[b"event"] for entry in entries(client)] == parts
    assert head(client)["sequence"] == 2


def test_without_a_head_there_is_the_stream_alone(
    valkey: Server, client: redis.Redis, tmp_path: Path
) -> None:
    run(action(valkey, tmp_path, head=None), about(event(1, node(1))))

    assert client.keys() == [b"hg:team/app"]


def test_the_stream_is_cut_and_the_head_expires(
    valkey: Server, client: redis.Redis, tmp_path: Path
) -> None:
    made = action(valkey, tmp_path, maxlen=100, ttl="2s")

    for at in range(1, 401):
        run(made, about(event(at, node(at)), fence=at, delivery=f"d{at}"))

    assert 100 <= len(entries(client)) < 300  # in whole pieces of the server
    assert entries(client)[-1][b"delivery"] == b"d400"
    assert 0 < client.pttl(HEAD) <= 2000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"heads": Heads(None, 0)}, None),
        ({"heads": None, "summary": Summary(node(5), (node(5),), 9)}, node(5)),
        ({"heads": None, "bookmarks": (Move("@", None, node(5)),)}, node(1)),
    ],
)
def test_the_head_is_what_the_event_tells(
    valkey: Server, client: redis.Redis, tmp_path: Path, *, changes: dict, expected: str | None
) -> None:
    made = action(valkey, tmp_path)
    run(made, about(event(1, node(1)), fence=1))

    run(made, about(event(2, **changes), fence=2, delivery="d2"))

    assert head(client)["node"] == expected


def test_keys_of_two_branches_are_never_the_same(
    valkey: Server, client: redis.Redis, tmp_path: Path
) -> None:
    made = action(valkey, tmp_path, stream="s:{branch}:{user}", head=None)

    run(made, about(event(1), branch="a:b", user="c"))
    run(made, about(event(1), branch="a", user="b:c"))
    run(made, about(event(1), branch="a", user=None))

    assert sorted(client.keys()) == [b"s:a%3Ab:c", b"s:a:", b"s:a:b%3Ac"]


class TestStale:
    def test_an_attempt_with_a_lower_fence_does_not_set_the_head_back(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made = action(valkey, tmp_path)
        run(made, about(event(2, node(2)), fence=9, delivery="d2"))

        verdict = run(made, about(event(3, node(1)), fence=8))

        assert verdict.reason == "in the stream hg:team/app; the head is newer"
        assert head(client)["node"] == node(2)
        assert len(entries(client)) == 2

    def test_an_older_event_that_is_delivered_again_does_not_either(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made = action(valkey, tmp_path)
        run(made, about(event(2, node(2)), fence=8, delivery="d2"))

        run(made, about(event(1, node(1)), fence=9))

        assert head(client)["node"] == node(2)

    def test_a_new_journal_begins_anew(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made = action(valkey, tmp_path)
        run(made, about(event(5, node(5)), fence=8, delivery="d5"))

        run(made, about(event(1, node(6), journal="f" * 32), fence=9))

        assert head(client)["node"] == node(6)

    def test_an_attempt_that_another_one_of_its_delivery_overtook_writes_nothing(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made = action(valkey, tmp_path)
        run(made, about(event(1, node(1)), fence=9))

        verdict = run(made, about(event(1, node(1)), fence=8))

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
        assert len(entries(client)) == 1

    @pytest.mark.parametrize("value", [b"abc", b"[1]", b'{"fence": "x", "sequence": null}'])
    def test_what_is_no_head_of_ours_is_replaced(
        self, valkey: Server, client: redis.Redis, tmp_path: Path, value: bytes
    ) -> None:
        client.set(HEAD, value)

        run(action(valkey, tmp_path), about(event(1, node(1))))

        assert head(client)["node"] == node(1)

    def test_many_at_once_leave_the_newest_head(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made, verdicts = action(valkey, tmp_path), []

        def one(at: int) -> None:
            while True:
                what = about(event(at, node(at)), fence=at, delivery=f"d{at}")
                verdicts.append(run(made, what))
                if verdicts[-1].kind is Kind.DONE:
                    return

        threads = [threading.Thread(target=one, args=(at,)) for at in range(1, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert head(client)["node"] == node(24)
        assert len(entries(client)) == 24
        assert {v.kind for v in verdicts if not v.interrupted} == {Kind.DONE}


class TestTrouble:
    def test_a_server_that_is_gone_is_waited_for(self, tmp_path: Path) -> None:
        with Server(tmp_path / "server") as server:
            made = action(server, tmp_path)
            server.kill()
            gone = run(made, about(event(1, node(1))))
            server.start()
            back = run(made, about(event(1, node(1))))

        assert (gone.kind, gone.patient, gone.interrupted) == (Kind.RETRY, True, False)
        assert "cannot be reached" in gone.reason
        assert back.kind is Kind.DONE

    def test_a_server_that_is_silent_is_not_waited_for_long(self, tmp_path: Path) -> None:
        with Server(tmp_path / "server") as server:
            made = action(server, tmp_path)
            run(made, about(event(1, node(1))))
            with server.frozen():
                verdict = run(made, about(event(2, node(2)), fence=8))

        assert (verdict.kind, verdict.patient) == (Kind.RETRY, True)
        assert "does not answer" in verdict.reason

    def test_a_key_of_another_kind_is_a_failure(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        client.set("hg:team/app", "x")

        verdict = run(action(valkey, tmp_path), about(event(1, node(1))))

        assert (verdict.kind, verdict.patient, verdict.interrupted) == (Kind.RETRY, False, False)
        assert "WRONGTYPE" in verdict.reason
        finish = schedule.decide(verdict, schedule.Past(), schedule.DEFAULT, 0.0, 0.0)
        assert finish.retry_at == 1.0

    def test_a_user_with_few_rights_is_enough_and_its_password_is_read_again(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        commands = ["+multi", "+exec", "+watch", "+unwatch", "+get", "+set", "+xadd", "+client"]
        rights = ["reset", "on", "~hg:*", "~head:*", *commands]
        client.execute_command("ACL", "SETUSER", "hooks", *rights, ">one")
        file = tmp_path / "user"
        file.touch(0o600)
        file.write_text("hooks:wrong\n")
        made = action(valkey, tmp_path, credentials="user")

        refused_ = run(made, about(event(1, node(1))))
        file.write_text("hooks:one\n")
        good = run(made, about(event(1, node(1))))
        client.execute_command("ACL", "SETUSER", "hooks", "-xadd")
        denied = run(made, about(event(2, node(2)), fence=8))
        client.execute_command("ACL", "DELUSER", "hooks")

        assert (refused_.kind, refused_.patient) == (Kind.RETRY, True)
        assert "user or password" in refused_.reason
        assert "wrong" not in refused_.reason.replace("WRONGPASS", "")
        assert good.kind is Kind.DONE
        assert (denied.kind, denied.patient) == (Kind.RETRY, False)

    def test_others_who_change_the_head_all_the_time_are_waited_for(
        self,
        valkey: Server,
        client: redis.Redis,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from subscriber.actions import redis as module

        def read(value: object) -> dict:
            client.set(HEAD, "x")
            return {}

        monkeypatch.setattr(module, "_read", read)

        verdict = run(action(valkey, tmp_path), about(event(1, node(1))))

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
        assert entries(client) == []


class TestEnding:
    def ended(self, made: Redis, change) -> Verdict:
        with Cancel() as cancel:
            change(cancel)
            return made.run(about(event(1, node(1))), cancel)

    def test_cancelled_it_writes_nothing(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        verdict = self.ended(action(valkey, tmp_path), lambda cancel: cancel.set("enough"))

        assert (verdict.interrupted, verdict.reason) == (True, "stopped: enough")
        assert client.keys() == []

    def test_after_its_lease_it_writes_nothing(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        made = action(valkey, tmp_path)

        verdict = self.ended(made, lambda cancel: cancel.until(boot_clock() - 1))

        assert (verdict.interrupted, verdict.reason) == (True, LEASE_OVER)
        assert client.keys() == []

    def test_after_its_time_it_writes_nothing(
        self, valkey: Server, client: redis.Redis, tmp_path: Path
    ) -> None:
        verdict = run(action(valkey, tmp_path), about(event(1, node(1)), timeout=0.0))

        assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
        assert verdict.reason == "the time limit of 0 s was reached"
        assert client.keys() == []


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        ({"url": "http://x"}, "url", "valid are"),
        ({"url": "redis://me:s3cret@x/0"}, "url", "names a user or a password"),
        ({"ca": "ca.pem"}, "url", "TLS only"),
        ({"ca": ""}, "ca", "not a path"),
        ({"credentials": "a\0"}, "credentials", "not a path"),
        ({"stream": ""}, "stream", "name of a key"),
        ({"stream": "{event}"}, "stream", "in a body only"),
        ({"head": "head:{brunch}"}, "head", "is no value"),
        ({"maxlen": 0}, "maxlen", "at least 1"),
        ({"ttl": "0s"}, "ttl", "not between"),
        ({"ttl": "4000d"}, "ttl", "not between"),
    ],
)
def test_what_is_wrong_in_itself_is_named(value: dict[str, object], key: str, reason: str) -> None:
    given = {"url": "redis://localhost", "stream": "hg", **value}
    made = msgspec.convert(given, RedisSettings, dec_hook=lambda kind, text: kind.parse(text))

    (wrong,) = wrong_redis(made)

    assert (wrong[0], reason in wrong[2]) == (key, True), wrong
    assert wrong[3]
    assert not any("s3cret" in str(part) for part in wrong)


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hgext_zmqhooks.service.redis_client", None)

    (wrong,) = wrong_redis(RedisSettings(url="redis://localhost", stream="hg"))

    assert (wrong[0], wrong[3]) == ("url", "pip install 'hg-zmqhooks[redis]'")


def test_what_is_missing_now_is_named(tmp_path: Path) -> None:
    given = said("rediss://localhost", credentials="user", ca="ca.pem")
    place = Place(tmp_path, tmp_path / "runners")

    found = [wrong[0] for wrong in missing("redis", given, place)]

    assert found == ["redis.credentials", "redis.ca"]

    (tmp_path / "user").write_text("zmqhooks")
    (tmp_path / "user").chmod(0o600)
    malformed = said("redis://localhost", credentials="user")
    ((key, _, reason, hint),) = missing("redis", malformed, place)
    assert (key, hint) == ("redis.credentials", "write one line, user:password")
    assert "holds no user and password" in reason
    assert list(refused("redis", given)) == []
    assert described(given, place) == "stream hg:{repo} at rediss://localhost"


def test_its_connections_end_with_it(valkey: Server, client: redis.Redis, tmp_path: Path) -> None:
    made = action(valkey, tmp_path)
    run(made, about(event(1, node(1))))
    ours = [each for each in client.client_list() if each["name"] == "zmqhooks-action"]

    assert len(ours) == 1
    made._clients[0].close()
    wait_for(
        lambda: not [each for each in client.client_list() if each["name"] == "zmqhooks-action"]
    )
