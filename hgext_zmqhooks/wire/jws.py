"""A compact JWS (RFC 7515) as roots sign it: EdDSA only, three segments, one spelling each.

    base64url(header) "." base64url(claims) "." base64url(signature)
    header   {"alg":"EdDSA","typ":…,"kid":<RFC 7638 thumbprint of the root>}

Whoever reads one says which kind of refusal (`kind`) a wrong form is. Nothing here looks at who
signed; `split` gives what that needs.
"""

import json
from typing import Any

from nacl import bindings

from .errors import Refused
from .keyfiles import SecretKey, b64url_decode, b64url_encode, thumbprint
from .reader import parse


def sign(root: SecretKey, typ: str, claims: dict[str, Any]) -> bytes:
    """The token of type `typ` by which `root` says these claims."""
    header = {"alg": "EdDSA", "typ": typ, "kid": thumbprint(root.public)}
    signed = f"{_segment(header)}.{_segment(claims)}".encode()
    keypair = bindings.crypto_sign_seed_keypair(root.seed)[1]
    signature = bindings.crypto_sign(signed, keypair)[:64]
    return signed + b"." + b64url_encode(signature).encode()


def _segment(value: object) -> str:
    return b64url_encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def split(token: bytes, kind: str) -> tuple[bytes, bytes]:
    """The signed bytes and the 64 bytes of the signature."""
    signed, dot, signature = token.rpartition(b".")
    try:
        raw = b64url_decode(signature.decode("ascii"))
    except ValueError:
        raw = b""
    if not dot or len(raw) != 64:
        raise Refused(kind, "not a compact JWS with an Ed25519 signature")
    return signed, raw


def type_of(token: bytes) -> object:
    """What the header says the token is; None for what is no token."""
    try:
        return _object(token.split(b".")[0], "").get("typ")
    except Refused:
        return None


def read(token: bytes, typ: str, kind: str, most: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token of at most `most` bytes, whoever signed it."""
    if len(token) > most:
        raise Refused(kind, f"{len(token)} bytes, at most {most}")
    segments = split(token, kind)[0].split(b".")
    if len(segments) != 2:
        raise Refused(kind, "not a compact JWS of three segments")
    header, claims = (_object(segment, kind) for segment in segments)
    if header.get("alg") != "EdDSA" or header.get("typ") != typ or "crit" in header:
        raise Refused(kind, f"header is not alg EdDSA, typ {typ}")
    return header, claims


def _object(segment: bytes, kind: str) -> dict[str, Any]:
    try:
        value = parse(b64url_decode(segment.decode("ascii")))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(kind, "a segment is not a JSON object in base64url")
    return value
