"""The tray: who sends too much loses his place, and nobody else waits for him."""

import zmq

from hgext_zmqhooks.relay import intray
from hgext_zmqhooks.relay.intray import Intray
from hgext_zmqhooks.relay.peers import Address

A, B = Address(1, b"a"), Address(1, b"b")


def message(size: int = 1) -> list[zmq.Frame]:
    return [zmq.Frame(b"x" * size)]


def test_connections_take_turns_and_each_keeps_its_order() -> None:
    tray = Intray()
    first, second, other = message(), message(), message()
    for address, frames in ((A, first), (A, second), (B, other)):
        assert tray.put(address, frames, known=True)

    assert [tray.take() for _ in range(4)] == [(A, first), (B, other), (A, second), None]
    assert not tray


def test_a_session_has_a_share_and_a_stranger_a_smaller_one() -> None:
    tray = Intray()

    assert tray.put(A, message(intray.PEER_BYTES // 2), known=True)
    assert not tray.put(A, message(intray.PEER_BYTES // 2), known=True)
    assert not tray.put(B, message(intray.STRANGER_BYTES), known=False)
    assert tray.put(B, message(1000), known=False)


def test_all_strangers_together_have_a_share_that_they_give_back() -> None:
    tray = Intray()
    fit = intray.STRANGERS_BYTES // intray.STRANGER_BYTES
    large = intray.STRANGER_BYTES - intray.OVERHEAD
    for number in range(fit):
        assert tray.put(Address(1, b"%d" % number), message(large), known=False)
    assert not tray.put(A, message(), known=False)
    assert tray.put(B, message(), known=True)

    tray.take()
    tray.drop(Address(1, b"1"))
    tray.drop(Address(1, b"1"))

    assert tray.put(Address(1, b"x"), message(large), known=False)
    assert tray.put(Address(1, b"y"), message(large), known=False)
    assert not tray.put(Address(1, b"z"), message(), known=False)


def test_who_is_not_known_has_the_share_that_the_tray_gives() -> None:
    tray = Intray(each=3000, together=5000)

    assert tray.put(A, message(2000), known=False)
    assert not tray.put(A, message(2000), known=False), "its own share"
    assert tray.put(B, message(2000), known=False)
    assert not tray.put(Address(1, b"c"), message(2000), known=False), "that of all"
    assert tray.take() is not None
    assert tray.put(Address(1, b"c"), message(2000), known=False)
