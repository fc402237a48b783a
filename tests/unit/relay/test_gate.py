"""Who may connect: the policy, with a clock of its own and a real keyring."""

import logging
import time
from pathlib import Path

import pytest
import relaykit
import zmq

from hgext_zmqhooks.relay import gate as module
from hgext_zmqhooks.relay.gate import Buckets, Gate
from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.relay.settings import RelaySettings
from hgext_zmqhooks.service.addresses import Network, parse_address
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.life import Throttle
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.service.zap import BROADCAST, PUBLISH, SUBSCRIBE, Answer
from hgext_zmqhooks.wire.keyring import Keyring

KEY = "k" * 40
LOCAL = "localhost:0:0:77"


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


class Bench:
    def __init__(self, allow=(), rate=50, readers=(), keyring=None, insecure=False):
        self.counters = Counters()
        self.clock, self.now = Clock(), Clock(time.time())
        throttle = Throttle(logging.getLogger("zmqhooks.relay"))
        settings = RelaySettings(
            key=Path(),
            trust=(),
            publish=Endpoint.parse("ipc:///x"),
            repositories=(),
            state=Path(),
            broadcast=Endpoint.parse("tcp://[::]:5702"),
            allow=tuple(map(Network.parse, allow)),
            broadcast_readers=tuple(readers),
            insecure=insecure,
            limits=Limits(handshakes=rate),
        )
        self.gate = Gate(
            settings,
            keyring or Keyring([]),
            self.counters,
            throttle,
            now=self.now,
            clock=self.clock,
        )

    def asks(self, address, *, domain=SUBSCRIBE, key=KEY):
        return self.gate(domain, key, address)


class TestAllow:
    @pytest.mark.parametrize("domain", [SUBSCRIBE, PUBLISH, BROADCAST])
    def test_only_the_networks_named_may_connect_over_tcp(self, domain, caplog):
        bench = Bench(["192.0.2.0/24", "2001:db8::/32"], insecure=True)

        assert bench.asks("192.0.2.9", domain=domain) is Answer.ADMIT
        assert bench.asks("::ffff:192.0.2.9", domain=domain) is Answer.ADMIT
        assert bench.asks("2001:db8::1", domain=domain) is Answer.ADMIT
        for stranger in ("192.0.3.9", "::ffff:192.0.3.9", "2001:db9::1", "::1"):
            assert bench.asks(stranger, domain=domain) is Answer.LATER
        assert bench.counters.get("refused", "address") == 4
        (line,) = caplog.records
        assert line.fields["address"] == "192.0.3.9"
        assert "not in the networks of `allow`" in line.fields["reason"]

    def test_without_it_every_address_may(self):
        assert Bench().asks("198.51.100.1") is Answer.ADMIT

    def test_ipc_is_not_asked(self):
        assert Bench(["192.0.2.0/24"]).asks(LOCAL) is Answer.ADMIT

    def test_an_address_that_is_none_admits_nobody(self):
        with pytest.raises(ValueError, match="appear"):
            Bench(["0.0.0.0/0"]).asks("nonsense")


class TestHandshakes:
    def test_so_many_in_a_second_and_then_as_time_goes(self):
        bench = Bench(rate=5)
        answers = [bench.asks("192.0.2.1") for _ in range(7)]
        assert answers == [Answer.ADMIT] * 5 + [Answer.LATER] * 2
        assert bench.counters.get("refused", "handshakes") == 2

        bench.clock.now += 0.4
        assert [bench.asks("192.0.2.1") for _ in range(3)] == [Answer.ADMIT] * 2 + [Answer.LATER]
        bench.clock.now += 60
        assert [bench.asks("192.0.2.1") for _ in range(6)].count(Answer.ADMIT) == 5

    def test_one_address_does_not_keep_another_out(self):
        bench = Bench(rate=1)
        assert bench.asks("192.0.2.1") is Answer.ADMIT
        assert bench.asks("192.0.2.1") is Answer.LATER
        assert bench.asks("192.0.2.2") is Answer.ADMIT

    def test_a_site_has_more_than_one_ipv6_address_and_no_more_handshakes(self):
        bench = Bench(rate=1)
        assert bench.asks("2001:db8::1") is Answer.ADMIT
        assert bench.asks("2001:db8::2") is Answer.LATER

    def test_ipc_is_not_counted(self):
        bench = Bench(rate=1)
        assert {bench.asks(LOCAL) for _ in range(9)} == {Answer.ADMIT}

    def test_memory_is_bounded_and_keeps_who_came_last(self, monkeypatch):
        monkeypatch.setattr(module, "REMEMBERED", 3)
        buckets = Buckets(1, Clock())
        for number in range(9):
            assert buckets.take(parse_address(f"192.0.2.{number}"))
        assert len(buckets) == 3
        assert not buckets.take(parse_address("192.0.2.8"))


class TestBroadcast:
    @pytest.fixture
    def keys(self):
        return relaykit.Keys()

    @pytest.fixture
    def bench(self, keys, tmp_path):
        """With one reader, whose key is keys.subscriber; its handler runs, and nobody asks it."""
        path = tmp_path / "reader.cert"
        path.write_bytes(keys.subscriber.certificate)
        bench = Bench(readers=[path], keyring=keys.keyring)
        with zmq.Context() as context:
            zap = bench.gate.open(context)
            yield bench
            zap.close()

    def asks(self, bench, key):
        return bench.asks("192.0.2.1", domain=BROADCAST, key=key.curve_public)

    def test_a_reader_is_admitted_and_nobody_else(self, bench, keys):
        other = keys.make("other", read=(relaykit.EVERYTHING,))

        assert self.asks(bench, keys.subscriber) is Answer.ADMIT
        assert self.asks(bench, other) is Answer.LATER
        assert bench.counters.get("refused", "not-a-reader") == 1
        assert bench.asks("192.0.2.1", key=other.curve_public) is Answer.ADMIT, "for a session"

    def test_with_insecure_it_needs_no_key_but_an_address_that_is_allowed(self):
        bench = Bench(["192.0.2.0/24"], insecure=True)
        assert bench.asks("192.0.2.1", domain=BROADCAST, key="") is Answer.ADMIT
        assert bench.asks("192.0.3.1", domain=BROADCAST, key="") is Answer.LATER

    def test_without_readers_and_without_insecure_nobody_is(self):
        assert Bench().asks("192.0.2.1", domain=BROADCAST, key="") is Answer.LATER

    def test_one_that_is_expired_may_come_again_and_its_end_is_noticed_once(self, bench, keys):
        assert not bench.gate.readers_ended()
        bench.now.now += 7200
        assert self.asks(bench, keys.subscriber) is Answer.LATER
        assert bench.counters.get("refused", "expired") == 1
        assert [bench.gate.readers_ended() for _ in range(2)] == [True, False]

    def test_one_that_is_revoked_need_not(self, bench, keys):
        keys.revoke("ci")
        assert self.asks(bench, keys.subscriber) is Answer.NEVER
        assert bench.counters.get("refused", "revoked") == 1
        assert bench.gate.readers_ended()
