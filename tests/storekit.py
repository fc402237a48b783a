"""Values for tests of the store and of what stands on it, and the stores themselves."""

import atexit
import functools
import hashlib
import itertools
import tempfile
from pathlib import Path

from support.valkey import Server, debian

from hgext_zmqhooks.service.redis_client import parse_address
from subscriber.store.base import (
    Batch,
    Finish,
    Incoming,
    NewDelivery,
    Outcome,
    Standing,
    State,
    Store,
)
from subscriber.store.memory import MemoryStore
from subscriber.store.redis import RedisStore
from subscriber.store.redis_server import acl_line
from subscriber.store.redis_session import library
from subscriber.store.sqlite import SqliteStore

JOURNAL = "9f" * 16
OTHER = "ab" * 16
REPO = "team/app"
CERTIFICATE = "c0" * 32
TOKENS = {CERTIFICATE: b"token"}


class MemoryBox:
    """Reopening the reference store is nothing: it has no file."""

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - made as the other is
        self.store: Store = MemoryStore()

    def reopen(self, *, crash: bool = False) -> Store:  # noqa: ARG002
        return self.store


class SqliteBox:
    """A store in a file of its own. `quick`: without fsync, for tests of many small steps."""

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.path = folder / "ci.db"
        self.quick = quick
        self.store: Store = self._open()

    def _open(self) -> Store:
        store = SqliteStore.open(self.path)
        if self.quick:
            store._db.execute("PRAGMA synchronous = OFF")
        return store

    def reopen(self, *, crash: bool = False) -> Store:
        """`crash`: as after SIGKILL, nothing of ours runs when the process ends."""
        assert isinstance(self.store, SqliteStore)
        if crash:
            self.store._db.close()
            self.store._daemon.close()
        else:
            self.store.close()
        self.store = self._open()
        return self.store


class ValkeyBox:
    """A store on a server of this process, under a name and a user of its own.

    The user has the rights that we tell operators to give, and no others.
    """

    def __init__(self, folder: Path | None = None, program: str | None = None) -> None:
        del folder
        self.server = shared_server(program)
        self.name = f"ci-{next(_COUNT)}"
        digest = hashlib.sha256(b"pass").hexdigest()
        with self.server.client() as admin:
            admin.execute_command(acl_line(self.name, user=self.name, sha256=digest))
            admin.function_load(library(), replace=True)
        credentials = self.server.folder / f"{self.name}.pass"
        credentials.touch(0o600)
        credentials.write_text(f"{self.name}:pass\n")
        self.address = parse_address(self.server.url, credentials=credentials)
        self.store: Store = self._open()

    def _open(self) -> Store:
        return RedisStore.open(self.address, self.name)

    def reopen(self, *, crash: bool = False) -> Store:  # noqa: ARG002 - nothing of it is ours
        self.store.close()
        self.store = self._open()
        return self.store


_COUNT = itertools.count()


@functools.cache
def shared_server(program: str | None) -> Server:
    """One server for all tests of a process; it ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="zmqhooks-valkey-")
    server = Server(Path(folder.name), program=program)

    def end() -> None:
        server.stop()
        folder.cleanup()

    atexit.register(end)
    return server


BOXES = {"memory": MemoryBox, "sqlite": SqliteBox, "valkey": ValkeyBox}
if found := debian():
    BOXES["debian"] = functools.partial(ValkeyBox, program=found)


def record(
    sequence: int, *, branch: str = "default", journal: str = JOURNAL, **changes
) -> Incoming:
    body = changes.pop("body", f"{journal}/{sequence}/{branch}".encode())
    values = {
        "journal": journal,
        "sequence": sequence,
        "sha256": hashlib.sha256(body).hexdigest(),
        "repo": REPO,
        "branch": branch,
        "topic": f"hg:{REPO}:{branch}:",
        "event_id": f"{journal}/{sequence}",
        "type": "hg.transaction.v1",
        "transaction": f"t{sequence}",
        "part": 1,
        "parts": 1,
        "event": body,
        "signature": bytes(64),
        "certificate": CERTIFICATE,
        "received": 1000.0 + sequence,
        "held": False,
    }
    return Incoming(**{**values, **changes})


def delivery(
    sequence: int, rule: str = "build", *, branch: str = "default", **changes
) -> NewDelivery:
    journal = changes.get("journal", JOURNAL)
    values = {
        "id": f"{rule}-{journal[:2]}-{sequence}",
        "rule": rule,
        "order_key": f"{rule}:{REPO}:{branch}",
        "repo": REPO,
        "branch": branch,
        "topic": f"hg:{REPO}:{branch}:",
        "journal": journal,
        "event_id": f"{journal}/{sequence}",
        "first": sequence,
        "last": sequence,
        "node": "0" * 40,
        "user": "alice",
        "created": 1000.0 + sequence,
    }
    return NewDelivery(**{**values, **changes})


def batch(scanned: int, expected: int | None, *, records=(), deliveries=(), **changes) -> Batch:
    values = {
        "relay": "hg1",
        "journal": JOURNAL,
        "repo": REPO,
        "scanned": scanned,
        "expected": expected,
        "records": tuple(records),
        "deliveries": tuple(deliveries),
        "certificates": TOKENS,
    }
    return Batch(**{**values, **changes})


def fill(store: Store, count: int, *, rule: str = "build", branch: str = "default") -> None:
    """`count` events of one branch, each with one delivery."""
    sequences = range(1, count + 1)
    store.accept(
        batch(
            count,
            None,
            records=[record(sequence, branch=branch) for sequence in sequences],
            deliveries=[delivery(sequence, rule, branch=branch) for sequence in sequences],
        )
    )


def standing(journal: str = JOURNAL, *, head: int = 0, scanned: int | None = None, **changes):
    return Standing(
        **{"journal": journal, "repo": REPO, "head": head, "scanned": scanned, **changes}
    )


def outcome(verdict: str = "done", **changes) -> Outcome:
    return Outcome(**{"started": 1.0, "ended": 2.0, "verdict": verdict, **changes})


DONE = Finish(state=State.DONE, outcome=outcome())
DEAD = Finish(state=State.DEAD, outcome=outcome("dead", reason="exit status 65"))
BACK = Finish(state=State.PENDING, outcome=outcome("stopped"), counted=False)


def retry(at: float, *, counted: bool = True) -> Finish:
    return Finish(state=State.RETRYING, outcome=outcome("retry"), retry_at=at, counted=counted)
