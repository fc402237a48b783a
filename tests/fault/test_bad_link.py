"""Between subscriber and relay the link is slow, lossy, cut, stalled; everything arrives, in order.

Real hg, zmq-relay on a tcp endpoint with CURVE, and zmq-subscriber, with fault/proxy.py between.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fault.far import BRANCHES, Far, configure
from fault.proxy import DOWN, UP, Proxy
from support.daemons import Daemon
from support.site import Site
from support.waiting import wait_for

pytestmark = pytest.mark.long

HOUR = 360
"""Transactions of an hour with a push every ten seconds."""


@dataclass
class Place(Far):
    proxy: Proxy
    subscriber: Daemon


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def place() -> Iterator[Place]:
    with Site.made() as site:
        port = free_port()
        with Proxy(("127.0.0.1", port)) as proxy:
            configure(site, f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{proxy.port}")
            app = site.repository("team/app")
            app.build(3, BRANCHES)
            site.relay()
            subscriber = site.subscriber()
            site.wait_runs(3)
            yield Place(site, app, proxy, subscriber)
            for daemon in site.daemons:
                daemon.end()


def test_a_slow_link(place: Place) -> None:
    place.proxy.delay = 0.02
    place.commit()
    place.complete()
    assert place.proxy.count["delayed"] > 20


def test_bytes_vanish(place: Place) -> None:
    # What CURVE finds damaged it does not deliver; the session ends at the latest by silence
    place.proxy.loss = 0.3
    place.commit()
    place.subscriber.wait_line("no session with the relay")
    place.proxy.loss = 0.0
    place.complete()
    assert place.proxy.count["lost"]


def test_the_link_is_cut_again_and_again(place: Place) -> None:
    for _ in range(5):
        wait_for(lambda: place.proxy.count["cut"] or place.site.runs(), "a session")
        place.proxy.cut()
        place.app.build(3, BRANCHES, "--single")
        place.proxy.mend()
    place.commit()
    place.complete()
    assert place.proxy.count["cut"] >= 2
    assert place.subscriber.lines("no session with the relay")


@pytest.mark.timeout(300)
def test_an_hour_of_pushes_is_made_up_for_without_a_restart(place: Place) -> None:
    # Given a subscriber that has no link while a push comes every ten seconds for an hour
    place.proxy.cut()
    place.subscriber.wait_line("no session with the relay")
    place.app.build(HOUR, BRANCHES, "--single")
    # When the link is back, then the same process gets them all, in order
    place.proxy.mend()
    place.complete()
    assert place.subscriber.process.poll() is None
    assert len(place.site.runs()) == HOUR + 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("direction", [UP, DOWN])
def test_one_direction_stands_still(place: Place, direction: str) -> None:
    # Then who hears nothing gives the session up, and a new one brings what was missed
    place.proxy.stall(direction)
    place.commit()
    place.subscriber.wait_line("no session with the relay", deadline=60)
    place.proxy.go_on()
    place.complete()
    assert place.proxy.count["stalled"]


def test_connections_come_in_another_order(place: Place) -> None:
    # When two connections are held until a later one has been served
    place.proxy.hold(2)
    place.proxy.cut()
    place.proxy.mend()
    place.commit()
    place.complete()
    assert place.proxy.count["held"] == 2


@pytest.mark.timeout(300)
def test_everything_at_once(place: Place) -> None:
    trouble: list[Callable[[], object]] = [
        place.proxy.cut,
        place.proxy.mend,
        lambda: place.proxy.hold(1),
        lambda: place.proxy.stall(DOWN),
        place.proxy.go_on,
        place.proxy.cut,
        place.proxy.mend,
    ]
    place.proxy.delay, place.proxy.loss = 0.01, 0.02
    for make in trouble:
        make()
        place.app.build(4, BRANCHES, "--single")
    place.proxy.delay = place.proxy.loss = 0.0
    place.commit()
    place.complete()
