"""Where mutation starts: the conformance vectors, and journals as the writer makes them."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import wirekit
from unit.journal.stores import Store, draft, node

from hgext_zmqhooks.journal.format import (
    CERTIFICATE,
    EVENT,
    EVENTS,
    HEAD,
    fingerprint,
    frame,
    signed,
)
from hgext_zmqhooks.journal.prune import Limits
from hgext_zmqhooks.wire import events

VECTORS = Path(__file__).parents[1] / "conformance" / "vectors"


@cache
def vectors(name: str) -> Any:
    """One file of them."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def texts(name: str, group: str, key: str = "") -> list[bytes]:
    """One value of each vector of a group; without `key` the vectors themselves are texts."""
    return [(item[key] if key else item).encode() for item in vectors(name)[group]]


def frames() -> list[list[bytes]]:
    """The messages of a session, each of four frames."""
    return [
        [
            item["version"].encode(),
            item["verb"].encode(),
            item["header"].encode(),
            bytes.fromhex(item["payload"]),
        ]
        for item in vectors("session")["messages"]
    ]


@cache
def journal(branches: str) -> bytes:
    """An events file with one event per letter, the same bytes in every run."""
    token = wirekit.token()
    records = [frame(CERTIFICATE, token)]
    for event, _sha256 in wirekit.chain(branches):
        payload = signed(fingerprint(token), bytes(64), events.encode(event))
        records.append(frame(EVENT, payload))
    return b"".join(records)


@cache
def stores() -> list[bytes]:
    """Head, line feed and events file of a store that goes on, is renamed, and is shortened."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        found = []
        for repo, names in [("team/app", "ab"), ("team/app", "a"), ("team/other", "ac")]:
            store = Store(path, repo)
            store.push(*[draft(name, node(len(found))) for name in names])
            found.append(_bytes(store))
        store.prune(Limits(size=1000))
        return [*found, _bytes(store)]


def _bytes(store: Store) -> bytes:
    head, events_file = (Path(store.path, name).read_bytes() for name in (HEAD, EVENTS))
    return head + b"\n" + events_file
