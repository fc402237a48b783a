"""A socket that takes up another key, and the address that is not free at once."""

import logging

import pytest
import zmq
from relaykit import Keys

from hgext_zmqhooks.relay.renewal import Renewal
from hgext_zmqhooks.service import ipc, sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, Throttle
from hgext_zmqhooks.service.zap import SUBSCRIBE
from hgext_zmqhooks.wire import keyfiles


class Bench:
    """A CURVE server; `refuse` times its address cannot be bound."""

    def __init__(self, tmp_path):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.old, self.new = keyfiles.generate("old"), Keys().relay
        sockets.curve_server(self.socket, self.old, SUBSCRIBE)
        self.endpoint = Endpoint.parse(f"ipc://{tmp_path}/s")
        self.refuse = 0
        throttle = Throttle(logging.getLogger(f"{ROOT}.relay"))
        self.tick = 0.0
        self.renewal = Renewal(self.old, self.bind, throttle, lambda: self.tick)

    def bind(self, socket, endpoint):
        if self.refuse:
            self.refuse -= 1
            raise ServiceError(f"{endpoint}: cannot be served: in use")
        socket.bind(endpoint)

    def close(self):
        self.context.destroy(linger=0)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_key_is_taken_once_and_only_if_it_is_another_one(bench):
    assert not bench.renewal.offer(bench.old)
    assert bench.renewal.take() is None
    assert bench.renewal.offer(bench.new)
    assert not bench.renewal.offer(bench.new)
    assert bench.renewal.take() == bench.new
    assert bench.renewal.take() is None


def test_who_offers_wakes_who_waits(bench):
    poller = zmq.Poller()
    poller.register(bench.renewal.bell.fileno(), zmq.POLLIN)
    assert not poller.poll(0)
    bench.renewal.offer(bench.new)
    assert poller.poll(0)
    bench.renewal.take()
    assert not poller.poll(0)


def test_an_address_that_cannot_be_bound_at_first_is_refused_at_the_start(bench):
    bench.refuse = 1
    with pytest.raises(ServiceError, match="in use"):
        bench.renewal.serve(bench.socket, bench.endpoint)


def test_an_address_that_is_not_free_again_is_tried_until_it_is(bench, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger(ROOT), "propagate", True)
    bench.renewal.serve(bench.socket, bench.endpoint, announce=True)
    bench.renewal.offer(bench.new)
    assert bench.renewal.take() == bench.new

    bench.refuse = 3
    bench.renewal.leave()
    bench.renewal.leave()  # nothing is left to unbind
    for bench.tick in (0.0, 1.0, 1.1):
        assert not caplog.records
        bench.renewal.come_back()
        assert bench.renewal.waits
    bench.renewal.come_back()

    # Then it is served, and whoever waited for a second was told
    assert not bench.renewal.waits
    assert [record.message for record in caplog.records] == ["not served any more; trying again"]
    # and who reads the certificate beside it gets the new one
    assert ipc.read_certificate(bench.endpoint) == bench.new.certificate
