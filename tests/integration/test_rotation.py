"""All keys of an installation are rotated while events flow: none is lost, none is refused.

Two subscribers, over ipc and over tcp, follow one zmq-relay. Journals grow by 200 events a second,
written by the journal's own writer with the key file of that moment; one hg serve takes pushes
among them. After each step both subscribers must have every event, and every process must be the
one that it was. The table at the end of the run says what each step took.
"""

import contextlib
import itertools
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from relaykit import Repo, Signer, draft
from support.daemons import Daemon
from support.site import Site, rule
from support.waiting import wait_for

from hgext_zmqhooks.keys import files
from hgext_zmqhooks.service.life import Stop

RATE = 200
EACH = 5
"""Events of one transaction, on as many branches."""

NAMES = ("ci", "far")
REFUSALS = ("refused", "journal stopped", "event held", "not broadcast", "not taken up", "ERROR")


class Maker(threading.Thread):
    """Writes transactions into journals, RATE events a second in all."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self._key = site.folder / "keys" / "publisher.key"
        self.repos = [Repo(site.root, f"load/{n}", self._load()) for n in range(2)]
        self.made = 0
        self.stop = Stop()
        self.error: BaseException | None = None

    def _load(self):
        return files.load_secret(self._key)

    def run(self) -> None:
        begin = time.monotonic()
        try:
            for repo in itertools.cycle(self.repos):
                if self.stop.wait(max(0.0, begin + self.made / RATE - time.monotonic())):
                    return
                repo.signer = Signer(self._load())
                repo.commit(*[draft(f"b{n}") for n in range(EACH)])
                self.made += EACH
        except BaseException as error:
            self.error = error
            raise


class Scene:
    """The installation, and what is measured of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.keys = site.folder / "keys"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            far = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        near = site.endpoint("subscribe")
        site.command("zmq-keys", "revoke", *self.root("root"), "--out", "keys/root.crl")
        site.issue("far", "--read", "hg:**:**:")
        site.configure_relay(
            subscribe=[near, far],
            broadcast=site.endpoint("broadcast"),
            revocations=["keys/root.crl"],
        )
        peers = {"ci": {"address": near}, "far": {"address": far, "certificate": "keys/relay.cert"}}
        for name, key in (("ci", "subscriber"), ("far", "far")):
            more = {"start": "earliest", "revocations": ["keys/root.crl"]}
            rules = [rule(name, "hg:team/**:**:"), rule("all", changes=["tags"])]
            path = site.configure(name, key=f"keys/{key}.key", relays=["-"], rules=rules, **more)
            written = yaml.safe_load(path.read_text())
            site.write(f"{name}.yml", written | {"relays": [peers[name]]})
        self.relay = site.relay()
        self.app = site.repository("team/app")
        self.client = site.clone(self.app, site.web(self.app))
        self.maker = Maker(site)
        self.subscribers = {name: site.subscriber(name) for name in NAMES}
        self.pids = [daemon.pid for daemon in site.daemons]
        self.pushes = 0

    def root(self, name: str) -> tuple[str, str]:
        return ("--root", f"keys/{name}.key")

    def rotate(self, *names: str, root: str = "root", words: tuple[str, ...] = ()) -> None:
        for name in names:
            path = f"keys/{name}.key"
            self.site.command("zmq-keys", "rotate", path, *self.root(root), *words)

    def replace(self, name: str, data: bytes) -> None:
        fresh = self.keys / f"{name}.new"
        fresh.write_bytes(data)
        fresh.replace(self.keys / name)

    @property
    def daemons(self) -> list[Daemon]:
        return [self.relay, *self.subscribers.values()]

    def push(self) -> None:
        self.pushes += 1
        self.client.build(1)
        self.client.hg("push")

    # What is to be seen of it

    def heads(self) -> dict[str, int]:
        """How far each repository's journal goes now."""
        stores = {repo.name: repo for repo in self.maker.repos}
        found = {name: repo.head().sequence for name, repo in stores.items()}
        return found | {"team/app": self.pushes}

    def ask(self, name: str, query: str, *values: object) -> int:
        """A number from a subscriber's store."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.site.folder}/{name}.db?mode=ro", uri=True)
        ) as db:
            return int(db.execute(query, values).fetchone()[0])

    def missing(self, name: str, heads: dict[str, int]) -> int:
        """How many of the events up to these heads a subscriber does not have."""
        query = "SELECT count(DISTINCT sequence) FROM event WHERE repo = ? AND sequence <= ?"
        have = [self.ask(name, query, *each) for each in heads.items()]
        return sum(heads.values()) - sum(have)

    def signers(self, name: str) -> int:
        """How many certificates signed what a subscriber has."""
        return self.ask(name, "SELECT count(DISTINCT certificate) FROM event")

    def refused(self) -> list[str]:
        return [
            line
            for daemon in self.daemons
            for line in daemon.said().splitlines()
            if any(word in line for word in REFUSALS)
        ]

    def restarts(self) -> int:
        """Processes that are not the ones that they were."""
        return sum(
            daemon.process.poll() is not None or daemon.pid != pid
            for daemon, pid in zip(self.site.daemons, self.pids, strict=True)
        )


@pytest.fixture
def scene(site: Site) -> Iterator[Scene]:
    made = Scene(site)
    try:
        yield made
    finally:
        made.maker.stop.set()
        if made.maker.ident:
            made.maker.join(20)


def taken_up(daemon: Daemon, what: str, times: int = 1) -> None:
    wait_for(lambda: len(daemon.lines("watch: taken up", f"what={what} ")) >= times, what)


def steps(scene: Scene) -> Iterator[tuple[str, Callable[[], None]]]:
    """What an operator does, in this order; each step returns when the daemons have it."""
    relay, subscribers = scene.relay, scene.subscribers

    def trusted(times: int) -> None:
        for daemon in scene.daemons:
            taken_up(daemon, "trust", times)

    def subscriber_keys() -> None:
        scene.rotate("subscriber", "far")
        for daemon in subscribers.values():
            taken_up(daemon, "key")

    def relay_key() -> None:
        scene.rotate("relay")
        taken_up(relay, "key")

    def publisher_key() -> None:
        token = files.load_secret(scene.keys / "publisher.key").certificate or b""
        (scene.keys / "old.cert").write_bytes(token)
        scene.rotate("publisher")

    def old_publisher_revoked() -> None:
        words = (*scene.root("root"), "--certificate", "keys/old.cert")
        scene.site.command("zmq-keys", "revoke", *words, "--out", "keys/root.crl")
        trusted(1)

    def new_root_added() -> None:
        scene.site.command("zmq-keys", "root", "--out", "keys/second.key")
        old, new = ((scene.keys / f"{name}.pub").read_bytes() for name in ("root", "second"))
        (scene.keys / "first.pub").write_bytes(old)
        scene.replace("root.pub", old + new)
        trusted(2)

    def all_under_the_new_root() -> None:
        words = ("--old-root", "keys/first.pub")
        scene.rotate("subscriber", "far", "relay", "publisher", root="second", words=words)
        taken_up(relay, "key", 2)
        for daemon in subscribers.values():
            taken_up(daemon, "key", 2)

    def old_root_removed() -> None:
        scene.replace("root.pub", (scene.keys / "second.pub").read_bytes())
        trusted(3)

    yield "subscribers' keys", subscriber_keys
    yield "the relay's key", relay_key
    yield "the publisher's key", publisher_key
    yield "old publisher revoked", old_publisher_revoked
    yield "new root added", new_root_added
    yield "all under the new root", all_under_the_new_root
    yield "old root removed", old_root_removed


@pytest.mark.timeout(400)
def test_every_key_is_rotated_while_events_flow(scene: Scene, record_property) -> None:
    # Given subscribers that get 200 events a second, and pushes
    scene.maker.start()
    scene.push()
    for name in NAMES:
        wait_for(lambda name=name: not scene.missing(name, {"team/app": 1}), "the first push")
    begin, first = time.monotonic(), scene.maker.made
    for number, (title, step) in enumerate(steps(scene)):
        # When something is rotated, at times with a push behind it
        start, before = time.monotonic(), scene.maker.made
        step()
        seconds = time.monotonic() - start
        if number % 2:
            scene.push()
        # Then both have everything that was made until then
        heads = scene.heads()
        for name in NAMES:
            wait_for(lambda name=name, heads=heads: not scene.missing(name, heads), title)
        events = scene.maker.made - before
        record_property(
            "row",
            {
                "table": "Rotation while events flow",
                "step": title,
                "seconds": round(seconds, 1),
                "events": events,
                "a second": round(events / (time.monotonic() - start)),
                "lost": sum(scene.missing(name, heads) for name in NAMES),
                "refused": len(scene.refused()),
                "restarts": scene.restarts(),
            },
        )
        assert not scene.refused()
        assert not scene.restarts()
    rate = (scene.maker.made - first) / (time.monotonic() - begin)
    assert rate > RATE / 2, f"only {rate:.0f} events a second"
    # and each push ran its actions once, in order, the last one with none of the first keys left
    scene.push()
    for name in NAMES:
        runs = scene.site.wait_runs(scene.pushes, name)
        assert [run.place[1] for run in runs] == list(range(1, scene.pushes + 1))
        assert scene.signers(name) == 3
    scene.maker.stop.set()
    scene.maker.join(20)
    assert scene.maker.error is None
