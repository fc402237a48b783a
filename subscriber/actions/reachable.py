"""Where a redirect may lead: to the addresses of a name that are for everybody, and to no others.

A receiver that answers with a redirect chooses where we connect next. Without this it could make
us ask hosts that only we can reach: those of this machine, of our network, of a cloud's metadata.
What was looked up is what is connected to: a second look-up might say another thing.
"""

import ipaddress
import socket
from collections.abc import Iterator

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unreachable(OSError):  # noqa: N818 - a finding, read as a sentence
    """A name that has no address which may be connected to."""


def addresses(host: str, port: int, *, private: bool) -> list[str]:
    """What to connect to, in order; OSError where there is nothing.

    >>> addresses("127.0.0.1", 80, private=True)
    ['127.0.0.1']
    >>> addresses("127.0.0.1", 80, private=False)
    Traceback (most recent call last):
    ...
    subscriber.actions.reachable.Unreachable: 127.0.0.1 is a private address
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    seen = list(dict.fromkeys(str(place[0]) for *_, place in found))
    allowed = [each for each in seen if private or is_public(each)]
    if not allowed:
        raise Unreachable(f"{', '.join(seen)} is a private address")
    return allowed


def is_public(text: str) -> bool:
    """Whether an address is for everybody, and so are those that it carries within.

    >>> [is_public(each) for each in ("1.1.1.1", "10.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0")]
    [True, False, False, False]
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    return all(each.is_global and not each.is_multicast for each in _meant(address))


def _meant(address: Address) -> Iterator[Address]:
    """The address itself, unless it only wraps another one, which then is the one that is meant."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            yield inner
            return
    yield address
