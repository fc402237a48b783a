import pytest

from hgext_zmqhooks.service.endpoints import Endpoint, check_endpoint
from hgext_zmqhooks.service.errors import ServiceError


class TestEndpoint:
    def test_parts(self):
        assert Endpoint.parse("ipc:///run/x").path == "/run/x"
        tcp = Endpoint.parse("tcp://hg1.example.com:5701")
        assert (tcp.transport, tcp.host, tcp.port) == ("tcp", "hg1.example.com", 5701)
        assert tcp == "tcp://hg1.example.com:5701"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ipc://",
            "ipc://relative",
            "ipc:///dir/",
            "ipc:///" + "x" * 107,
            "ipc:///a\0b",
            "tcp://host",
            "tcp://host:0",
            "tcp://host:65536",
            "tcp://:1",
            "tcp://host:\uff11",
            "udp://x:1",
            "inproc://x",
            None,
            3,
        ],
    )
    def test_what_is_none(self, text):
        with pytest.raises(ValueError, match=r"."):
            Endpoint.parse(text)
        if isinstance(text, str):
            with pytest.raises(ServiceError):
                check_endpoint(text)
