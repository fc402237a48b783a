"""Addresses of peers, and the networks that an operator allows.

A socket that serves IPv4 and IPv6 shows the IPv4 peer 192.0.2.7 as ::ffff:192.0.2.7; both are the
same address here.
"""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

IPV6_SITE = 64
"""Bits of an IPv6 address that tell one site from another; the rest a site gives away freely."""

_DIGITS = re.compile(r"[0-9a-fA-F.:]+(/[0-9]+)?\Z")
_LOCAL = re.compile(r"[^:]*:\d+:\d+:\d+")


class Network(str):
    """A network such as 192.0.2.0/24 or 2001:db8::/32, or one address; a type for settings.

    >>> Network.parse("192.0.2.0/24").holds(parse_address("::ffff:192.0.2.7"))
    True
    >>> Network.parse("192.0.2.7/24")
    Traceback (most recent call last):
    ...
    ValueError: 192.0.2.7/24 has host bits set
    """

    __slots__ = ("_network",)

    _network: ipaddress.IPv4Network | ipaddress.IPv6Network

    @classmethod
    def parse(cls, text: object) -> "Network":
        """The network; ValueError says what is wrong with it."""
        if not isinstance(text, str) or not _DIGITS.match(text):
            raise ValueError("not a network such as 192.0.2.0/24 or 2001:db8::/32")
        network = cls(text)
        found = ipaddress.ip_network(text)
        if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped:
            raise ValueError(f"{text} is IPv4 written as IPv6: write it as IPv4")
        network._network = found
        return network

    def holds(self, address: Address) -> bool:
        """Whether the address is one of it."""
        return address in self._network


def parse_address(text: str) -> Address | None:
    """The address of a peer as libzmq tells it; None for one on this machine's ipc sockets.

    >>> parse_address("::ffff:127.0.0.1"), parse_address("fe80::1%eth0")
    (IPv4Address('127.0.0.1'), IPv6Address('fe80::1'))
    >>> parse_address("localhost:1000:1000:4711")
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        if _LOCAL.fullmatch(text):
            return None
        raise
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def site(address: Address) -> Address:
    """What stands for all addresses that one peer may use at will: an IPv6 /64 counts as one.

    >>> str(site(parse_address("2001:db8::1:2:3:4"))), str(site(parse_address("192.0.2.7")))
    ('2001:db8::', '192.0.2.7')
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    hidden = 128 - IPV6_SITE
    return ipaddress.IPv6Address(int(address) >> hidden << hidden)
