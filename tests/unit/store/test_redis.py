"""The Redis store over what happens to servers and connections."""

import itertools
import threading
import time

import msgspec
import pytest
from storekit import DONE, JOURNAL, batch, delivery, fill, record
from support.tls import Authority, relay
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.service.redis_client import parse_address
from subscriber.store import redis_session
from subscriber.store.base import Accepted, State, StoreError, Wanted
from subscriber.store.redis import RedisReader, RedisStore
from subscriber.store.redis_session import library, revision

NOW = 5000.0


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "valkey", fsync="always") as made:
        yield made


@pytest.fixture
def store(server):
    with RedisStore.open(parse_address(server.url), "ci") as made:
        yield made


def one(store, sequence, position):
    """One event with one delivery."""
    return store.accept(
        batch(sequence, position, records=[record(sequence)], deliveries=[delivery(sequence)])
    )


class TestServer:
    def test_what_was_answered_survives_a_kill(self, server, store):
        done, position = [], None
        for killed_after in (1, 150, 300):
            killer = threading.Event()
            thread = threading.Thread(target=lambda: (killer.wait(), server.kill()))  # noqa: B023
            thread.start()
            try:
                for count in itertools.count():
                    if count == killed_after:
                        killer.set()
                    one(store, (position or 0) + 1, position)
                    position = (position or 0) + 1
                    (claimed,) = store.claim("x", 60.0, 1, store.now())
                    assert store.finish(claimed.delivery.id, claimed.fence, DONE, store.now())
                    done.append((claimed.delivery.id, claimed.fence))
            except StoreError as error:
                assert "reached" in error.reason  # noqa: PT017 - which step it hits is chance
            thread.join()
            server.start()
            (row,) = store.journals()
            # What was not answered may have been done, too.
            assert row.scanned - (position or 0) in (0, 1)
            position = row.scanned
            for claimed in store.claim("x", 60.0, 9, store.now() + 61):
                store.finish(claimed.delivery.id, claimed.fence, DONE, store.now())
                done.append((claimed.delivery.id, claimed.fence))
        assert store.newest_event() == position
        states = {item.id: item.state for item in store.deliveries(Wanted(), 1000)}
        assert {name: states[name] for name, _ in done} == {name: State.DONE for name, _ in done}
        fences = [fence for _, fence in done]
        assert fences == sorted(set(fences))

    def test_one_that_is_stopped_is_an_error_in_time_and_goes_on(self, server):
        store = RedisStore.open(parse_address(server.url), "ci", timeout=1.0)
        fill(store, 1)
        with server.frozen():
            started = time.monotonic()
            with pytest.raises(StoreError, match="does not answer") as caught:
                store.claim("x", 60.0, 1, store.now())
            assert time.monotonic() - started < 10
            assert caught.value.file == server.url
            assert caught.value.hint
        # The claim may have been done without an answer: then its lease ends.
        assert len(store.claim("x", 60.0, 1, store.now() + 61)) == 1
        store.close()

    def test_no_fence_goes_back_though_the_counter_is_lost(self, server, store):
        fill(store, 2)
        (first,) = store.claim("x", 60.0, 1, store.now())
        store.finish(first.delivery.id, first.fence, DONE, store.now())
        with server.client() as admin:
            counters = msgspec.msgpack.decode(admin.hget("{zmqhooks:ci}:store", "counters"))
            assert counters[0] == first.fence
            admin.hset(
                "{zmqhooks:ci}:store", "counters", msgspec.msgpack.encode([0, *counters[1:]])
            )
        # A caller that was stopped meanwhile has an old time.
        (second,) = store.claim("x", 60.0, 1, first.fence / 1e6 - 3600)
        assert second.fence > first.fence

    def test_one_whose_memory_is_full_takes_nothing_in_but_does_what_is_there(self, server, store):
        fill(store, 2)
        with server.client() as admin:
            admin.config_set("maxmemory", 1)
            with pytest.raises(StoreError, match="memory is full") as caught:
                one(store, 3, 2)
            assert "keep" in caught.value.hint
            (claimed,) = store.claim("x", 60.0, 1, store.now())
            assert store.extend(claimed.delivery.id, claimed.fence, 60.0, store.now())
            assert store.finish(claimed.delivery.id, claimed.fence, DONE, store.now())
            assert store.prune(store.now() + 1, 100) == 2
            assert store.status().deliveries[State.PENDING] == 1
            admin.config_set("maxmemory", 0)
        assert one(store, 3, 2) == Accepted(1, 0)

    def test_the_largest_batch_is_one_step(self, store):
        nodes = tuple(f"{n:040x}" for n in range(20_000))
        records = [record(1, nodes=nodes)]
        records += [record(n, branch=f"b{n}", body=b"e" * 4096 + b"%d" % n) for n in range(2, 1001)]
        items = [delivery(each.sequence, branch=each.branch) for each in records]
        assert store.accept(batch(1000, None, records=records, deliveries=items)).new == 1000
        claims = store.claim("x", 60.0, 1000, store.now())
        assert len({claimed.fence for claimed in claims}) == len(claims) == 1000
        assert [event.record for event in store.events(0, 1000)] == records
        for claimed in claims:
            assert store.finish(claimed.delivery.id, claimed.fence, DONE, store.now())
        assert store.prune(store.now() + 1, 5000) == 2000
        assert store.trace(nodes[7], 9) == []

    def test_an_emptied_server_is_another_store(self, server, store):
        fill(store, 2)
        with server.client() as admin:
            admin.flushall()
        for ask in (store.journals, store.status, lambda: one(store, 3, 2)):
            with pytest.raises(StoreError, match="another store") as caught:
                ask()
            assert "restart" in caught.value.hint
        with RedisStore.open(parse_address(server.url), "ci") as new:
            assert new.journals() == []
            with pytest.raises(StoreError, match=new.identity()):
                store.journals()

    def test_a_lane_with_much_held_is_looked_through_once_a_step(self, server, store):
        # Given a lane with 500 deliveries of held events, the newest of which takes their place
        lane, counts = {"order_key": "build:all", "latest": True}, []
        held = [record(sequence, held=True) for sequence in range(1, 501)]
        items = [delivery(sequence, **lane) for sequence in range(1, 501)]
        store.accept(batch(500, None, records=held, deliveries=items))
        # When 100 more are accepted, given up, redelivered, and the held ones released
        more = [record(sequence, branch="b") for sequence in range(501, 601)]
        items = [delivery(sequence, branch="b", **lane) for sequence in range(501, 601)]
        names = [item.id for item in items]
        with server.client() as admin:
            for step in (
                lambda: store.accept(batch(600, 500, records=more, deliveries=items)),
                lambda: store.bury(names, "given up", NOW),
                lambda: store.redeliver(names, NOW),
                lambda: store.release(JOURNAL, "default", 500),
            ):
                admin.config_resetstat()
                step()
                counts.append(admin.info("commandstats")["cmdstat_hget"]["calls"])
        # Then no step has looked at all of them again and again
        assert max(counts) < 5000, counts
        assert store.status().deliveries[State.PENDING] == 1

    def test_large_events_are_listed_in_several_answers(self, server, store):
        # Given 12 events of a megabyte each
        for sequence in range(1, 13):
            new = [record(sequence, body=bytes([sequence]) * 2**20)]
            store.accept(batch(sequence, sequence - 1 or None, records=new))
        # When all are listed
        with server.client() as admin:
            admin.config_resetstat()
            found = store.events(0, 1000)
            calls = admin.info("commandstats")["cmdstat_fcall_ro"]["calls"]
        # Then none is missing, and no answer had to hold all of them
        assert [each.record.event[0] for each in found] == list(range(1, 13))
        assert 3 <= calls <= 4
        assert [each.number for each in store.events(10, 1)] == [11]

    def test_a_lost_library_comes_back(self, server, store):
        with server.client() as admin:
            admin.function_flush()
        with pytest.raises(StoreError):
            store.journals()
        assert store.journals() == []

    def test_an_older_library_is_replaced_and_a_newer_one_stays(self, server):
        address, text = parse_address(server.url), library()
        with server.client() as admin:
            old = text.replace("local REVISION = 1", "local REVISION = 0")
            admin.function_load(old)
            RedisStore.open(address, "ci").close()
            assert loaded(admin) == text
            new = text.replace("local REVISION = 1", "local REVISION = 99")
            admin.function_load(new, replace=True)
            RedisStore.open(address, "ci").close()
            assert loaded(admin) == new
        assert (revision(old), revision(new)) == (0, 99)

    @pytest.mark.usefixtures("store")
    def test_a_newer_format_is_refused(self, server):
        with server.client() as admin:
            admin.hset("{zmqhooks:ci}:store", "format", 2)
        with pytest.raises(StoreError, match="format 2"):
            RedisStore.open(parse_address(server.url), "ci")


def loaded(admin):
    ((*_, code),) = admin.function_list(withcode=True)
    return code.decode()


class TestReader:
    def test_there_is_no_store_before_the_daemon_made_it(self, server):
        with pytest.raises(StoreError, match="no such store") as caught:
            RedisReader.open(parse_address(server.url), "ci")
        assert "daemon" in caught.value.hint

    def test_it_sees_what_the_daemon_writes_also_on_a_replica(self, tmp_path, server, store):
        fill(store, 3)
        with Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port)) as replica:

            def read():
                try:
                    with RedisReader.open(parse_address(replica.url), "ci") as reader:
                        return reader.identity(), reader.newest_event()
                except StoreError:
                    return None

            assert wait_for(read) == (store.identity(), 3)

    def test_a_closed_store_says_so(self, store):
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.journals()


class TestWays:
    def test_a_unix_socket(self, tmp_path):
        with (
            Server(tmp_path, unix=True) as server,
            RedisStore.open(parse_address(server.url), "ci") as store,
        ):
            assert one(store, 1, None) == Accepted(1, 0)

    def test_tls_with_our_own_authority_and_with_no_other(self, tmp_path, server):
        mine, other = Authority(tmp_path / "mine"), Authority(tmp_path / "other")
        with relay(server.port, mine) as port:
            url = f"rediss://127.0.0.1:{port}/0"
            with RedisStore.open(parse_address(url, ca=mine.path), "ci") as store:
                assert one(store, 1, None) == Accepted(1, 0)
            with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
                RedisStore.open(parse_address(url, ca=other.path), "ci")
            with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
                RedisStore.open(parse_address(url), "ci")

    def test_sentinel_finds_the_next_primary(self, tmp_path):
        with (
            Server(tmp_path / "a") as primary,
            Server(tmp_path / "b", "--replicaof", "127.0.0.1", str(primary.port)) as replica,
            Server.sentinel(tmp_path / "s", primary.port) as sentinel,
        ):
            address = parse_address(
                "redis://sentinel/0", sentinels=(f"127.0.0.1:{sentinel.port}",), service="ci"
            )
            with sentinel.client() as asked:
                # Given a sentinel that knows both servers, and an event that both have
                wait_for(lambda: asked.sentinel_slaves("ci"))
            with RedisStore.open(address, "ci", timeout=1.0) as store:
                one(store, 1, None)
                with primary.client() as admin:
                    assert wait_for(lambda: admin.wait(1, 1000))
                # When the primary is gone
                primary.kill()

                # Then the store goes on by itself on the other one
                def goes_on():
                    try:
                        return one(store, 2, 1)
                    except StoreError:
                        return None

                assert wait_for(goes_on) == Accepted(1, 0)
                assert store.event(JOURNAL, 1) is not None
            with replica.client() as admin:
                assert admin.info("replication")["role"] == "master"


class TestClock:
    def test_it_is_the_servers(self, server, store):
        with server.client() as admin:
            seconds, micros = admin.time()
        assert abs(store.now() - seconds - micros / 1e6) < 2

    def test_it_follows_a_clock_that_is_set_only_slowly(self, store, monkeypatch):
        session = store._session
        before = store.now()
        monkeypatch.setattr(
            session.clock, "_ask", lambda _: (0.0, before + 3600 - redis_session.ticks())
        )
        monkeypatch.setattr(redis_session, "MEASURE_SECONDS", 0.0)
        store.journals()
        assert 0 <= store.now() - before < 30

    def test_an_error_does_not_make_it_follow_a_clock_that_was_set(self, server, monkeypatch):
        # Given two daemons, one of which runs a delivery, and a server whose clock was set
        address = parse_address(server.url)
        with RedisStore.open(address, "ci") as store, RedisStore.open(address, "ci") as other:
            fill(store, 1)
            (claimed,) = store.claim("x", 60.0, 1, store.now())
            client = other._session._client
            real = client.time
            monkeypatch.setattr(client, "time", lambda: (real()[0] + 120, real()[1]))
            # When the other one meets an error
            with server.client() as admin:
                admin.function_flush()
            with pytest.raises(StoreError):
                other.journals()
            assert len(other.journals()) == 1
            # Then it does not take the lease for over
            assert other.claim("y", 60.0, 1, other.now()) == []
            assert store.delivery(claimed.delivery.id).owner == "x"

    def test_a_host_that_was_paused_follows_it_at_once(self, store, monkeypatch):
        # Given ticks that stood still for ten minutes, and a wall clock that was set right since
        real = redis_session.ticks
        monkeypatch.setattr(redis_session, "ticks", lambda: real() - 600)
        assert time.time() - store.now() > 500
        monkeypatch.setattr(redis_session, "MEASURE_SECONDS", -1000.0)
        store.journals()
        assert abs(store.now() - time.time()) < 2

    def test_a_server_that_began_anew_is_believed(self, server, store, monkeypatch):
        before = store.now()
        monkeypatch.setattr(
            store._session.clock, "_ask", lambda _: (0.0, before + 3600 - redis_session.ticks())
        )
        server.kill()
        with pytest.raises(StoreError):
            store.journals()
        server.start()
        store.journals()
        assert store.now() - before >= 3600
