import ipaddress

import pytest

from hgext_zmqhooks.service.addresses import Network, parse_address, site


class TestNetwork:
    @pytest.mark.parametrize(
        ("network", "inside", "outside"),
        [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "::ffff:192.0.2.7", "::ffff:192.0.3.7"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("fe80::/10", "fe80::1%eth0", "192.0.2.7"),
            ("0.0.0.0/0", "192.0.2.7", "2001:db8::1"),
            ("::/0", "2001:db8::1", "192.0.2.7"),
        ],
    )
    def test_what_it_holds(self, network, inside, outside):
        assert Network.parse(network).holds(parse_address(inside))
        assert not Network.parse(network).holds(parse_address(outside))

    @pytest.mark.parametrize(
        "text", ["", "localhost", "192.0.2.1/24", "192.0.2.0/33", "::ffff:192.0.2.0/120", 3, None]
    )
    def test_what_is_none(self, text):
        with pytest.raises(ValueError, match=r"."):
            Network.parse(text)


class TestAddress:
    def test_peers_of_an_ipc_socket_have_none(self):
        assert parse_address("localhost:1000:1000:4711") is None
        assert parse_address(":1000:1000:4711") is None

    @pytest.mark.parametrize("text", ["", "localhost", "192.0.2.7:80", "x:1:2", "1:2:3"])
    def test_what_is_neither_raises(self, text):
        with pytest.raises(ValueError, match=r"."):
            parse_address(text)

    def test_an_ipv6_network_of_64_bits_is_one_site(self):
        here = [site(parse_address(f"2001:db8:0:7::{n}")) for n in (1, 2)]
        assert here[0] == here[1] != site(parse_address("2001:db8:0:8::1"))
        assert site(parse_address("::ffff:192.0.2.7")) == ipaddress.ip_address("192.0.2.7")
