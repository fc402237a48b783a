"""Revocation lists: which certificates of a root count no more, signed by that root.

A compact JWS, as a certificate is, kept as text in a file such as `root.crl`:

    header   {"alg":"EdDSA","typ":"zmqhooks-crl+jwt","kid":<RFC 7638 thumbprint of the root>}
    payload  {"iss":root,"iat":s,"number":n,"revoked":[
                {"jti":id,"at":s},                 that certificate; "sub" may say whose it was
                {"sub":name,"before":s,"at":s}]}   all of that name whose nbf is not after `before`

A list speaks only of the certificates of the root that signed it. It has no end of its own: the one
with the highest `number` counts, and every change makes a new number. A name that was revoked can
be certified anew, from the second after `before` on.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from . import jws
from .certificates import LAST, Certificate
from .keyfiles import SecretKey
from .reader import Reader

TYP = "zmqhooks-crl+jwt"
MAX_LENGTH = 1024 * 1024
"""Bytes; enough for about 7,000 entries by id."""

BAD = "bad-revocations"
"""The kind of refusal of what is no revocation list."""

_NAME = re.compile(".{1,255}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry. By `jti`: that certificate. Without it: those of `sub` up to `before`.

    `at`, `before`: unix seconds; `at` is when it was entered, and decides nothing.
    """

    at: int
    jti: str | None = None
    sub: str | None = None
    before: int | None = None

    def covers(self, certificate: Certificate) -> bool:
        """Whether it means this certificate of the list's root."""
        if self.before is None:
            return certificate.jti == self.jti
        return certificate.sub == self.sub and certificate.nbf <= self.before

    def as_dict(self) -> dict[str, str | int]:
        """The entry as it is written."""
        values: dict[str, str | int | None] = {
            "jti": self.jti,
            "sub": self.sub,
            "before": self.before,
            "at": self.at,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class RevocationList:
    """What a list says. `iat` is when it was signed, in unix seconds; `token` the exact JWS."""

    token: bytes
    kid: str
    iss: str
    iat: int
    number: int
    revoked: tuple[Revoked, ...]

    def find(self, certificate: Certificate) -> Revoked | None:
        """The entry that covers a certificate, where this list's root signed it."""
        if certificate.kid != self.kid:
            return None
        found = self._by_id.get(certificate.jti) or self._by_name.get(certificate.sub)
        return found if found is not None and found.covers(certificate) else None

    @cached_property
    def _by_id(self) -> dict[str, Revoked]:
        return {one.jti: one for one in self.revoked if one.jti is not None}

    @cached_property
    def _by_name(self) -> dict[str | None, Revoked]:
        """The entry of each name that goes furthest."""
        by_name = [one for one in self.revoked if one.before is not None]
        return {one.sub: one for one in sorted(by_name, key=lambda one: one.before or 0)}


def issue(root: SecretKey, number: int, revoked: Iterable[Revoked], now: int) -> bytes:
    """The list of this number; what comes out is what `decode` accepts, else Refused."""
    claims = {
        "iss": root.name,
        "iat": now,
        "number": number,
        "revoked": [one.as_dict() for one in revoked],
    }
    token = jws.sign(root, TYP, claims)
    decode(token)
    return token


def decode(token: bytes) -> RevocationList:
    """What the token says, if it has the form; its signature is not looked at here.

    Refused "bad-revocations" otherwise.
    """
    header, claims = jws.read(token, TYP, BAD, MAX_LENGTH)
    head, body = Reader(header, BAD), Reader(claims, BAD)
    if not isinstance(claims.get("revoked"), list):
        raise body.refuse("revoked", "a list")
    return RevocationList(
        token=token,
        kid=head.text("kid"),
        iss=body.text("iss"),
        iat=_seconds(body, "iat"),
        number=body.number("number", 1),
        revoked=body.each("revoked", _entry),
    )


def _entry(reader: Reader) -> Revoked:
    """By id or by name: an entry that could be read as both, or as neither, is refused."""
    if ("jti" in reader) == ("before" in reader):
        raise reader.refuse("jti", "there, or `sub` and `before` instead of it")
    at = _seconds(reader, "at")
    if "jti" in reader:
        return Revoked(at, jti=reader.text("jti", _NAME), sub=reader.maybe("sub"))
    return Revoked(at, sub=reader.text("sub", _NAME), before=_seconds(reader, "before"))


def _seconds(reader: Reader, key: str) -> int:
    value = reader.number(key)
    if value > LAST:
        raise reader.refuse(key, f"unix seconds up to {LAST}")
    return value
