"""Signs what a webhook sends, as Standard Webhooks 1.0.0 says.

    webhook-id: s7t276pz3ah2vicrhq2ly7iioe
    webhook-timestamp: 1795257302
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4= v1a,hnO3f9T8Ytu9HwrXslvu…

What is signed is `id.timestamp.body`, by each secret: while a secret is replaced, the old one and
the new one sign, and the receiver finds the one that it knows. A secret is a line of text, as it is
handed to the receiver:

    whsec_BASE64    24 to 64 bytes shared with the receiver, for HMAC-SHA256 (v1)
    whsk_BASE64     an Ed25519 key (seed, or seed and public key), for v1a; receivers have whpk_…
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping

from nacl import bindings

SHARED, PRIVATE = "whsec_", "whsk_"

Signer = Callable[[bytes], str]


def signer(secret: str) -> Signer:
    """What signs with a secret; ValueError, which repeats nothing of it, if it is none.

    >>> said = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    >>> signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")(said)
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    >>> signer("whsec_short")
    Traceback (most recent call last):
    ...
    ValueError: holds no secret such as whsec_BASE64 of 24 to 64 bytes, or whsk_BASE64
    """
    if secret.startswith(SHARED) and 24 <= len(key := _bytes(secret, SHARED)) <= 64:
        return lambda data: f"v1,{_text(hmac.digest(key, data, hashlib.sha256))}"
    if secret.startswith(PRIVATE) and len(key := _bytes(secret, PRIVATE)) in {32, 64}:
        return lambda data: f"v1a,{_text(_ed25519(data, key[:32]))}"
    raise ValueError("holds no secret such as whsec_BASE64 of 24 to 64 bytes, or whsk_BASE64")


def headers(delivery: str, now: float, body: bytes, signers: Iterable[Signer]) -> Mapping[str, str]:
    """The three headers; without secrets no signature."""
    stamp = str(int(now))
    signed = b".".join((delivery.encode(), stamp.encode(), body))
    made = {"webhook-id": delivery, "webhook-timestamp": stamp}
    if signature := " ".join(sign(signed) for sign in signers):
        made["webhook-signature"] = signature
    return made


def _ed25519(data: bytes, seed: bytes) -> bytes:
    _, key = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(data, key)[:64]


def _bytes(secret: str, prefix: str) -> bytes:
    text = secret.removeprefix(prefix).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
