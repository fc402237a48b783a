"""Long journals without hg: signed events, written by the journal's own writer.

    write_journal(site, 10_000, repo="team/app", branches=200)

One changeset after another becomes public, in turn on each branch, about 700 bytes an event.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nacl import bindings
from support.site import Site

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.journal.format import Mark
from hgext_zmqhooks.keys import files
from hgext_zmqhooks.wire import envelope
from hgext_zmqhooks.wire.events import encode_item
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.values import Draft, Heads, PhaseMove, Pusher, Transaction

BRANCHES = 50
REPO = "team/app"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Signer:
    """Signs like the extension, but expands the key once: a million times would take long."""

    def __init__(self, key: SecretKey) -> None:
        self.certificate = key.certificate or b""
        self._secret = bindings.crypto_sign_seed_keypair(key.seed)[1]

    def sign(self, event: bytes) -> bytes:
        """See journal.batch.Signer."""
        return bindings.crypto_sign(envelope.pae(event), self._secret)[:64]


def write_journal(
    site: Site,
    count: int,
    repo: str = REPO,
    branches: int = BRANCHES,
    signer: Callable[[SecretKey], Signer] = Signer,
) -> Path:
    """The journal of a new repository with this many events; its store folder."""
    made = Journal(site, repo, branches, signer)
    made.grow(count)
    return made.store


class Journal:
    """The journal of a new repository, which grows."""

    def __init__(
        self,
        site: Site,
        repo: str = REPO,
        branches: int = BRANCHES,
        signer: Callable[[SecretKey], Signer] = Signer,
    ) -> None:
        self.store = site.root / repo / ".hg" / "store"
        self.store.mkdir(parents=True)
        self.repo = repo
        self.events = 0
        self._branches = branches
        self._signer = signer(files.load_secret(site.folder / "keys" / "publisher.key"))

    def grow(self, count: int) -> None:
        """By so many events, in one transaction."""
        first, self.events = self.events + 1, self.events + count
        writer = Writer(Directory(self.store), self.repo)
        mark = Mark(self.events, self.events.to_bytes(20, "big"))
        events = drafts(first, self.events, self._branches)
        writer.commit(writer.append(lambda _name, _offset: None, events, mark, self._signer))


def drafts(first: int, last: int, branches: int) -> Iterator[Draft]:
    """What the events say; branches are called b0, b1, …"""
    for number in range(first, last + 1):
        node, moment = f"{number:040x}", BEGIN + timedelta(seconds=number)
        move = PhaseMove(node, "draft", "public")
        yield Draft(
            branch=f"b{number % branches}",
            time=moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            transaction=Transaction(f"t{number}", "serve", "serve"),
            heads=Heads(tip=node, count=1),
            pusher=Pusher("alice", "ssh", "192.0.2.7"),
            lists={"phases": [encode_item(move)]},
        )
