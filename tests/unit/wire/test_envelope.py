"""What is signed, and the four frames of an event that travels alone."""

import pytest
import wirekit

from hgext_zmqhooks.wire import envelope, events
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.errors import Refused

KEY = wirekit.key("publisher")
ORDER = 2**252 + 27742317777372353535851937790883648493


def test_a_signature_fits_its_event_and_key() -> None:
    signature = envelope.sign(b"event", KEY.seed)

    envelope.verify(b"event", signature, KEY.public)
    assert len(signature) == 64


def malleable(signature: bytes) -> bytes:
    """The same signature with S + L, which a lax verifier takes too."""
    return signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(
        32, "little"
    )


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (b"event.", bytes),
        (b"event", lambda s: bytes([s[0] ^ 1]) + s[1:]),
        (b"event", lambda s: s[:-1]),
        (b"event", lambda s: s + b"\0"),
        (b"event", lambda _: b""),
        (b"event", lambda _: bytes(64)),
        (b"event", malleable),
    ],
)
def test_anything_else_does_not(event: bytes, change) -> None:
    signature = change(envelope.sign(b"event", KEY.seed))

    with pytest.raises(Refused) as caught:
        envelope.verify(event, signature, KEY.public)

    assert caught.value.kind == "bad-signature"


SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize("public", SMALL_ORDER)
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_that_fits_every_message_signs_none(public: bytes, point: bytes) -> None:
    """With a key of small order, R of small order and S = 0 a lax verifier accepts anything."""
    assert not envelope.verified(b"anything", point + bytes(32), public)


def test_a_certificate_signature_is_none_over_an_event() -> None:
    """What a key signs elsewhere, without the pre-authentication encoding, is no event."""
    from nacl import bindings

    secret = bindings.crypto_sign_seed_keypair(KEY.seed)[1]
    raw = bindings.crypto_sign(b"event", secret)[:64]

    with pytest.raises(Refused):
        envelope.verify(b"event", raw, KEY.public)


def test_lengths_stand_in_what_is_signed() -> None:
    assert envelope.pae(b"") == b"DSSEv1 28 application/cloudevents+json 0 "
    assert envelope.pae("é".encode()) == b"DSSEv1 28 application/cloudevents+json 2 \xc3\xa9"


def test_a_message_survives_its_frames() -> None:
    message = wirekit.message()

    assert Message.from_frames(message.frames()) == message


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"", b"", bytes(64)],
        [b"", b"", bytes(64), b"", b""],
        [b"", b"", bytes(63), b""],
        [b"", b"", bytes(65), b""],
        [b"", bytes(events.MAX_LENGTH + 1), bytes(64), b""],
    ],
)
def test_other_frames_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(Refused) as caught:
        Message.from_frames(frames)

    assert caught.value.kind == "bad-frames"
