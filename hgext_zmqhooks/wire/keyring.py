"""The keyring: which roots are trusted, what they revoked, and what that makes of a message.

Pure: the time is an argument. The signature of a certificate is checked once and remembered by its
bytes; whether it is revoked is asked every time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from . import envelope, events, jws, revocations
from .certificates import Certificate, decode
from .errors import Refused
from .keyfiles import thumbprint
from .revocations import BAD, RevocationList
from .topics import matches_any
from .values import Event

Read = Callable[[bytes], Event]
"""`events.decode`, or what says the same of the same bytes."""

REMEMBERED = 4096
"""Checked certificates kept; a host has a handful."""


class Standing(Enum):
    """How the time stands to the signer's certificate."""

    VALID = "valid"
    EXPIRED = "expired"
    NOT_YET = "not-yet"


@dataclass(frozen=True, slots=True)
class Authentic:
    """An event whose signature, signer and topic fit; what `standing` means is the caller's."""

    event: Event
    topic: str
    certificate: Certificate
    standing: Standing


@dataclass(frozen=True, slots=True)
class _Trust:
    """What is in force at one time. `roots` and `lists` by the root's thumbprint.

    `known`: the roots that were trusted here at any time. `checked`: certificates that one of
    `roots` signed, by their bytes.
    """

    roots: Mapping[str, bytes] = field(default_factory=dict)
    lists: Mapping[str, RevocationList] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    checked: dict[bytes, Certificate] = field(default_factory=dict)


class RefusedList(Refused):
    """A revocation list was refused; `at`: its place among those given, None if one is missing."""

    def __init__(self, at: int | None, why: Refused) -> None:
        super().__init__(why.kind, why.detail)
        self.at = at


class Keyring:
    """The roots that this process trusts, each a 32-byte Ed25519 public key, and what they revoked.

    `read` reads events, exactly as events.decode does. `revocations`: the tokens of revocation
    lists, at most one of each root; RefusedList as in `replace`.
    """

    def __init__(
        self,
        roots: Iterable[bytes],
        read: Read = events.decode,
        revocations: Iterable[bytes] = (),
    ) -> None:
        self._read = read
        self._trust = _Trust()
        self.replace(roots, revocations)

    def replace(self, roots: Iterable[bytes], revocations: Iterable[bytes]) -> None:
        """Trust these from now on, and nothing else; other threads see the old or the new whole.

        RefusedList, and the old stay in force: "bad-revocations" for what is no list that its root
        signed, or two of one root; "unknown-root" for one of a root that was never trusted here;
        "old-revocations" for one older than that in force, or of its number and with other words,
        or where none is given any more.
        The list of a root that is trusted no longer goes with it.
        """
        old = self._trust
        found = {thumbprint(root): root for root in roots}
        known = old.known | found.keys()
        lists: dict[str, RevocationList] = {}
        for at, token in enumerate(revocations):
            try:
                fresh = _signed_list(token, found, known)
                if fresh is not None:
                    _check_number(fresh, lists.get(fresh.kid), old.lists.get(fresh.kid))
                    lists[fresh.kid] = fresh
            except Refused as error:
                raise RefusedList(at, error) from None
        for kid in found.keys() & old.lists.keys() - lists.keys():
            what = f"none of root {old.lists[kid].iss!r}, of which one is in force"
            raise RefusedList(None, Refused("old-revocations", what))
        self._trust = _Trust(found, lists, known)

    @property
    def in_force(self) -> tuple[frozenset[str], frozenset[bytes]]:
        """What `replace` was given last: thumbprints of roots, tokens of lists in use."""
        trust = self._trust
        return frozenset(trust.roots), frozenset(one.token for one in trust.lists.values())

    def certificate(self, token: bytes) -> Certificate:
        """The certificate, if a trusted root signed it and has not revoked it.

        Refused "bad-certificate" for its form or signature, "unknown-root" for its signer,
        "revoked".
        """
        trust = self._trust
        certificate = _signed(token, trust)
        _check_revoked(certificate, trust)
        return certificate

    def peer(self, token: bytes, role: str, now: float) -> Certificate:
        """The certificate of a peer that may act as `role` now (unix seconds)."""
        certificate = self.certificate(token)
        if role not in certificate.roles:
            raise Refused("not-allowed", f"{certificate.sub!r} does not have the role {role!r}")
        standing = standing_at(certificate, now)
        if standing is not Standing.VALID:
            raise Refused(
                standing.value, f"the certificate of {certificate.sub!r} is {standing.value}"
            )
        return certificate

    def authenticate(self, message: envelope.Message, now: float) -> Authentic:
        """Check everything about a message but its place in the journal.

        Refused: "wrong-topic", and as `attest`.
        """
        authentic = self.attest(message.event, message.signature, message.certificate, now)
        topic = authentic.topic
        if topic.encode() != message.topic:
            raise Refused("wrong-topic", f"event {authentic.event.id} belongs to {topic!r}")
        return authentic

    def attest(
        self,
        event: bytes,
        signature: bytes,
        token: bytes,
        now: float,
        *,
        signed: bool | None = None,
        vouched: bool = False,
    ) -> Authentic:
        """Check an event that travels without a topic, as the records of a session do.

        `signed`: what `envelope.verified` said of these very arguments, if it was asked already.
        `vouched`: a person answers for the event although its certificate may be revoked; then it
        counts as one under a valid certificate.

        Refused: "bad-certificate", "unknown-root", "bad-signature", "malformed-event",
        "not-allowed" (outside the signer's publish patterns), "revoked".
        """
        trust = self._trust
        certificate = _signed(token, trust)
        if signed is None:
            signed = envelope.verified(envelope.pae(event), signature, certificate.public)
        if not signed:
            raise Refused("bad-signature", "the signature does not fit the event's bytes")
        value = self._read(event)
        topic = value.topic
        if "publisher" not in certificate.roles or not matches_any(certificate.publish, topic):
            raise Refused("not-allowed", f"{certificate.sub!r} may not publish {topic!r}")
        standing = standing_at(certificate, now)
        try:
            _check_revoked(certificate, trust)
        except Refused:
            if not vouched:
                raise
            standing = Standing.VALID
        return Authentic(value, topic, certificate, standing)


def _signed(token: bytes, trust: _Trust) -> Certificate:
    """The certificate, if a trusted root signed it, revoked or not."""
    if known := trust.checked.get(token):
        return known
    certificate = decode(token)
    root = trust.roots.get(certificate.kid)
    if root is None:
        raise Refused(
            "unknown-root",
            f"certificate of {certificate.sub!r} names root {certificate.kid!r},"
            " which is not among the trusted ones",
        )
    if not envelope.verified(*jws.split(token, "bad-certificate"), root):
        raise Refused("bad-certificate", f"the root did not sign {certificate.sub!r}")
    if len(trust.checked) >= REMEMBERED:
        trust.checked.clear()
    trust.checked[token] = certificate
    return certificate


def _check_revoked(certificate: Certificate, trust: _Trust) -> None:
    found = trust.lists.get(certificate.kid)
    entry = found.find(certificate) if found is not None else None
    if entry is not None:
        day = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise Refused(
            "revoked", f"the certificate {certificate.jti} of {certificate.sub!r} was revoked {day}"
        )


def _signed_list(
    token: bytes, roots: Mapping[str, bytes], known: frozenset[str]
) -> RevocationList | None:
    """The list, if its root is trusted and signed it; None where that root was so once."""
    found = revocations.decode(token)
    root = roots.get(found.kid)
    if root is None:
        if found.kid in known:
            return None
        raise Refused(
            "unknown-root",
            f"revocation list of {found.iss!r} names root {found.kid!r},"
            " which is not among the trusted ones",
        )
    if not envelope.verified(*jws.split(token, BAD), root):
        raise Refused(BAD, f"the root {found.iss!r} did not sign it")
    return found


def _check_number(
    fresh: RevocationList, other: RevocationList | None, current: RevocationList | None
) -> None:
    """One list of each root, and none older than the `current` one."""
    if other is not None:
        raise Refused(BAD, f"two lists of root {fresh.iss!r}; the newest is enough")
    if current is None or fresh.number > current.number or fresh.token == current.token:
        return
    what = f"number {fresh.number} of {fresh.iss!r}, and number {current.number} is in force"
    if fresh.number == current.number:
        what = f"another number {fresh.number} of {fresh.iss!r} than the one in force"
    raise Refused("old-revocations", what)


def standing_at(certificate: Certificate, now: float) -> Standing:
    """Valid from nbf up to, not including, exp (RFC 7519)."""
    if now < certificate.nbf:
        return Standing.NOT_YET
    return Standing.VALID if now < certificate.exp else Standing.EXPIRED
