"""Whoever has a key that counts no more may write any time into an event, and a relay may help.

What counts is when the subscriber saw it first. The relay is liar.py, which serves what it is told
to; the subscriber is a real one.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fault.liar import Liar
from relaykit import EVERYTHING
from signing import Journal
from subscriberkit import Site, site
from support.daemons import Daemon

from hgext_zmqhooks.wire import revocations
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.revocations import Revoked

JOURNAL = "1" * 32
HOUR = 3600


class Scene:
    """A subscriber that has seen one event of `thief`, and a relay that helps the thief."""

    def __init__(self, here: Site, liar: Liar, thief: SecretKey) -> None:
        self.site, self.liar, self.thief = here, liar, thief
        self.journal = Journal(here.keys.publisher, "app", JOURNAL)
        self.served = liar.serve("app", JOURNAL)
        (here.folder / "relay.cert").write_bytes(here.keys.relay.certificate or b"")
        peer = {"address": liar.address, "certificate": "relay.cert"}
        self.revoke()
        here.configure(relay=None, relays=[peer], revocations=["root.crl"])

    def start(self) -> Daemon:
        liar, publisher = self.liar, self.site.keys.publisher
        liar.tell(self.served, [self.journal.record()], publisher)
        daemon = self.site.start()
        self.site.wait_runs(1)
        return daemon

    def revoke(self, *entries: Revoked) -> None:
        """The root's list now."""
        now, root = int(time.time()), self.site.keys.root
        fresh = self.site.folder / "root.crl.new"
        fresh.write_bytes(revocations.issue(root, 1 + len(entries), entries, now))
        fresh.replace(self.site.folder / "root.crl")

    def backdate(self) -> None:
        """An event that the thief signs now, with a time when the certificate was good."""
        past = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - HOUR))
        record = self.journal.record(signer=self.thief, time=past)
        self.liar.tell(self.served, [record], self.thief)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_an_event_under_an_expired_key_is_held_whatever_time_it_tells(stack: ExitStack) -> None:
    # Given a key whose certificate was good an hour ago, and ended a minute ago
    here = stack.enter_context(site())
    liar = stack.enter_context(Liar(here.keys.relay))
    old = here.keys.make("publisher", publish=(EVERYTHING,), nbf=-2 * HOUR, lasts=-60)
    scene = Scene(here, liar, old)
    daemon = scene.start()
    # When an event comes that claims to be an hour old
    scene.backdate()
    # Then it is kept and nothing is done for it
    daemon.wait_line("event held", "repo=app", "sequence=2")
    held = [row for row in here.rows("status") if row["kind"] == "held"]
    assert [(row["branch"], row["first"], row["count"]) for row in held] == [("default", 2, 1)]
    assert len(here.runs()) == 1


def test_an_event_under_a_revoked_key_is_refused_whatever_time_it_tells(stack: ExitStack) -> None:
    # Given a key that was good until now, and is revoked while the daemon runs
    here = stack.enter_context(site())
    liar = stack.enter_context(Liar(here.keys.relay))
    stolen = here.keys.make("stolen", publish=(EVERYTHING,), nbf=-2 * HOUR)
    scene = Scene(here, liar, stolen)
    daemon = scene.start()
    scene.revoke(Revoked(int(time.time()), jti="jti-stolen"))
    daemon.wait_line("watch: taken up", "what=trust ")
    # When an event comes that claims to be older than that
    scene.backdate()
    # Then it is not stored, and its journal stops before it
    daemon.wait_line("journal stopped", "kind=revoked", "sequence=2")
    assert here.sql("SELECT sequence FROM event") == [(1,)]
    assert len(here.runs()) == 1
