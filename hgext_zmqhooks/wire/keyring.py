"""The keyring: which roots are trusted, and what that makes of a message.

Pure: the time is an argument. A certificate is checked once and remembered by its SHA-256.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from . import envelope, events
from .certificates import Certificate, decode, split_token
from .errors import Refused
from .keyfiles import thumbprint
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


class Keyring:
    """The roots that this process trusts, each a 32-byte Ed25519 public key.

    `read` reads events, exactly as events.decode does.
    """

    def __init__(self, roots: Iterable[bytes], read: Read = events.decode) -> None:
        self._read = read
        self._roots = {thumbprint(root): root for root in roots}
        self._checked: dict[bytes, Certificate] = {}

    def certificate(self, token: bytes) -> Certificate:
        """The certificate, if a trusted root signed it.

        Refused "bad-certificate" for its form or signature, "unknown-root" for its signer.
        """
        if known := self._checked.get(token):
            return known
        certificate = decode(token)
        root = self._roots.get(certificate.kid)
        if root is None:
            raise Refused(
                "unknown-root",
                f"certificate of {certificate.sub!r} names root {certificate.kid!r},"
                " which is not among the trusted ones",
            )
        signed, signature = split_token(token)
        if not envelope.verified(signed, signature, root):
            raise Refused("bad-certificate", f"the root did not sign {certificate.sub!r}")
        if len(self._checked) >= REMEMBERED:
            self._checked.clear()
        self._checked[token] = certificate
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
    ) -> Authentic:
        """Check an event that travels without a topic, as the records of a session do.

        `signed`: what `envelope.verified` said of these very arguments, if it was asked already.

        Refused: "bad-certificate", "unknown-root", "bad-signature", "malformed-event",
        "not-allowed" (outside the signer's publish patterns).
        """
        certificate = self.certificate(token)
        if signed is None:
            signed = envelope.verified(envelope.pae(event), signature, certificate.public)
        if not signed:
            raise Refused("bad-signature", "the signature does not fit the event's bytes")
        value = self._read(event)
        topic = value.topic
        if "publisher" not in certificate.roles or not matches_any(certificate.publish, topic):
            raise Refused("not-allowed", f"{certificate.sub!r} may not publish {topic!r}")
        return Authentic(value, topic, certificate, standing_at(certificate, now))


def standing_at(certificate: Certificate, now: float) -> Standing:
    """Valid from nbf up to, not including, exp (RFC 7519)."""
    if now < certificate.nbf:
        return Standing.NOT_YET
    return Standing.VALID if now < certificate.exp else Standing.EXPIRED
