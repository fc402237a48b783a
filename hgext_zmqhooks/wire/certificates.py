"""Certificates: who a key belongs to and what it may do, signed by a root.

A compact JWS (RFC 7515), EdDSA only, that any JOSE library can read:

    header   {"alg":"EdDSA","typ":"zmqhooks-cert+jwt","kid":<RFC 7638 thumbprint of the root>}
    payload  {"iss":root,"sub":name,"jti":id,"nbf":s,"exp":s,"roles":[…],"publish":[pattern…],
              "read":[pattern…],"cnf":{"jwk":{"kty":"OKP","crv":"Ed25519","x":…},"curve":Z85}}

`decode` reads the form. Whether a trusted root signed it is the keyring's question.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import jws
from .errors import Refused
from .keyfiles import SecretKey, b64url_decode, b64url_encode, z85_decode
from .topics import Pattern

TYP = "zmqhooks-cert+jwt"
ROLES = ("publisher", "subscriber", "relay")
LAST = 253_402_300_799
"""The end of the year 9999 in unix seconds, the last that calendars write."""
MAX_LENGTH = 16_384
"""Bytes; a certificate with a hundred patterns has about 5,000."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `nbf` and `exp` are unix seconds; `token` the exact JWS."""

    token: bytes
    kid: str
    iss: str
    sub: str
    jti: str
    nbf: int
    exp: int
    roles: frozenset[str]
    publish: tuple[Pattern, ...]
    read: tuple[Pattern, ...]
    public: bytes
    curve: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the token: how journals and batches refer to it."""
        return hashlib.sha256(self.token).hexdigest()


def issue(
    root: SecretKey,
    *,
    name: str,
    public: bytes,
    curve: str,
    roles: Iterable[str],
    publish: Iterable[str] = (),
    read: Iterable[str] = (),
    nbf: int,
    exp: int,
    jti: str,
) -> bytes:
    """The token by which `root` vouches for the two public keys of `name`.

    `curve` is Z85, `nbf` and `exp` unix seconds. What comes out is what `decode` accepts:
    Refused for a bad pattern, role or time.
    """
    claims = {
        "iss": root.name,
        "sub": name,
        "jti": jti,
        "nbf": nbf,
        "exp": exp,
        "roles": sorted(roles),
        "publish": list(publish),
        "read": list(read),
        "cnf": {
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(public)},
            "curve": curve,
        },
    }
    token = jws.sign(root, TYP, claims)
    decode(token)
    return token


def decode(token: bytes) -> Certificate:
    """What the token says, if it has the form; its signature is not looked at here.

    Refused "bad-certificate" otherwise.
    """
    header, claims = jws.read(token, TYP, "bad-certificate", MAX_LENGTH)
    try:
        return _certificate(token, header, claims)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Refused):
            raise Refused("bad-certificate", error.detail) from None
        raise Refused("bad-certificate", f"claim missing or of the wrong type: {error}") from None


def _certificate(token: bytes, header: dict[str, Any], claims: dict[str, Any]) -> Certificate:
    jwk = claims["cnf"]["jwk"]
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
        raise Refused("bad-certificate", "cnf.jwk is not an Ed25519 key")
    certificate = Certificate(
        token=token,
        kid=_string(header["kid"], "kid"),
        iss=_string(claims["iss"], "iss"),
        sub=_string(claims["sub"], "sub"),
        jti=_string(claims["jti"], "jti"),
        nbf=_seconds(claims["nbf"], "nbf"),
        exp=_seconds(claims["exp"], "exp"),
        roles=frozenset(_strings(claims["roles"], "roles")),
        publish=tuple(map(Pattern.parse, _strings(claims["publish"], "publish"))),
        read=tuple(map(Pattern.parse, _strings(claims["read"], "read"))),
        public=b64url_decode(_string(jwk["x"], "x")),
        curve=_string(claims["cnf"]["curve"], "curve"),
    )
    if len(certificate.public) != 32 or len(z85_decode(certificate.curve)) != 32:
        raise Refused("bad-certificate", "a key in cnf has not 32 bytes")
    if not certificate.roles <= set(ROLES):
        raise Refused("bad-certificate", f"roles are {', '.join(ROLES)}")
    if certificate.nbf >= certificate.exp:
        raise Refused("bad-certificate", "it ends before it begins")
    return certificate


def _string(value: object, claim: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise Refused("bad-certificate", f"{claim} is not a text of 1 to 255 characters")
    return value


def _strings(value: object, claim: str) -> list[str]:
    if not isinstance(value, list):
        raise Refused("bad-certificate", f"{claim} is not a list")
    if not all(isinstance(item, str) for item in value):
        raise Refused("bad-certificate", f"{claim} has an item that is not text")
    return value


def _seconds(value: object, claim: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LAST:
        raise Refused("bad-certificate", f"{claim} is not a whole number of seconds up to {LAST}")
    return value
