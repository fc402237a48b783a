"""The envelope: which bytes are signed, and the four frames that travel.

The signature is Ed25519 over the DSSE v1 pre-authentication encoding of the event's exact bytes:

    "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body        type = application/cloudevents+json

The same bytes are signed, journalled, sent, stored and replayed; nothing is ever re-encoded.

    message = topic | event | signature (64 bytes) | certificate (compact JWS)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import BadSignatureError

from .errors import Refused
from .events import MAX_LENGTH

PAYLOAD_TYPE = b"application/cloudevents+json"
SIGNATURE_LENGTH = 64


def pae(body: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding (https://github.com/secure-systems-lab/dsse).

    >>> pae(b"{}")
    b'DSSEv1 28 application/cloudevents+json 2 {}'
    """
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(body), body)


def sign(event: bytes, seed: bytes) -> bytes:
    """The 64-byte signature of these event bytes under a 32-byte Ed25519 seed."""
    _, secret = bindings.crypto_sign_seed_keypair(seed)
    return bindings.crypto_sign(pae(event), secret)[:SIGNATURE_LENGTH]


def verify(event: bytes, signature: bytes, public: bytes) -> None:
    """Return if `public` signed exactly these bytes, else Refused "bad-signature"."""
    if not verified(pae(event), signature, public):
        raise Refused("bad-signature", "the signature does not fit the event's bytes")


def verified(message: bytes, signature: bytes, public: bytes) -> bool:
    """Whether this is the Ed25519 signature of `message`."""
    if len(signature) != SIGNATURE_LENGTH:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it travels alone: on the live path and on the broadcast socket."""

    topic: bytes
    event: bytes
    signature: bytes
    certificate: bytes

    def frames(self) -> list[bytes]:
        """The four ZeroMQ frames."""
        return [self.topic, self.event, self.signature, self.certificate]

    @classmethod
    def from_frames(cls, frames: Sequence[bytes]) -> "Message":
        """Refused "bad-frames" unless there are four and the third has 64 bytes.

        A large event is refused here, before anybody hashes it.
        """
        if len(frames) != 4:
            raise Refused("bad-frames", f"{len(frames)} frames instead of 4")
        if len(frames[1]) > MAX_LENGTH:
            raise Refused("bad-frames", f"event of {len(frames[1])} bytes, at most {MAX_LENGTH}")
        if len(frames[2]) != SIGNATURE_LENGTH:
            raise Refused("bad-frames", f"signature of {len(frames[2])} bytes instead of 64")
        return cls(*frames)
