"""Key files and public keys as bytes; who may read a file is decided by `keys/files.py`.

    N.key     JSON {"version":1,"name":…,"ed25519":B64URL,"curve":Z85,"certificate":JWS}
    root.key  the same without the certificate
    root.pub  PEM, SubjectPublicKeyInfo of the Ed25519 public key (RFC 8410)

`ed25519` is the 32-byte seed of the signing key, `curve` the secret Curve25519 key in ZeroMQ's
Z85 form (RFC 32 of ZeroMQ). Any language can read them.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from nacl import bindings
from nacl.utils import random

from .errors import Refused
from .reader import parse

VERSION = 1
_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")
_PEM = re.compile(
    rb"\s*-----BEGIN PUBLIC KEY-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END PUBLIC KEY-----\s*"
)
_PEM_LENGTH = 1024
_PEM_END = b"-----END PUBLIC KEY-----"
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A name, its two secret keys and the certificate that a root gave it (None for a root).

    `seed`: 32 bytes, Ed25519. `curve_secret`: 40 characters of Z85. The repr shows no secret.
    """

    name: str
    seed: bytes = field(repr=False)
    curve_secret: str = field(repr=False)
    certificate: bytes | None = None

    @property
    def public(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return bindings.crypto_sign_seed_keypair(self.seed)[0]

    @property
    def curve_public(self) -> str:
        """The Curve25519 public key in Z85."""
        return z85_encode(bindings.crypto_scalarmult_base(z85_decode(self.curve_secret)))

    def encode(self) -> bytes:
        """The bytes of the key file."""
        document: dict[str, object] = {
            "version": VERSION,
            "name": self.name,
            "ed25519": b64url_encode(self.seed),
            "curve": self.curve_secret,
        }
        if self.certificate is not None:
            document["certificate"] = self.certificate.decode()
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> "SecretKey":
        """Refused "bad-key" unless this is a key file; the message never shows its contents."""
        try:
            document = parse(data)
        except ValueError:
            raise Refused("bad-key", "not a key file: no JSON object") from None
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise Refused("bad-key", f"not a key file of version {VERSION}")
        return cls(
            name=_text(document, "name"),
            seed=_seed(_text(document, "ed25519")),
            curve_secret=_curve(_text(document, "curve")),
            certificate=_text(document, "certificate").encode()
            if "certificate" in document
            else None,
        )


def generate(name: str) -> SecretKey:
    """New secret keys from the system's random source, without a certificate."""
    return SecretKey(name=name, seed=random(32), curve_secret=z85_encode(random(32)))


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise Refused("bad-key", f"key file: {key!r} is missing or is not text")
    return value


def _seed(text: str) -> bytes:
    try:
        seed = b64url_decode(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise Refused("bad-key", "key file: 'ed25519' is not 32 bytes of base64url")
    return seed


def _curve(text: str) -> str:
    try:
        raw = z85_decode(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Refused("bad-key", "key file: 'curve' is not 40 characters of Z85")
    return text


def encode_public_pem(public: bytes) -> bytes:
    """`root.pub` of a 32-byte Ed25519 public key."""
    body = base64.b64encode(_DER_PREFIX + public)
    return b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n"


def decode_public_pem(data: bytes) -> bytes:
    """The 32 bytes of an Ed25519 public key; Refused "bad-root" for anything else."""
    match = _PEM.fullmatch(data) if len(data) <= _PEM_LENGTH else None
    try:
        der = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
    except binascii.Error:
        der = b""
    if len(der) != 44 or not der.startswith(_DER_PREFIX):
        raise Refused("bad-root", "not the PEM of an Ed25519 public key")
    return der[len(_DER_PREFIX) :]


def decode_public_pems(data: bytes) -> list[bytes]:
    """The public keys of one PEM after another, at least one; else Refused "bad-root".

    While a root is replaced, its file holds the old and the new one.
    """
    *blocks, rest = data.split(_PEM_END)
    if not blocks or rest.strip():
        raise Refused("bad-root", "not the PEM of Ed25519 public keys, one after another")
    return [decode_public_pem(block + _PEM_END) for block in blocks]


def thumbprint(public: bytes) -> str:
    """RFC 7638 thumbprint of the key as a JWK: what a certificate's `kid` names."""
    jwk = json.dumps(
        {"crv": "Ed25519", "kty": "OKP", "x": b64url_encode(public)}, separators=(",", ":")
    )
    return b64url_encode(hashlib.sha256(jwk.encode()).digest())


def b64url_encode(data: bytes) -> str:
    r"""Base64url without padding, as JOSE writes it.

    >>> b64url_encode(b"\xff\xfe")
    '__4'
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64url_decode(text: str) -> bytes:
    r"""The bytes, where `text` is exactly what `b64url_encode` makes of them; else ValueError.

    >>> b64url_decode("__4")
    b'\xff\xfe'
    >>> b64url_decode("__5")
    Traceback (most recent call last):
    ...
    ValueError: not base64url
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("not base64url") from None
    if b64url_encode(data) != text:
        raise ValueError("not base64url")
    return data


def z85_encode(data: bytes) -> str:
    """ZeroMQ's Z85 form of a multiple of four bytes.

    >>> z85_encode(bytes.fromhex("864fd26fb559f75b"))
    'HelloWorld'
    """
    if len(data) % 4:
        raise ValueError("Z85 needs a multiple of four bytes")
    out = []
    for start in range(0, len(data), 4):
        value = int.from_bytes(data[start : start + 4])
        out += [_Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0)]
    return "".join(out)


def z85_decode(text: str) -> bytes:
    """The bytes of a Z85 text; ValueError for anything else.

    >>> z85_decode("HelloWorld").hex()
    '864fd26fb559f75b'
    """
    if len(text) % 5:
        raise ValueError("not Z85")
    out = b""
    for start in range(0, len(text), 5):
        value = 0
        for character in text[start : start + 5]:
            value = value * 85 + _Z85.index(character)
        if value >> 32:
            raise ValueError("not Z85")
        out += value.to_bytes(4)
    return out
