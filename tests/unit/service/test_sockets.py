import pytest
import zmq

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.zap import SUBSCRIBE
from hgext_zmqhooks.wire import keyfiles

SERVER = keyfiles.generate("server")


class TestTcp:
    def test_without_curve_it_is_refused(self, new):
        with pytest.raises(ServiceError, match="without CURVE would let anyone in"):
            sockets.bind_tcp(new(zmq.ROUTER), Endpoint.parse("tcp://127.0.0.1:5701"))

    def test_a_name_is_refused_because_resolving_may_hang(self, new):
        socket = new(zmq.ROUTER)
        sockets.curve_server(socket, SERVER, SUBSCRIBE)
        with pytest.raises(ServiceError, match="is not an address of this machine"):
            sockets.bind_tcp(socket, Endpoint.parse("tcp://localhost:5701"))

    def test_an_address_in_use_is_named(self, new):
        socket = new(zmq.ROUTER)
        sockets.curve_server(socket, SERVER, SUBSCRIBE)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        second = new(zmq.ROUTER)
        sockets.curve_server(second, SERVER, SUBSCRIBE)
        with pytest.raises(ServiceError, match=rf"127\.0\.0\.1:{port}: cannot be served"):
            sockets.bind_tcp(second, Endpoint.parse(f"tcp://127.0.0.1:{port}"))
