"""Packets between two hosts are lost, late, doubled and in another order; all arrives, in order.

Two real network namespaces with a link of ours (fault/packets.py), where the system lets us make
them. What a proxy can do without any right is in test_bad_link.py and runs everywhere.
"""

import json
from collections.abc import Callable, Iterator

import pytest
from fault import packets
from fault.far import BRANCHES, Far, configure
from support.daemons import Daemon
from support.site import BIN, Site

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

PORT = 5701
"""In namespaces of their own no port is taken."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.made() as made:
        yield made


class Link:
    """The link, which is cut while its process stands still."""

    def __init__(self, site: Site) -> None:
        words = ("--loss", "0.05", "--late", "0.03", "--doubled", "0.02")
        self._site = site
        self._process = site.start("link", str(BIN / "python"), packets.__file__, *words)
        line = self._process.first_output()
        if not line and self._process.process.wait() == packets.NOT_ALLOWED:
            pytest.skip(self._process.said())
        self._ends: dict[str, str] = json.loads(line)
        self.cut, self.mend = self._process.freeze, self._process.thaw

    def start(self, end: str, command: str, words: str) -> Daemon:
        """A daemon of ours behind one end, when it says `words`."""
        enter = ("nsenter", f"--net={self._ends[end]}")
        name = {"relay": "relay.yml", "subscriber": "ci.yml"}[end]
        daemon = self._site.start(end, *enter, command, "--config", name)
        daemon.wait_line(words)
        return daemon

    def close(self) -> dict[str, int]:
        """What happened to the packets."""
        self._process.terminate()
        return dict(json.loads(self._process.first_output()))


def test_packets_are_lost_late_doubled_and_the_link_is_cut(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    # Given relay and subscriber on two hosts with a bad link between them
    link = Link(site)
    address = f"tcp://{packets.RELAY}:{PORT}"
    configure(site, address, address)
    app = site.repository("team/app")
    app.build(3, BRANCHES)
    relay = link.start("relay", "zmq-relay", "relay serves")
    subscriber = link.start("subscriber", "zmq-subscriber", "daemon: ready")
    far = Far(site, app)
    # When there are pushes, the link is cut until a session ends, and there are more of them
    far.commit()
    link.cut()
    subscriber.wait_line("no session with the relay", deadline=90)
    far.commit()
    link.mend()
    # Then all arrives, in order, and nobody had to be started again
    far.complete()
    assert [relay.process.poll(), subscriber.process.poll()] == [None, None]
    for daemon in (subscriber, relay):
        daemon.end()
    count = link.close()
    record_property("row", {"table": "Packets on a bad link", **count})
    assert min(count[what] for what in ("lost", "overtaking", "doubled")) > 10
