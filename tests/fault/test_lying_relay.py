"""A relay that lies is caught and named, what it made up is not stored, and the rest goes on.

The subscriber is a real one; the relay (liar.py) has a certificate with the role relay, so that
only the events themselves, their signatures and their chain can tell. It is honest about `other`.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fault.liar import Liar, Served
from signing import Journal
from subscriberkit import Site
from support import attacks
from support import site as sites
from support.daemons import Daemon
from support.waiting import wait_for

from hgext_zmqhooks.wire import envelope, events
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Events, Record
from hgext_zmqhooks.wire.values import Continued

APP, OTHER, THIRD = "1" * 32, "2" * 32, "3" * 32
Lie = Sequence[Events]


class Scene:
    """A subscriber that follows a liar; `app` with two events that it has stored, and `other`."""

    def __init__(self, folder: Path, liar: Liar, site: Site) -> None:
        self.folder, self.liar, self.site = folder, liar, site
        self.publisher = site.keys.publisher
        self.app = Journal(self.publisher, "app", APP)
        self.other = Journal(self.publisher, "other", OTHER)
        self.served = liar.serve("app", APP)
        self.further: list[Served] = []
        self.honest = liar.serve("other", OTHER)
        token = site.keys.relay.certificate or b""
        (folder / "relay.cert").write_bytes(token)
        peer = {"address": liar.address, "certificate": "relay.cert"}
        self.peer = peer
        self.true: dict[str, Record] = {}

    def start(self) -> Daemon:
        self.site.configure(relay=None, relays=[self.peer])
        self.tell(self.app.record(), self.app.record("stable"))
        self.tell(self.other.record(), served=self.honest)
        self.daemon = self.site.start()
        self.site.wait_runs(3)
        return self.daemon

    def tell(self, *records: Record, served: Served | None = None) -> None:
        """Events that the repository really made; how they are told is up to the liar."""
        for record in records:
            self.true[digest(record)] = record
        self.liar.tell(served or self.served, records, self.publisher)

    def continued(self) -> Record:
        """The first event of the journal that takes over from `app`."""
        before = self.app.last["default"]
        made = Journal(self.publisher, "app", THIRD, continuing=True)
        self.further.append(self.liar.serve("app", THIRD))
        return made.record(continues=Continued(APP, before.sequence, before.sha256))

    def lie(self, *batches: Events) -> None:
        """Send these instead of the next batches of `app`."""
        self.served.twist = lambda _batch: batches

    def stored(self, repo: str = "app") -> list[str]:
        """Digests, in the order of the store."""
        rows = self.site.sql(f"SELECT sha256 FROM event WHERE repo = '{repo}' ORDER BY number")
        return [row[0] for row in rows]

    def stopped(self, repo: str = "app") -> str:
        """The reason that `status` shows for a journal that does not go on."""
        rows = [
            row["stopped"]
            for row in self.site.rows("status")
            if row["kind"] == "journal" and row["repo"] == repo
        ]
        return next((reason for reason in rows if reason), "")

    def caught(self, kind: str, sequence: int, journal: str = APP) -> None:
        """Named in the log and in the status; nothing of it is stored; others go on."""
        self.daemon.wait_line("journal stopped", f"kind={kind}", f"journal={journal}")
        wait_for(lambda: self.stopped().startswith(f"{kind} at sequence {sequence}"), "the status")
        self.others_go_on()
        assert set(self.stored()) <= set(self.true)

    def others_go_on(self) -> None:
        record = self.other.record()
        self.tell(record, served=self.honest)
        wait_for(lambda: digest(record) in self.stored("other"), "an event of another journal")

    def repented(self) -> None:
        """Told the truth at last, the subscriber has everything, once, in order, by itself."""
        self.served.twist = lambda batch: [batch]
        told = [one for served in (self.served, *self.further) for one in served.records]
        mine = [key for key, one in self.true.items() if one in told]
        wait_for(lambda: len(self.stored()) == len(mine), "all events")
        assert self.stored() == mine
        every = [*mine, *self.stored("other")]
        runs = self.site.wait_runs(len(every))
        assert sorted(run["event_id"] for run in runs) == sorted(map(self._id, every))
        assert self.stopped() == ""

    def _id(self, key: str) -> str:
        return str(json.loads(self.true[key].event)["id"])

    def batch(self, *records: Record, scanned: int | None = None, journal: str = APP) -> Events:
        token = self.publisher.certificate or b""
        last = records[-1].sequence if records else 0
        return Events(journal, last if scanned is None else scanned, (token,), records)


def digest(record: Record) -> str:
    return hashlib.sha256(record.event).hexdigest()


def forged(record: Record, signer: SecretKey, old: bytes, new: bytes) -> Record:
    """The event with other words, signed by somebody."""
    event = record.event.replace(old, new)
    assert event != record.event
    token = hashlib.sha256(signer.certificate or b"").hexdigest()
    return replace(
        record, event=event, signature=envelope.sign(event, signer.seed), certificate=token
    )


@pytest.fixture
def scene() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="zl", dir="/tmp"))
    site = Site(folder)
    try:
        with Liar(site.keys.relay) as liar:
            made = Scene(folder, liar, site)
            try:
                yield made
            finally:
                site.close()
    finally:
        shutil.rmtree(folder)


def test_an_honest_relay_is_believed(scene: Scene) -> None:
    scene.start()
    scene.tell(scene.app.record(), scene.app.record("stable"))
    scene.others_go_on()
    scene.repented()


def test_an_event_is_dropped_from_the_middle(scene: Scene) -> None:
    scene.start()
    first, second = scene.app.record(), scene.app.record()
    scene.lie(scene.batch(second))
    scene.tell(first, second)

    scene.caught("gap", 4)
    scene.repented()


def test_the_newest_event_of_a_branch_is_dropped(scene: Scene) -> None:
    # Given an event that is left out, though the relay says that it has looked at it
    scene.start()
    dropped, seen = scene.app.record(), scene.app.record("stable")
    scene.lie(scene.batch(seen, scanned=4))
    scene.tell(dropped, seen)

    # Then who reads the whole repository knows, since sequences are dense
    scene.caught("gap", 4)
    scene.repented()


def test_the_newest_event_of_all_is_dropped(scene: Scene) -> None:
    scene.start()
    scene.lie(scene.batch(scanned=3))
    scene.tell(scene.app.record())

    scene.caught("gap", 3)
    scene.repented()


def test_the_newest_event_is_dropped_for_who_reads_one_branch(scene: Scene) -> None:
    # Given a subscriber that cannot tell whether a sequence was on a branch that it reads
    topics = {"when": {"topic": ["hg:*:default:", "hg:other:*:"]}}
    scene.site.configure(relay=None, relays=[scene.peer], rules=[scene.site.rule(**topics)])
    first, dropped = scene.app.record(), scene.app.record()
    scene.lie(scene.batch(first, scanned=2))
    scene.tell(first, dropped)
    scene.tell(scene.other.record(), served=scene.honest)
    scene.daemon = scene.site.start()
    scene.site.wait_runs(2)

    # Then the next event of the branch tells
    following = scene.app.record()
    scene.lie(scene.batch(following))
    scene.tell(following)

    scene.caught("gap", 3)
    # and what was left out is asked for again, although its place had been looked at
    scene.repented()


def test_what_a_relay_never_gives_a_person_lets_go(scene: Scene) -> None:
    # Given a reader of one branch, to whom the relay gives an event neither at first nor when asked
    topics = {"when": {"topic": ["hg:*:default:", "hg:other:*:"]}}
    scene.site.configure(relay=None, relays=[scene.peer], rules=[scene.site.rule(**topics)])
    first, unread, dropped = scene.app.record(), scene.app.record("stable"), scene.app.record()
    scene.lie(scene.batch(first, scanned=1))
    scene.tell(first, unread, dropped)
    scene.tell(scene.other.record(), served=scene.honest)
    scene.daemon = scene.site.start()
    scene.site.wait_runs(2)
    following = scene.app.record()
    scene.lie(scene.batch(first, following))
    scene.tell(following)
    scene.caught("gap", 4)
    follows = scene.served.follows
    wait_for(lambda: scene.served.follows > follows, "it was asked again")
    # When a person lets it go
    (row,) = scene.site.rows("accept", "app", "--journal", APP)
    # Then the journal goes on without it
    assert row["sequence"] == 4
    wait_for(lambda: digest(following) in scene.stored(), "the event behind it")
    assert scene.stored() == [digest(first), digest(following)]
    wait_for(lambda: scene.stopped() == "", "it goes on")


def test_the_end_of_a_closed_journal_is_dropped(scene: Scene) -> None:
    # Given a journal that ends with an event of which the relay does not speak
    scene.start()
    dropped = scene.app.record()
    scene.lie()
    scene.tell(dropped)
    scene.served.info = replace(scene.served.info, sequence=2, closed=True)
    # When it goes on with the next journal
    following = scene.continued()
    scene.tell(following, served=scene.further[0])
    # Then that one waits, and says for what
    scene.caught("gap", 1, THIRD)
    assert f"it continues {APP}/3; sequences 3 to 3 of that journal" in scene.stopped()
    assert digest(following) not in scene.stored()
    scene.repented()


def test_batches_are_reordered(scene: Scene) -> None:
    scene.start()
    first, second = scene.app.record(), scene.app.record()
    scene.lie(scene.batch(second), scene.batch(first))
    scene.tell(first, second)

    scene.caught("gap", 4)
    scene.repented()


def test_records_are_reordered(scene: Scene) -> None:
    scene.start()
    first, second = scene.app.record(), scene.app.record()
    scene.lie(scene.batch(second, first, scanned=4))
    scene.tell(first, second)

    # That no relay may say; the session ends, the next one begins
    scene.daemon.wait_line("no session with the relay", "broke the rules", "record 3 after 4")
    assert len(scene.stored()) == 2
    scene.repented()
    scene.others_go_on()


def test_events_are_duplicated(scene: Scene) -> None:
    scene.start()
    record = scene.app.record()
    scene.lie(scene.batch(record), scene.batch(record), scene.batch(record))
    scene.tell(record)

    wait_for(lambda: digest(record) in scene.stored(), "the event")
    scene.others_go_on()
    assert scene.stored().count(digest(record)) == 1
    scene.repented()


@pytest.mark.parametrize("part", ["event", "signature"])
def test_an_event_is_altered(scene: Scene, part: str) -> None:
    scene.start()
    record = scene.app.record()
    bad = replace(record, **{part: attacks.flipped(getattr(record, part), 20)})
    scene.lie(scene.batch(bad))
    scene.tell(record)

    scene.caught("bad-signature", 3)
    scene.repented()


def test_an_event_is_moved_to_another_topic(scene: Scene) -> None:
    scene.start()
    record = scene.app.record()
    event = record.event.replace(b'"stable"', b'"default"').replace(b'"default"', b'"release"')
    assert events.decode(event).topic == "hg:app:release:"
    scene.lie(scene.batch(replace(record, event=event)))
    scene.tell(record)

    scene.caught("bad-signature", 3)
    scene.repented()


def test_events_come_that_nobody_asked_for(scene: Scene) -> None:
    # Given a subscriber that wants one branch, and a relay that sends all
    topics = {"when": {"topic": ["hg:*:default:", "hg:other:*:"]}}
    scene.site.configure(relay=None, relays=[scene.peer], rules=[scene.site.rule(**topics)])
    scene.tell(scene.app.record(), scene.app.record("secret"), scene.app.record())
    scene.daemon = scene.site.start()

    scene.daemon.wait_line("kind=not-asked")
    scene.others_go_on()
    rows = scene.site.sql("SELECT DISTINCT topic FROM event WHERE repo = 'app'")
    assert rows == [("hg:app:default:",)]


def test_an_event_of_another_repository_is_replayed(scene: Scene) -> None:
    scene.start()
    record = scene.app.record()
    stranger = Journal(scene.publisher, "third", THIRD, sequence=2).record()
    scene.lie(scene.batch(stranger))
    scene.tell(record)

    scene.caught("wrong-place", 3)
    scene.repented()


def test_the_journal_of_another_repository_is_served_under_a_name(scene: Scene) -> None:
    scene.start()
    third = scene.liar.serve("app", THIRD)
    scene.tell(Journal(scene.publisher, "third", THIRD).record(), served=third)

    scene.caught("wrong-repo", 1, THIRD)
    assert scene.stored("third") == []


@pytest.mark.parametrize(
    ("who", "kind"), [("relay", "not-allowed"), ("stranger", "unknown-root"), ("none", None)]
)
def test_an_event_is_invented(scene: Scene, who: str, kind: str | None) -> None:
    scene.start()
    record = scene.app.record()
    keys = scene.site.keys
    if who == "none":
        event = record.event.replace(b"change 3", b"change !")
        made, token = replace(record, event=event), scene.publisher.certificate
    else:
        signer = keys.relay if who == "relay" else type(keys)().publisher
        made, token = forged(record, signer, b"change 3", b"change !"), signer.certificate
    batch = replace(scene.batch(made), certificates=(token or b"",))
    scene.lie(batch)
    scene.tell(record)

    scene.caught(kind or "bad-signature", 3)
    scene.repented()


def test_events_are_withheld_that_the_relay_speaks_of(scene: Scene) -> None:
    scene.start()
    scene.lie()
    scene.tell(scene.app.record())

    def behind() -> list[int]:
        rows = scene.site.rows("status")
        return [row["behind"] for row in rows if row.get("repo") == "app" and row["behind"]]

    assert wait_for(behind, "a lag in the status") == [1]
    scene.others_go_on()
    assert len(scene.stored()) == 2


@pytest.mark.long
def test_the_newest_events_are_withheld_and_not_spoken_of() -> None:
    # Given a repository with three changesets, of which the relay tells two
    with sites.Site.made() as site, Liar(attacks.load_key(site, "relay")) as liar:
        app = site.repository("team/app")
        told = [app.commit("one"), app.commit("two")]
        withheld = app.commit("three")
        messages = attacks.journalled(app)
        records = [record_of(one) for one in messages]
        journal = events.decode(messages[0].event).journal
        liar.tell(liar.serve("team/app", journal), records[:2], attacks.load_key(site, "publisher"))
        peer = {"address": liar.address, "certificate": "keys/relay.cert"}
        site.write(
            "ci.yml",
            {
                "name": "ci",
                "key": "keys/subscriber.key",
                "trust": ["keys/root.pub"],
                "relays": [peer],
                "store": "sqlite:ci.db",
                "rules": [sites.rule("build")],
                "start": "earliest",
            },
        )
        site.subscriber()
        runs = site.wait_runs(2)
        assert [node for run in runs for node in run.nodes] == told
        # When it is audited against the repository itself, then it shows
        verb = ("zmq-subscriber", "--config", "ci.yml", "audit", "team/app")
        ran = site.command(*verb, "--repository", str(app.path), "--json", status=1)
        rows = [json.loads(line) for line in ran.out.splitlines()]
        missing = [row["missing"] for row in rows if row.get("branch") == "default"]
        assert missing == [[withheld]]


def test_another_journal_is_served_under_the_same_name(scene: Scene) -> None:
    scene.start()
    second = scene.liar.serve("app", THIRD)
    made = Journal(scene.publisher, "app", THIRD).record()
    scene.liar.tell(second, [made], scene.publisher)

    scene.caught("unfit-journal", 1, THIRD)
    assert digest(made) not in scene.stored()


def test_a_journal_has_two_histories(scene: Scene) -> None:
    # Given an event that has been stored, and another one that its publisher signed for its place
    scene.start()
    record, following = scene.app.record(), None
    scene.tell(record)
    wait_for(lambda: digest(record) in scene.stored(), "the event")
    again = Journal(scene.publisher, "app", APP, 2, last=dict(scene.app.last))
    other = forged(record, scene.publisher, b"change 3", b"change !")
    scene.lie(scene.batch(other))
    following = scene.app.record()
    scene.tell(following)

    scene.caught("fork", 3)
    assert digest(other) not in scene.stored()
    assert again.sequence == 2
    scene.repented()


def record_of(copy: envelope.Message) -> Record:
    """A live copy as a batch has it."""
    sha256 = hashlib.sha256(copy.certificate).hexdigest()
    return Record(events.decode(copy.event).sequence, sha256, copy.signature, copy.event)
