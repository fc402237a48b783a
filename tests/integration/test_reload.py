"""Keys, roots and revocation lists that change under running daemons: real processes, real files.

The whole rotation of everything while events flow is in test_rotation.
"""

import os
import signal
import socket
import time

import pytest
import yaml
from support.daemons import Daemon, log_fields
from support.site import Repository, Site, rule
from support.waiting import wait_for

from hgext_zmqhooks.journal.follow import Follower
from hgext_zmqhooks.wire import certificates

pytestmark = pytest.mark.timeout(200)

SOON = 15.0
"""Seconds in which a change must have its effect, on a machine that is busy."""


def revoke(site: Site, *words: str) -> None:
    """Make keys/root.crl, or extend it."""
    site.command("zmq-keys", "revoke", "--root", "keys/root.key", *words, "--out", "keys/root.crl")


def rotate(site: Site, name: str, *words: str, root: str = "keys/root.key") -> None:
    """New keys under the same name, in place."""
    site.command("zmq-keys", "rotate", f"keys/{name}.key", "--root", root, *words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def signers(repository: Repository) -> list[str]:
    """The ids of the certificates of all journalled events, in order."""
    follower = Follower(repository.store)
    follower.poll()
    records = follower.read(follower.journals()[-1].journal, after=0)
    return [certificates.decode(record.certificate).jti for record in records]


def taken_up(daemon: Daemon, what: str) -> None:
    daemon.wait_line("watch: taken up", f"what={what} ")


class TestRevocation:
    def test_the_session_of_a_revoked_subscriber_ends_within_seconds(self, site: Site) -> None:
        # Given two subscribers of one relay
        revoke(site)
        site.configure_relay(revocations=["keys/root.crl"])
        site.issue("other", "--read", "hg:**:**:")
        relay = site.relay()
        there = [site.endpoint("subscribe")]
        for name, key in (("ci", "keys/subscriber.key"), ("other", "keys/other.key")):
            site.configure(name, relays=there, key=key, rules=[rule(name)])
        revoked, other = site.subscriber("ci"), site.subscriber("other")
        app = site.repository("team/app")
        app.commit()
        site.wait_runs(2)
        # When one of them is revoked
        begin = time.monotonic()
        revoke(site, "--name", "ci")
        # Then its session ends, both sides say why, and it gets nothing more
        line = revoked.wait_line("no session with the relay", "revoked", deadline=SOON)
        assert time.monotonic() - begin < SOON
        assert "the certificate" in log_fields(line)["reason"]
        relay.wait_line("session ended", "subscriber=ci", "was revoked")
        app.commit()
        assert len(site.wait_runs(2, "other")) == 2
        assert len(site.runs("ci")) == 1
        assert not other.lines("no session")
        assert (revoked.process.poll(), relay.process.poll()) == (None, None)

    def test_what_a_revoked_publisher_signs_is_refused_everywhere_from_then_on(
        self, site: Site
    ) -> None:
        # Given a relay inside that also broadcasts
        revoke(site)
        site.configure(
            relay={"broadcast": site.endpoint("broadcast")}, revocations=["keys/root.crl"]
        )
        daemon = site.subscriber()
        app = site.repository("team/app")
        app.commit()
        site.wait_settled(1)
        # When its publisher is revoked, and pushes go on
        revoke(site, "--name", "ci-publisher")
        taken_up(daemon, "trust")
        taken_up(daemon, "relay.trust")
        app.commit()
        # Then the push succeeded, and nobody takes the event
        daemon.wait_line("relay: live copy refused", "kind=live-revoked")
        daemon.wait_line("journalled event not broadcast", "kind=broadcast-revoked")
        daemon.wait_line("intake: journal stopped", "kind=revoked", "sequence=2")
        assert len(site.runs()) == 1
        # and when a new key signs, and a person has looked at the one event, all goes on
        rotate(site, "publisher")
        app.commit()
        journal = next(row["journal"] for row in site.status() if row["kind"] == "journal")
        site.ask("ci", "accept", "team/app", "--journal", journal)
        site.wait_runs(3)


class TestTrust:
    def test_a_file_that_cannot_be_used_leaves_the_old_in_force(self, site: Site) -> None:
        site.configure()
        daemon = site.subscriber()
        app = site.repository("team/app")
        root = site.folder / "keys" / "root.pub"
        good = root.read_bytes()
        # When the roots' file becomes something else
        root.write_bytes(b"nothing")
        # Then the log says which file, why and what to do, once; and events flow
        line = daemon.wait_line("ERROR", "not taken up", "what=trust")
        said = log_fields(line)
        assert str(root) in said["reason"]
        assert "not the PEM" in said["reason"]
        assert "zmq-keys" in said["hint"]
        app.commit()
        site.wait_runs(1)
        # At a hangup it is tried again, with the same end
        os.kill(daemon.pid, signal.SIGHUP)
        wait_for(lambda: len(daemon.lines("not taken up", "what=trust ")) == 2, "the second try")
        # and when it is good again nothing has changed
        root.write_bytes(good)
        app.commit()
        site.wait_runs(2)
        assert not daemon.lines("taken up what=")
        assert daemon.terminate() == 0

    def test_a_journal_under_an_unknown_root_goes_on_when_that_one_is_trusted(
        self, site: Site
    ) -> None:
        # Given a publisher that changes to another root
        site.configure()
        daemon = site.subscriber()
        app = site.repository("team/app")
        app.commit()
        site.wait_runs(1)
        site.command("zmq-keys", "root", "--out", "keys/second.key")
        rotate(site, "publisher", "--old-root", "keys/root.pub", root="keys/second.key")
        app.commit()
        daemon.wait_line("journal stopped", "kind=unknown-root")
        # When its root is written below the first one
        with (site.folder / "keys" / "root.pub").open("ab") as stream:
            stream.write((site.folder / "keys" / "second.pub").read_bytes())
        # Then the event is taken, at once
        begin = time.monotonic()
        site.wait_runs(2)
        assert time.monotonic() - begin < SOON

    def test_a_root_that_is_taken_away_takes_along_who_stood_under_it(self, site: Site) -> None:
        # Given a relay and a subscriber under the same root
        site.configure_relay()
        relay = site.relay()
        site.configure(relays=[site.endpoint("subscribe")])
        daemon = site.subscriber()
        app = site.repository("team/app")
        app.commit()
        site.wait_runs(1)
        # When another one takes its place
        root = site.folder / "keys" / "root.pub"
        good = root.read_bytes()
        site.command("zmq-keys", "root", "--out", "keys/second.key")
        site.command("cp", "keys/second.pub", "keys/root.pub")
        # Then both say that their own keys do not count, and the session ends
        for each in (relay, daemon):
            each.wait_line("WARNING", "our own certificate does not count any more", "key=key")
        daemon.wait_line("no session with the relay", "not among the trusted ones")
        # and when it is back, at a hangup, all goes on in the same processes
        app.commit()
        root.write_bytes(good)
        for each in (relay, daemon):
            os.kill(each.pid, signal.SIGHUP)
            each.wait_line("reading keys, roots and revocation lists again")
        site.wait_runs(2)
        assert (relay.terminate(), daemon.terminate()) == (0, 0)


class TestOwnKey:
    def test_a_subscriber_with_another_key_may_read_what_that_one_may(self, site: Site) -> None:
        # Given a subscriber that may read one branch, and events of two
        site.issue("narrow", "--read", "hg:**:default:")
        site.issue("wide", "--read", "hg:**:**:")
        key = site.folder / "keys" / "narrow.key"
        site.configure("narrow", key="keys/narrow.key", rules=[rule("build")])
        daemon = site.subscriber("narrow")
        app = site.repository("team/app")
        app.build(2, "default,stable")
        assert [run.branch for run in site.wait_runs(1)] == ["default"]
        # When it gets a key of the same name for everything
        site.command(
            *("zmq-keys", "issue", "--root", "keys/root.key", "--name", "narrow"),
            *("--read", "hg:**:**:", "--out", "keys/new.key"),
        )
        (site.folder / "keys" / "new.key").replace(key)
        taken_up(daemon, "key")
        # Then it reads the other branch too, from now on, and the first without a gap
        app.build(2, "default,stable")
        runs = site.wait_runs(3)
        assert sorted(run.branch for run in runs[1:]) == ["default", "stable"]
        assert not daemon.lines("journal stopped")
        assert not daemon.lines("no session with the relay")

    def test_a_rule_that_may_read_nothing_any_more_is_told_of(self, site: Site) -> None:
        site.issue("narrow", "--read", "hg:other/**:**:")
        site.configure("narrow", key="keys/here.key", rules=[rule("build", "hg:team/**:**:")])
        site.command(
            *("zmq-keys", "issue", "--root", "keys/root.key", "--name", "narrow"),
            *("--read", "hg:**:**:", "--out", "keys/here.key"),
        )
        daemon = site.subscriber("narrow")
        site.command("cp", "keys/narrow.key", "keys/here.key")
        taken_up(daemon, "key")
        daemon.wait_line("WARNING", "a rule never runs", "rule=build")

    def test_a_key_of_another_name_is_not_taken_up(self, site: Site) -> None:
        site.configure()
        site.issue("stranger", "--read", "hg:**:**:")
        daemon = site.subscriber()
        site.command("cp", "keys/stranger.key", "keys/subscriber.key")
        line = daemon.wait_line("ERROR", "not taken up", "what=key")
        assert "is that of 'stranger'" in line
        app = site.repository("team/app")
        app.commit()
        site.wait_runs(1)

    def test_a_web_server_signs_with_a_new_key_from_its_next_transaction_on(
        self, site: Site
    ) -> None:
        # Given one hg serve that has signed
        site.configure()
        site.subscriber()
        app = site.repository("team/app")
        client = site.clone(app, site.web(app))
        client.build(1)
        client.hg("push")
        # When the key is replaced, by the command and by a copy over it, and pushes go on
        for how in ("rotate", "copy"):
            if how == "rotate":
                rotate(site, "publisher")
            else:
                site.issue("next", "--publish", "hg:**:**:")
                site.command("cp", "keys/next.key", "keys/publisher.key")
            client.build(1)
            client.hg("push")
        # Then the same process signed each with the key of that moment
        assert len(set(signers(app))) == 3
        assert [run.place[1] for run in site.wait_runs(3)] == [1, 2, 3]

    def test_a_relay_known_by_an_old_certificate_says_so(self, site: Site) -> None:
        # Given a relay over tcp, whose certificate was copied to the subscriber
        port = free_port()
        site.configure_relay(subscribe=[f"tcp://127.0.0.1:{port}"])
        relay = site.relay()
        site.command("cp", "keys/relay.cert", "pinned.cert")
        peer = {"address": f"tcp://127.0.0.1:{port}", "certificate": "pinned.cert"}
        site.configure(relays=["tcp://replaced"])
        document = yaml.safe_load((site.folder / "ci.yml").read_text())
        site.write("ci.yml", document | {"relays": [peer]})
        daemon = site.subscriber()
        app = site.repository("team/app")
        app.commit()
        site.wait_runs(1)
        # When the relay has a new key
        rotate(site, "relay")
        taken_up(relay, "key")
        # Then log and status say what to do
        line = daemon.wait_line("no session with the relay", "may have been renewed")
        assert "pinned.cert" in line
        app.commit()
        row = next(row for row in site.status() if row["kind"] == "relay")
        assert "copy its new N.cert to" in row["error"]
        # and when it is done all goes on, at once
        site.command("cp", "keys/relay.cert", "pinned.cert")
        taken_up(daemon, "relays[0].certificate")
        site.wait_runs(2)
        assert not relay.lines("ERROR")
