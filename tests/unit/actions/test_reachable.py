"""Which addresses are for everybody, and which a redirect must not lead to."""

import pytest

from subscriber.actions.reachable import Unreachable, addresses, is_public


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"]
)
def test_is_for_everybody(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # of a carrier
        "169.254.169.254",  # what clouds tell their machines
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:c0a8:101::",
    ],
)
def test_is_not_for_everybody(address: str) -> None:
    assert not is_public(address)


def test_only_what_may_be_connected_to_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (each, 80)) for each in ("10.0.0.1", "1.1.1.1", "1.1.1.1", "::1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_more: found)

    assert addresses("mixed.test", 80, private=False) == ["1.1.1.1"]
    assert addresses("mixed.test", 80, private=True) == ["10.0.0.1", "1.1.1.1", "::1"]


def test_a_name_with_private_addresses_alone_leads_nowhere() -> None:
    with pytest.raises(Unreachable, match="is a private address"):
        addresses("localhost", 80, private=False)
