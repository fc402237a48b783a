"""Certificates: who a key belongs to and what it may do, signed by a root.

A compact JWS (RFC 7515), EdDSA only, that any JOSE library can read:

    header   {"alg":"EdDSA","typ":"zmqhooks-cert+jwt","kid":<RFC 7638 thumbprint of the root>}
    payload  {"iss":root,"sub":name,"jti":id,"nbf":s,"exp":s,"roles":[…],"publish":[pattern…],
              "read":[pattern…],"cnf":{"jwk":{"kty":"OKP","crv":"Ed25519","x":…},"curve":Z85}}

`decode` reads the form. Whether a trusted root signed it is the keyring's question.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nacl import bindings

from .errors import Refused
from .keyfiles import SecretKey, b64url_decode, b64url_encode, thumbprint, z85_decode
from .reader import parse
from .topics import Pattern

TYP = "zmqhooks-cert+jwt"
ROLES = ("publisher", "subscriber", "relay")
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
    header = {"alg": "EdDSA", "typ": TYP, "kid": thumbprint(root.public)}
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
    signed = f"{_segment(header)}.{_segment(claims)}".encode()
    keypair = bindings.crypto_sign_seed_keypair(root.seed)[1]
    signature = bindings.crypto_sign(signed, keypair)[:64]
    token = signed + b"." + b64url_encode(signature).encode()
    decode(token)
    return token


def _segment(value: object) -> str:
    return b64url_encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def split_token(token: bytes) -> tuple[bytes, bytes]:
    """The signed bytes and the signature of a compact JWS."""
    signed, dot, signature = token.rpartition(b".")
    try:
        raw = b64url_decode(signature.decode("ascii"))
    except ValueError:
        raw = b""
    if not dot or len(raw) != 64:
        raise Refused("bad-certificate", "not a compact JWS with an Ed25519 signature")
    return signed, raw


def decode(token: bytes) -> Certificate:
    """What the token says, if it has the form; its signature is not looked at here.

    Refused "bad-certificate" otherwise.
    """
    if len(token) > MAX_LENGTH:
        raise Refused("bad-certificate", f"{len(token)} bytes, at most {MAX_LENGTH}")
    signed, _ = split_token(token)
    segments = signed.split(b".")
    if len(segments) != 2:
        raise Refused("bad-certificate", "not a compact JWS of three segments")
    header, claims = (_object(segment) for segment in segments)
    if header.get("alg") != "EdDSA" or header.get("typ") != TYP or "crit" in header:
        raise Refused("bad-certificate", f"header is not alg EdDSA, typ {TYP}")
    try:
        return _certificate(token, header, claims)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Refused):
            raise Refused("bad-certificate", error.detail) from None
        raise Refused("bad-certificate", f"claim missing or of the wrong type: {error}") from None


def _object(segment: bytes) -> dict[str, Any]:
    try:
        value = parse(b64url_decode(segment.decode("ascii")))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused("bad-certificate", "a segment is not a JSON object in base64url")
    return value


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
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise Refused("bad-certificate", f"{claim} is not a whole number of seconds")
    return value
