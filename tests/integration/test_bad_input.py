"""What is not what it claims is refused, counted and logged a little; honest traffic goes on."""

from collections import defaultdict
from datetime import datetime
from itertools import pairwise

import pytest
from support import attacks
from support.daemons import Daemon, log_fields, tallied
from support.site import Repository, Site, rule
from support.waiting import wait_for

from hgext_zmqhooks.wire import messages
from hgext_zmqhooks.wire.session import Bye, SessionRefused

COPIES = 40
"""Bad live copies of each kind."""

ROOM = 100 << 20
"""Bytes by which a flood may enlarge a daemon."""


@pytest.fixture
def app(site: Site) -> Repository:
    """A repository with one event, of which the script has run; its relay serves all endpoints."""
    site.configure(
        relay={
            "subscribe": [site.endpoint("subscribe")],
            "broadcast": site.endpoint("broadcast"),
        }
    )
    site.subscriber()
    repository = site.repository("team/app")
    repository.build(1)
    site.wait_runs(1)
    return repository


def daemon_of(site: Site) -> Daemon:
    return site.daemons[-1]


def goes_on(app: Repository) -> None:
    """A commit is confirmed by the relay, and its script runs."""
    before = len(app.site.runs())
    ran = app.build(1, "default", "--debug", "--config", "zmqhooks.live-timeout=9000")
    assert "live copy confirmed: 1 of 1" in ran.out
    assert app.site.wait_runs(before + 1)[-1].nodes == app.nodes("--rev", "tip")


def counted(daemon: Daemon, kind: str, count: int) -> None:
    """The log tells of exactly so many refusals of a kind."""
    wait_for(lambda: tallied(daemon.lines("WARNING"))[kind] >= count, f"{count} of {kind}")
    assert tallied(daemon.lines("WARNING"))[kind] == count


def assert_quiet(daemon: Daemon) -> None:
    """No kind was logged more than once in a second."""
    times: dict[str, list[float]] = defaultdict(list)
    for line in daemon.lines(" kind="):
        when = datetime.fromisoformat(line.split()[0])
        times[log_fields(line)["kind"]].append(when.timestamp())
    for kind, found in times.items():
        gaps = [after - before for before, after in pairwise(found)]
        # The clock of the throttle and that of the log are not the same.
        assert min(gaps, default=1) > 0.95, f"{kind} was logged {len(found)} times: {gaps}"


class TestLiveCopies:
    def test_forged_altered_and_broken_copies(self, site: Site, app: Repository) -> None:
        # Given an honest copy, and what a stranger, a broken peer or a thief makes of it
        (honest,) = attacks.journalled(app)
        topic, event, signature, certificate = honest.frames()
        site.command("zmq-keys", "quickstart", "keys/other", "--name", "other")
        site.issue("narrow", "--publish", "hg:other/**:*:")
        stranger = attacks.load_key(site, "other/publisher")
        bad = {
            "bad-signature": [
                [topic, attacks.flipped(event), signature, certificate],
                [topic, event, attacks.flipped(signature, 5), certificate],
            ],
            "wrong-topic": [[b"hg:team/app:stable:", event, signature, certificate]],
            "unknown-root": [attacks.signed(event, stranger).frames()],
            "not-allowed": [attacks.signed(event, attacks.load_key(site, "narrow")).frames()],
            "malformed-event": [
                attacks.signed(b'{"id":', attacks.load_key(site, "publisher")).frames()
            ],
            "bad-certificate": [[topic, event, signature, attacks.flipped(certificate, 40)]],
            "bad-frames": [[topic, event, signature], [*honest.frames(), b""], [topic]],
        }
        daemon = daemon_of(site)
        # When each is sent many times
        with attacks.publisher(site.endpoint("publish")) as own:
            for frames in [one for several in bad.values() for one in several]:
                for _ in range(COPIES):
                    own.send_multipart(frames)
            # Then none is answered, and a commit meanwhile is
            goes_on(app)
            (answer,) = [own.recv() for _ in range(1) if own.poll(0)] or [b""]
            assert answer[:1] in (b"", b"A"), "only the honest commit was answered"
            assert not own.poll(0)
        # and each was refused for what it is, and counted
        for kind, several in bad.items():
            counted(daemon, f"live-{kind}", COPIES * len(several))
        assert_quiet(daemon)
        # and nothing of it was stored
        assert [row["events"] for row in site.status() if row["kind"] == "status"] == [2]
        assert len(site.runs()) == 2

    def test_a_signed_copy_of_what_no_journal_has_is_only_a_hint(
        self, site: Site, app: Repository
    ) -> None:
        (honest,) = attacks.journalled(app)
        made_up = honest.event.replace(b"team/app", b"team/new")
        with attacks.publisher(site.endpoint("publish")) as own:
            copy = attacks.signed(made_up, attacks.load_key(site, "publisher"))
            own.send_multipart(copy.frames())
            assert own.poll(10_000), "it is answered, since its signer may"
        goes_on(app)
        assert {run.repo for run in site.runs()} == {"team/app"}


class TestSessions:
    def test_who_may_not_follow_is_told_why(self, site: Site, app: Repository) -> None:
        site.command("zmq-keys", "quickstart", "keys/other", "--name", "other")
        ours, stranger = (attacks.load_key(site, n) for n in ("subscriber", "other/subscriber"))
        expired = attacks.issue_for_the_past(site, "expired")
        publisher = attacks.load_key(site, "publisher")
        daemon = daemon_of(site)
        good = attacks.hello(ours)
        tries = [
            ("expired", expired, attacks.hello(expired)),
            ("unknown-root", stranger, attacks.hello(stranger)),
            ("not-allowed", publisher, attacks.hello(publisher)),
            ("wrong-name", ours, attacks.hello(ours, name="somebody")),
            ("wrong-key", stranger, good),
            ("other-store", ours, good),
            ("bad-version", ours, [b"zmqhooks/9", *good[1:]]),
            ("bad-frames", ours, good[:2]),
            ("bad-frames", ours, [*good, b""]),
            ("bad-message", ours, [*good[:2], b"[" * 5000, b""]),
            ("out-of-turn", ours, messages.encode(Bye("hello", number=1))),
        ]
        for kind, key, frames in tries:
            with attacks.dealer(site, site.endpoint("subscribe"), key) as own:
                own.send_multipart(frames)
                answer = messages.decode(own.recv_multipart())
                assert isinstance(answer, SessionRefused), kind
                assert answer.kind == kind, answer
        for kind, _key, _frames in tries:
            counted(daemon, f"session-{kind}", [one[0] for one in tries].count(kind))
        assert_quiet(daemon)
        goes_on(app)

    def test_without_curve_nobody_is_heard(self, site: Site, app: Repository) -> None:
        import zmq

        with zmq.Context() as context, context.socket(zmq.DEALER) as own:
            own.linger = 0
            own.connect(site.endpoint("subscribe"))
            own.send_multipart(attacks.hello(attacks.load_key(site, "subscriber")))
            goes_on(app)
            assert not own.poll(0)
        assert daemon_of(site).lines("subscriber refused") == []


class TestFloods:
    @pytest.mark.parametrize("name", ["publish", "subscribe", "broadcast"])
    def test_100_megabytes_of_noise(self, site: Site, app: Repository, name: str) -> None:
        daemon = daemon_of(site)
        before = daemon.memory()
        attacks.flood_raw(str(site.folder / "run" / name))
        goes_on(app)
        assert daemon.memory() - before < ROOM
        assert_quiet(daemon)

    def test_100_megabytes_of_messages_to_publish(self, site: Site, app: Repository) -> None:
        daemon = daemon_of(site)
        before = daemon.memory()
        block = attacks.NOISE[:250_000]
        with attacks.publisher(site.endpoint("publish")) as own:
            count = attacks.flood_messages(own, [block[:100], block, block[:64], block])
            goes_on(app)
            counted(daemon, "live-bad-certificate", count)
        assert daemon.memory() - before < ROOM
        assert_quiet(daemon)

    def test_100_megabytes_of_messages_to_subscribe(self, site: Site, app: Repository) -> None:
        daemon = daemon_of(site)
        before = daemon.memory()
        site.command("zmq-keys", "quickstart", "keys/other", "--name", "other")
        stranger = attacks.load_key(site, "other/subscriber")
        with attacks.dealer(site, site.endpoint("subscribe"), stranger) as own:
            count = attacks.flood_messages(own, [attacks.NOISE, b"EVENTS", b"{}", attacks.NOISE])
            goes_on(app)
            counted(daemon, "session-too-much", count)
        assert daemon.memory() - before < ROOM
        assert_quiet(daemon)


class TestJournals:
    """Somebody altered what lies on disk; the daemon was down meanwhile."""

    def alter(self, site: Site, app: Repository) -> Repository:
        """Three commits to `app` that nobody has taken yet, and another repository."""
        assert daemon_of(site).terminate() == 0
        app.build(3, "default", "--single")
        other = site.repository("team/other")
        other.build(1)
        return other

    def stopped(self, site: Site) -> str:
        """Why the journal of team/app is stopped."""
        for row in site.status():
            if row["kind"] == "journal" and row["repo"] == "team/app":
                return row["stopped"] or ""
        return ""

    def test_a_flipped_bit_under_a_right_checksum(self, site: Site, app: Repository) -> None:
        # Given an event of which a bit was turned, with its checksum made to fit
        other = self.alter(site, app)
        record = attacks.event_records(app)[2]
        attacks.rewrite(
            app,
            record,
            lambda payload: attacks.flipped(payload, payload.index(b"plain words")),
        )
        assert "not signed by the key" in app.hg("events", "--verify", status=1).err
        # When the subscriber takes up its work, then it takes what stands before it and no more
        daemon = site.subscriber()
        runs = site.wait_runs(3)
        assert {run.repo for run in runs} == {"team/app", "team/other"}
        wait_for(lambda: self.stopped(site), "the journal is stopped")
        assert self.stopped(site).startswith("bad-signature at sequence 3")
        assert daemon.lines("journal stopped", "kind=bad-signature", "repo=team/app")
        # and other repositories go on
        goes_on(other)
        assert_quiet(daemon)
        # When the bit is turned back, then the journal goes on too
        attacks.rewrite(app, record, lambda _payload: record.payload)
        runs = [run for run in site.wait_runs(6) if run.repo == "team/app"]
        assert [node for run in runs for node in run.nodes] == app.nodes("--rev", "all()")
        assert self.stopped(site) == ""

    def test_a_torn_record_is_reported_and_never_served(self, site: Site, app: Repository) -> None:
        # Given a record that a bad disk has changed
        other = self.alter(site, app)
        before = attacks.events_file(app).read_bytes()
        record = attacks.event_records(app)[2]
        attacks.tear(app, record)
        # Then --verify says so
        told = app.hg("events", "--verify", status=1)
        assert f"byte {record.offset}: torn record: wrong checksum" in told.err
        # When the subscriber takes up its work, then it gets what stands before it
        daemon = site.subscriber()
        assert {run.repo for run in site.wait_runs(3)} == {"team/app", "team/other"}
        daemon.wait_line("a journal cannot be read", "team/app", str(record.offset))
        # and nothing behind it, while others go on
        goes_on(other)
        assert len([run for run in site.runs() if run.repo == "team/app"]) == 2
        assert_quiet(daemon)
        # When the file is repaired and something new comes, then the rest arrives
        attacks.events_file(app).write_bytes(before)
        app.build(1)
        runs = [run for run in site.wait_runs(7) if run.repo == "team/app"]
        assert [node for run in runs for node in run.nodes] == app.nodes("--rev", "all()")

    def test_events_signed_by_a_stranger(self, site: Site, app: Repository) -> None:
        # Given a key that no trusted root has certified
        site.command("zmq-keys", "quickstart", "keys/other", "--name", "other")
        other = site.repository("team/other")
        key = f"zmqhooks.key={site.folder}/keys/other/publisher.key"
        # When something is committed with it
        ran = app.build(1, "default", "--config", key, "--debug")
        # Then nobody confirms its live copy, and the journal is stopped before it
        assert "live copy no answer in time: 0 of 1" in ran.out
        daemon = daemon_of(site)
        daemon.wait_line("journal stopped", "kind=unknown-root", "repo=team/app")
        assert self.stopped(site).startswith("unknown-root at sequence 2")
        # and others go on
        goes_on(other)
        assert len(site.runs()) == 2
        assert_quiet(daemon)

    def test_an_expired_certificate_warns_the_pusher_and_holds_the_event(
        self, site: Site, app: Repository
    ) -> None:
        # Given a publisher's key whose certificate has expired
        attacks.issue_for_the_past(site, "expired")
        late = f"zmqhooks.key={site.folder}/keys/expired.key"
        # When something is committed with it, then hg warns and goes on
        ran = app.build(1, "default", "--config", late)
        assert "expired" in ran.err
        # and the event is stored, held, and runs nothing
        daemon = daemon_of(site)
        daemon.wait_line("event held", "repo=team/app")
        assert [row["held_events"] for row in site.status() if row["kind"] == "status"] == [1]
        other = site.repository("team/other")
        goes_on(other)
        assert len(site.runs()) == 2
        # When the next event of the branch has a valid one, then both run, in order
        app.build(1)
        runs = [run for run in site.wait_runs(4) if run.repo == "team/app"]
        assert [node for run in runs for node in run.nodes] == app.nodes("--rev", "all()")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"strt": "latest"}, ["strt", "unknown key", 'hint: did you mean "start"?']),
            (
                {"start": "sometimes"},
                ["start", "'sometimes'", "neither latest, earliest nor"],
            ),
            ({"http": "127.0.0.1:8400"}, ["http", "unknown key"]),
            (
                {"rules": [rule("build", "hg:team/*")]},
                [
                    "rules[0].when.topic",
                    "'hg:team/*'",
                    'hint: write for example "hg:team/*:',
                ],
            ),
            (
                {"rules": [rule("build", timeout="soon")]},
                ["rules[0].timeout", "'soon'", "not a duration such as"],
            ),
            (
                {"rules": [rule("build", overlap="newest")]},
                ["rules[0].overlap", "'newest'", "hint: "],
            ),
            ({"relay": {"group": "nobody-here"}}, ["relay.group", "nobody-here", "hint: "]),
            (
                {"relay": {"publish": "ipc://run/x"}},
                ["relay.publish", "ipc://run/x", "absolute"],
            ),
        ],
    )
    def test_a_bad_subscriber_yml(self, site: Site, change: dict, words: list[str]) -> None:
        site.configure(**change)
        ran = site.command("zmq-subscriber", "--config", "ci.yml", status=None)
        assert ran.status == 78
        assert ran.err.startswith(f"zmq-subscriber: {site.folder}/ci.yml: {words[0]}")
        assert ran.err.count("\n") <= 2, "one line, and perhaps a hint"
        for word in words:
            assert word in ran.err

    def test_a_key_that_is_not_there(self, site: Site) -> None:
        site.configure(key="keys/none.key")
        ran = site.command("zmq-subscriber", "--config", "ci.yml", status=78)
        assert f"key: '{site.folder}/keys/none.key': does not exist" in ran.err
        assert "hint: " in ran.err

    def test_a_bad_relay_yml(self, site: Site) -> None:
        site.configure_relay(publsh="x")
        ran = site.command("zmq-relay", "--config", "relay.yml", status=78)
        assert "relay.yml: publsh: 'x': unknown key" in ran.err
        assert 'hint: did you mean "publish"?' in ran.err

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("relay=run/publish", ["zmqhooks.relay", "run/publish", "ipc:///ABSOLUTE/PATH"]),
            ("relay=tcp://host:1", ["tcp://host:1", "relay-certificate"]),
            ("key=/none/publisher.key", ["/none/publisher.key", "zmq-keys"]),
            ("live-timeout=soon", ["zmqhooks.live-timeout", "soon", "milliseconds"]),
        ],
    )
    def test_a_bad_hgrc_stops_writing_before_anything_changes(
        self, site: Site, setting: str, words: list[str]
    ) -> None:
        app = site.repository("team/app")
        ran = app.build(1, "default", "--config", f"zmqhooks.{setting}", status=None)
        assert ran.status == 255, ran.err
        assert ran.err.startswith("config error: ")
        for word in words:
            assert word in ran.err
        assert app.nodes() == []
        assert not list(app.store.glob("zmqhooks-*"))
        assert not list(app.store.glob("journal*"))
        # Reading goes on
        app.hg("log", "--config", f"zmqhooks.{setting}")

    def test_a_key_that_others_may_read_is_refused(self, site: Site) -> None:
        app = site.repository("team/app")
        key = site.folder / "keys" / "publisher.key"
        key.chmod(0o644)
        ran = app.hg("testbuild", status=255)
        assert "0644" in ran.err
        assert f"chmod 600 {key}" in ran.err or "chmod" in ran.err
        assert app.nodes() == []

    def test_a_second_daemon_is_shown_how_to_follow_the_first(self, site: Site) -> None:
        # Given a daemon with a subscribe endpoint
        site.configure(relay={"subscribe": [site.endpoint("subscribe")]})
        daemon = site.subscriber()
        app = site.repository("team/app")
        # When another one, with a store of its own, wants the same publish endpoint
        site.issue("second", "--read", "hg:**:**:", "--role", "relay")
        site.configure("second", key="keys/second.key", rules=[rule("mirror")])
        refused = site.command("zmq-subscriber", "--config", "second.yml", status=1)
        # Then it is refused, and shown the lines to have instead
        assert f"is already served by pid {daemon.pid}" in refused.err
        lines = f"relays:\n  - {{address: {site.endpoint('subscribe')}}}"
        assert lines in refused.err
        app.build(1)
        site.wait_runs(1)
        # When it has these lines, then it runs
        path = site.folder / "second.yml"
        text = path.read_text()
        head, _, rest = text.partition("relay:\n")
        _, _, tail = rest.partition("store:")
        path.write_text(f"{head}{lines}\nstore:{tail}")
        site.subscriber("second")
        app.build(1)
        assert len(site.wait_runs(2, "build")) == 2
        site.wait_runs(1, "mirror")
