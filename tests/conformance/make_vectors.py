"""Writes tests/conformance/vectors: signed samples of every published form.

    cd tests; python -m conformance.make_vectors            says what is missing or differs
    cd tests; python -m conformance.make_vectors --write    writes the files that are not there yet

Keys and times are fixed and Ed25519 is deterministic, so the same code writes the same files. They
are kept for ever: a file that exists is never overwritten, because events with those bytes are in
somebody's journal. A new form gets a new file.
"""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import wirekit
from wirekit import JOURNAL, NOW, ROOT

from hgext_zmqhooks.wire import (
    certificates,
    envelope,
    events,
    keyfiles,
    messages,
    revocations,
    split,
    topics,
)
from hgext_zmqhooks.wire.keyfiles import thumbprint
from hgext_zmqhooks.wire.revocations import Revoked
from hgext_zmqhooks.wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Record,
    SessionRefused,
    Since,
    Welcome,
)
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import (
    BASELINE,
    Changeset,
    Continued,
    Draft,
    Event,
    Heads,
    Link,
    Move,
    Obsoleted,
    PhaseMove,
    Place,
    Pusher,
    Summary,
    Transaction,
)

FOLDER = Path(__file__).parent / "vectors"
A, B, C, D = ("1a" * 20, "2b" * 20, "3c" * 20, "4d" * 20)
KEY = wirekit.key("publisher", wirekit.token())


def topics_json() -> dict[str, Any]:
    places = [
        ("hg", "team/app", "default"),
        ("hg", "app", "feature: x"),
        ("hg", "a:b%c*d?e", "100%"),
        ("hg", "tabs\tand\x00nul", "line\nbreak"),
        ("hg", "ünï/漢字", "😀 \x85"),
        ("hg", "caf\u00e9", "cafe\u0301"),
        ("buildkite", "acme/core", "main"),
    ]
    fits = [
        ("hg:team/*:default:", "hg:team/app:default:", True),
        ("hg:team/*:default:", "hg:team/a/b:default:", False),
        ("hg:team/**:**:", "hg:team/a/b:x/y:", True),
        ("hg:**:default:", "hg:app:default-2:", False),
        ("hg:app:release-?:", "hg:app:release-é:", True),
        ("hg:app:release-?:", "hg:app:release-/:", False),
        ("hg:app:100%25:", "hg:app:100%25:", True),
        ("hg:*a**b*:*:", "hg:xa/yb:default:", True),
        ("hg:*a**b*:*:", "hg:x/a/yb:default:", False),
    ]
    return {
        "topics": [
            {
                "scheme": scheme,
                "name": name,
                "subject": subject,
                "source": topics.source(scheme, name),
                "topic": topics.topic(topics.source(scheme, name), subject),
            }
            for scheme, name, subject in places
        ],
        "patterns": [
            {
                "pattern": pattern,
                "prefix": Pattern.parse(pattern).prefix,
                "topic": topic,
                "matches": matches,
            }
            for pattern, topic, matches in fits
        ],
        "bad_topics": ["hg:a:b", "hg:a:b:c:", "hg::b:", "HG:a:b:", "hg:%41:b:", "hg:%3a:b:"],
        "bad_patterns": ["hg:a", "*:a:b:", "hg:%41*:b:", "hg:a\n:b:", "hg:%C2*%85:b:"],
    }


def sample_events() -> Iterator[tuple[str, bytes]]:
    """Name and exact bytes of an event of each kind."""
    changeset = Changeset(
        node=A,
        parents=(B,),
        user="Alice <alice@example.com>",
        date="2026-11-21T10:15:00+01:00",
        description="Fix the build\n\nIt was broken.",
        phase="draft",
        topic="work",
        closes_branch=True,
        files=("src/a.py", "README"),
    )
    least = wirekit.EVENT
    full = wirekit.event(
        sequence=42,
        previous=Link(40, events.digest(events.encode(least))),
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        transaction=Transaction("t42", "push-response", "serve"),
        pusher=Pusher("alice", "ssh", "192.0.2.7"),
        heads=Heads(A, 1, (A,), (B,)),
        changesets=(changeset,),
        bookmarks=(Move("@", None, A), Move("old", B, None)),
        tags=(Move("1.0", B, A),),
        phases=(PhaseMove(B, "draft", "public"), PhaseMove(C, None, "secret")),
        obsoleted=(
            Obsoleted(
                node=C,
                successors=(A,),
                operation="amend",
                user="alice",
                date="2026-11-21T09:00:00Z",
            ),
        ),
        removed=(D,),
    )
    values: dict[str, Event] = {
        "least": least,
        "all lists": full,
        "baseline": wirekit.event(
            type=BASELINE, sequence=2, branch="stable", summary=Summary(A, (A, B), 1234)
        ),
        "catch-up as a summary": wirekit.event(
            sequence=3, origin="catchup", heads=Heads(A, 1, (A,)), summary=Summary(A, (A,), 5000)
        ),
        "revealed": wirekit.event(sequence=4, origin="revealed", changesets=(changeset,)),
        "ping": wirekit.event(sequence=5, origin="ping"),
        "continuing a branch": wirekit.event(
            continuing=True, continues=Continued("f" * 32, 9, "e" * 64), removed=(A,)
        ),
        "continuing, a new branch": wirekit.event(continuing=True, sequence=2, branch="new"),
        "branch without heads": wirekit.event(sequence=6, heads=Heads(None, 0, (), (A,))),
        "non-ASCII": wirekit.event(
            repo="ünï/漢:字",
            branch='feature: "\u2028😀%\x85',
            sequence=7,
            pusher=Pusher("Ünï", "http"),
            changesets=(
                replace(changeset, user="Jürgen", description="naïve\t\\\x00😀", files=("ä/ö",)),
            ),
        ),
        "cut": wirekit.event(sequence=8, changesets=(replace(changeset, truncated=True),)),
    }
    for name, value in values.items():
        yield name, events.encode(value)
    yield from split_events(changeset)


def split_events(changeset: Changeset) -> Iterator[tuple[str, bytes]]:
    """One transaction in parts."""
    draft = Draft(
        branch="default",
        time=wirekit.EVENT.time,
        transaction=Transaction("t9", "push", "push"),
        heads=Heads(A, 30, tuple(f"{number:040x}" for number in range(30)), (B,)),
        lists={
            "changesets": [split.shrink(replace(changeset, description="x" * 2000), 900)] * 2,
            "removed": [events.encode_item(node) for node in (A, B, C, D) * 8],
        },
    )
    previous = None
    for sequence, part in enumerate(split.drafts(draft, "team/app", 3000), 10):
        place = Place(repo="team/app", journal=JOURNAL, sequence=sequence, previous=previous)
        data = events.assemble(part, place)
        previous = Link(sequence, events.digest(data))
        yield f"part {part.transaction.part} of {part.transaction.parts}", data


def events_json() -> dict[str, Any]:
    samples = list(sample_events())
    return {
        "public": KEY.public.hex(),
        "certificate": wirekit.token().decode(),
        "events": [
            {
                "name": name,
                "event": data.decode(),
                "sha256": events.digest(data),
                "topic": events.decode(data).topic,
                "dsse": envelope.pae(data).decode(),
                "signature": envelope.sign(data, KEY.seed).hex(),
            }
            for name, data in samples
        ],
    }


def certificates_json() -> dict[str, Any]:
    token = wirekit.token()
    header = {"alg": "EdDSA", "typ": certificates.TYP, "kid": thumbprint(ROOT.public)}
    first, second, third = token.decode().split(".")
    claims = json.loads(wirekit.unb64(second.encode()))
    other = wirekit.key("other root")
    doubled = events.dumps(claims).replace(b"{", b'{"sub":"admin",', 1)
    stretched = base64.urlsafe_b64encode(base64.urlsafe_b64decode(third + "==")).decode()
    jwk = claims["cnf"]["jwk"]
    invalid: dict[str, tuple[str, bytes]] = {
        "alg none": ("bad-certificate", wirekit.forged(header | {"alg": "none"})),
        "alg none without a signature": (
            "bad-certificate",
            f"{keyfiles.b64url_encode(events.dumps(header | {'alg': 'none'}))}.{second}.".encode(),
        ),
        "alg HS256": ("bad-certificate", wirekit.forged(header | {"alg": "HS256"})),
        "another typ": ("bad-certificate", wirekit.forged(header | {"typ": "JWT"})),
        "crit": ("bad-certificate", wirekit.forged(header | {"crit": ["b64"], "b64": True})),
        "no kid": ("bad-certificate", wirekit.forged({"alg": "EdDSA", "typ": certificates.TYP})),
        "another root": ("unknown-root", wirekit.token(root=other)),
        "signed by another key": (
            "bad-certificate",
            wirekit.resigned(f"{first}.{second}".encode(), by=other),
        ),
        "another claim than signed": (
            "bad-certificate",
            b".".join([first.encode(), wirekit.token("x").split(b".")[1], third.encode()]),
        ),
        "padded signature": ("bad-certificate", f"{first}.{second}.{stretched}".encode()),
        "claim twice": ("bad-certificate", wirekit.forged(claims=doubled)),
        "half a character": ("bad-certificate", wirekit.forged(sub="\ud800")),
        "unknown role": ("bad-certificate", wirekit.forged(roles=["admin"])),
        "bad pattern": ("bad-certificate", wirekit.forged(publish=["hg:**"])),
        "ends before it begins": ("bad-certificate", wirekit.forged(exp=NOW - 7200)),
        "time as text": ("bad-certificate", wirekit.forged(nbf="0")),
        "P-256 key": (
            "bad-certificate",
            wirekit.forged(cnf=claims["cnf"] | {"jwk": jwk | {"kty": "EC", "crv": "P-256"}}),
        ),
        "short curve key": (
            "bad-certificate",
            wirekit.forged(cnf=claims["cnf"] | {"curve": claims["cnf"]["curve"][:35]}),
        ),
        "five segments": ("bad-certificate", b"a.b.c.d.e"),
    }
    valid = {
        "everything": token,
        "publisher": wirekit.token(
            "hg1", roles=["publisher"], publish=["hg:team/*:**:"], read=[], jti="2"
        ),
        "subscriber": wirekit.token(
            "ci-ü", roles=["subscriber"], publish=[], read=["hg:**:default:"], jti="3"
        ),
        "relay": wirekit.token("relay", roles=["relay"], publish=[], read=[], jti="4"),
    }
    return {
        "root": ROOT.public.hex(),
        "valid": [
            {
                "name": name,
                "token": each.decode(),
                "sha256": certificates.decode(each).sha256,
                "claims": json.loads(wirekit.unb64(each.split(b".")[1])),
            }
            for name, each in valid.items()
        ],
        "invalid": [
            {"name": name, "token": bad.decode(), "kind": kind}
            for name, (kind, bad) in invalid.items()
        ],
    }


def revocations_json() -> dict[str, Any]:
    entries = [
        Revoked(NOW, jti="1"),
        Revoked(NOW + 60, jti="2", sub="hg1-ü"),
        Revoked(NOW + 120, sub="ci", before=NOW + 100),
    ]
    token = revocations.issue(ROOT, 3, entries, NOW + 120)
    header = {"alg": "EdDSA", "typ": revocations.TYP, "kid": thumbprint(ROOT.public)}
    claims = json.loads(wirekit.unb64(token.split(b".")[1]))
    other = wirekit.key("other root")
    ambiguous = [{"jti": "1", "sub": "ci", "before": NOW, "at": NOW}]
    invalid: dict[str, tuple[str, bytes]] = {
        "alg none": ("bad-revocations", wirekit.forged(header | {"alg": "none"}, claims)),
        "typ of a certificate": ("bad-revocations", wirekit.forged(None, claims)),
        "a certificate": ("bad-revocations", wirekit.token()),
        "another root": ("unknown-root", revocations.issue(other, 3, entries, NOW)),
        "signed by another key": (
            "bad-revocations",
            wirekit.resigned(token.rpartition(b".")[0], by=other),
        ),
        "number 0": ("bad-revocations", wirekit.forged(header, claims | {"number": 0})),
        "no entries": (
            "bad-revocations",
            wirekit.forged(header, {"iss": "root", "iat": NOW, "number": 1}),
        ),
        "by id and by name": (
            "bad-revocations",
            wirekit.forged(header, claims | {"revoked": ambiguous}),
        ),
    }
    certificate = {
        "revoked by id": wirekit.token("hg1", jti="2"),
        "revoked by name": wirekit.token("ci", jti="3"),
        "issued anew": wirekit.token("ci", jti="4", nbf=NOW + 101),
        "not revoked": wirekit.token("hg2", jti="5"),
    }
    return {
        "root": ROOT.public.hex(),
        "valid": [
            {"name": name, "token": each.decode(), "claims": json.loads(unpacked)}
            for name, each in {
                "by id and name": token,
                "empty": revocations.issue(ROOT, 1, [], NOW),
            }.items()
            for unpacked in [wirekit.unb64(each.split(b".")[1])]
        ],
        "certificates": [
            {"name": name, "token": each.decode(), "revoked": name.startswith("revoked")}
            for name, each in certificate.items()
        ],
        "invalid": [
            {"name": name, "token": bad.decode(), "kind": kind}
            for name, (kind, bad) in invalid.items()
        ],
    }


def keys_json() -> dict[str, Any]:
    return {
        "files": [
            {
                "file": key.encode().decode(),
                "public": key.public.hex(),
                "curve_public": key.curve_public,
                "pem": keyfiles.encode_public_pem(key.public).decode(),
                "thumbprint": thumbprint(key.public),
            }
            for key in (ROOT, KEY)
        ],
    }


def session_json() -> dict[str, Any]:
    data = events.encode(wirekit.EVENT)
    certificate = certificates.decode(wirekit.token())
    record = Record(1, certificate.sha256, envelope.sign(data, KEY.seed), data)
    info = JournalInfo(JOURNAL, "team/app", 1, 42)
    samples = [
        Hello(wirekit.token("ci"), "ci", "store-1", "instance-1", number=1),
        Welcome("relay", (info, JournalInfo("f" * 32, "ünï", 3, 9, closed=True)), number=1),
        Follow(
            ("hg:**:**:",), {JOURNAL: 7, "f" * 32: None, "e" * 32: Since(1.5)}, 4096, 1, number=2
        ),
        Events(JOURNAL, 3, (certificate.token,), (record,), 1, number=2),
        Events(JOURNAL, 42, round=1, number=3),
        Ack({JOURNAL: 42}, 1000, 1, number=3),
        Beat(number=4),
        Beat((info,), number=4),
        Bye("stopping", number=5),
        SessionRefused("expired", "the certificate of 'ci' is expired", number=5),
    ]
    return {
        "messages": [
            {
                "verb": frames[1].decode(),
                "version": frames[0].decode(),
                "header": frames[2].decode(),
                "payload": frames[3].hex(),
                "cost": messages.cost(frames),
            }
            for frames in map(messages.encode, samples)
        ],
    }


FILES = {
    "topics.json": topics_json,
    "events.json": events_json,
    "certificates.json": certificates_json,
    "keys.json": keys_json,
    "session.json": session_json,
    "revocations.json": revocations_json,
}


def written(name: str) -> str:
    """What today's code would write into the file."""
    return json.dumps(FILES[name](), indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Exit status 0: all files are there and are what today's code writes."""
    problems = 0
    for name in FILES:
        path = FOLDER / name
        if not path.exists() and "--write" in arguments:
            path.write_text(written(name), encoding="ascii")
            print(f"{name}: written")
        elif not path.exists():
            print(f"{name}: missing; --write makes it")
            problems += 1
        elif path.read_text(encoding="ascii") != written(name):
            print(f"{name}: today's code writes something else; a published form must not change")
            problems += 1
    return min(1, problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
