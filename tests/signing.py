"""Signed events without Mercurial: a root, certificates, and journals that chain."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.wire import certificates, envelope, events, keyfiles
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.session import Events, Record
from hgext_zmqhooks.wire.values import Changeset, Continued, Event, Link, Pusher, Transaction

NOW = 1_800_000_000.0
DAY = 86400
ROOT = keyfiles.generate("root")
KEYRING = Keyring([ROOT.public])


def certified(
    name: str,
    *,
    root: SecretKey = ROOT,
    roles: Sequence[str] = ("publisher",),
    publish: Sequence[str] = ("hg:**:**:",),
    read: Sequence[str] = (),
    nbf: float = NOW - DAY,
    exp: float = NOW + DAY,
) -> SecretKey:
    """A key with a certificate."""
    key = keyfiles.generate(name)
    token = certificates.issue(
        root,
        name=name,
        public=key.public,
        curve=key.curve_public,
        roles=roles,
        publish=publish,
        read=read,
        nbf=int(nbf),
        exp=int(exp),
        jti=name,
    )
    return SecretKey(name, key.seed, key.curve_secret, token)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def node(number: int) -> str:
    return f"{number:040x}"


def changeset(number: int, **values: object) -> Changeset:
    plain: dict[str, object] = {
        "node": node(number),
        "parents": (node(number - 1),) if number else (),
        "user": "Alice <alice@example.com>",
        "date": "2026-11-21T10:15:00+01:00",
        "description": f"change {number}",
        "phase": "draft",
        "files": ("src/a.py",),
    }
    return Changeset(**(plain | values))  # type: ignore[arg-type]


@dataclass
class Journal:
    """Makes the events of one repository, one after another, each chained to its branch."""

    signer: SecretKey
    repo: str = "app"
    journal: str = "1" * 32
    sequence: int = 0
    continuing: bool = False
    last: dict[str, Link] = field(default_factory=dict)

    def record(
        self,
        branch: str = "default",
        *,
        signer: SecretKey | None = None,
        parts: tuple[int, int] = (1, 1),
        continues: Continued | None = None,
        **changes: object,
    ) -> Record:
        """The next event, signed; `changes` replace fields after all others were computed."""
        self.sequence += 1
        values: dict[str, object] = {
            "repo": self.repo,
            "branch": branch,
            "journal": self.journal,
            "sequence": self.sequence,
            "time": "2026-11-21T09:15:02.123456Z",
            "transaction": Transaction(
                f"t{self.sequence - parts[0]}", "serve", "serve", parts[0], parts[1]
            ),
            "previous": self.last.get(branch),
            "continuing": self.continuing,
            "continues": continues,
            "pusher": Pusher("alice", "ssh"),
            "changesets": (changeset(self.sequence),),
        }
        return self.sealed(Event(**(values | changes)), signer)  # type: ignore[arg-type]

    def sealed(self, event: Event, signer: SecretKey | None = None) -> Record:
        data = events.encode(event)
        self.last[event.branch] = Link(event.sequence, events.digest(data))
        signer = signer or self.signer
        assert signer.certificate is not None
        return Record(
            self.sequence,
            sha256(signer.certificate),
            envelope.sign(data, signer.seed),
            data,
        )


def batch(
    records: Sequence[Record],
    *signers: SecretKey,
    journal: str = "1" * 32,
    scanned: int | None = None,
) -> Events:
    """An EVENTS message with these records and the signers' certificates."""
    last = records[-1].sequence if records else 0
    tokens = tuple(signer.certificate or b"" for signer in signers)
    return Events(journal, last if scanned is None else scanned, tokens, tuple(records))
