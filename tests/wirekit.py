"""Keys, certificates, events and messages that tests of the wire start from; all fixed."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

from hgext_zmqhooks.wire import certificates, envelope, events
from hgext_zmqhooks.wire.keyfiles import SecretKey, b64url_encode, z85_encode
from hgext_zmqhooks.wire.values import Event, Link, Transaction

NOW = 1_800_000_000
JOURNAL = "0123456789abcdef" * 2
ALL = "hg:**:**:"


def key(name: str, certificate: bytes | None = None) -> SecretKey:
    """The secret key that belongs to a name, the same in every run."""
    seed = hashlib.sha256(f"ed25519 {name}".encode()).digest()
    curve = hashlib.sha256(f"curve {name}".encode()).digest()
    return SecretKey(name, seed, z85_encode(curve), certificate)


ROOT = key("root")


def token(name: str = "publisher", *, root: SecretKey = ROOT, **changes: Any) -> bytes:
    """A certificate that a root gave to a name: every role, every topic, an hour each way."""
    secret = key(name)
    wish: dict[str, Any] = {
        "name": name,
        "public": secret.public,
        "curve": secret.curve_public,
        "roles": certificates.ROLES,
        "publish": [ALL],
        "read": [ALL],
        "nbf": NOW - 3600,
        "exp": NOW + 3600,
        "jti": "1",
    }
    return certificates.issue(root, **{**wish, **changes})


def forged(
    header: object = None, claims: object = None, *, by: SecretKey = ROOT, **changes: Any
) -> bytes:
    """A token rightly signed by a root over whatever JSON (or bytes) one gives it."""
    first, second, _ = token().split(b".")
    segments = [
        _changed(first, header, {}),
        _changed(second, claims, changes),
    ]
    return resigned(b".".join(segments), by)


def _changed(segment: bytes, value: object, changes: dict[str, Any]) -> bytes:
    if value is None:
        value = json.loads(unb64(segment)) | changes
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b64url_encode(raw).encode()


def resigned(signed: bytes, by: SecretKey = ROOT) -> bytes:
    """A compact JWS over these two segments, by `cryptography`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signature = Ed25519PrivateKey.from_private_bytes(by.seed).sign(signed)
    return signed + b"." + b64url_encode(signature).encode()


def unb64(segment: bytes) -> bytes:
    return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


EVENT = Event(
    repo="team/app",
    branch="default",
    journal=JOURNAL,
    sequence=1,
    time="2026-11-21T09:15:02.123456Z",
    transaction=Transaction("t1", "serve", "serve"),
)


def event(**changes: Any) -> Event:
    return replace(EVENT, **changes)


def message(value: Event = EVENT, signer: str = "publisher", **changes: Any) -> envelope.Message:
    """A signed message of an event, with the certificate of its signer."""
    data = events.encode(value)
    return envelope.Message(
        **{
            "topic": value.topic.encode(),
            "event": data,
            "signature": envelope.sign(data, key(signer).seed),
            "certificate": token(signer),
            **changes,
        }
    )


def chain(branches: str) -> list[tuple[Event, str]]:
    """A journal of one event per letter, on the branch of that letter, with their digests."""
    last: dict[str, Link] = {}
    out = []
    for sequence, branch in enumerate(branches, 1):
        value = event(branch=branch, sequence=sequence, previous=last.get(branch))
        sha256 = events.digest(events.encode(value))
        last[branch] = Link(sequence, sha256)
        out.append((value, sha256))
    return out
