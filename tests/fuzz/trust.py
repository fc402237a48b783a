"""Targets that decide whom to believe: certificates, keys, signed messages."""

from contextlib import suppress
from dataclasses import replace

import wirekit
from fuzz import mutate, seeds
from fuzz.target import Target, lines, value_or_refused
from nacl import bindings

from hgext_zmqhooks.wire import certificates, envelope, events, keyfiles
from hgext_zmqhooks.wire import revocations as lists
from hgext_zmqhooks.wire.certificates import Certificate
from hgext_zmqhooks.wire.keyfiles import SecretKey, b64url_encode
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked

TOKENS = [
    *seeds.texts("certificates", "valid", "token"),
    *seeds.texts("certificates", "invalid", "token"),
]
VALID = frozenset(seeds.texts("certificates", "valid", "token"))
LISTS = [
    *seeds.texts("revocations", "valid", "token"),
    *seeds.texts("revocations", "invalid", "token"),
]
VALID_LISTS = frozenset(seeds.texts("revocations", "valid", "token"))
CERTIFICATE = certificates.decode(TOKENS[0])
RING = Keyring([wirekit.ROOT.public])
_, ROOT_SECRET = bindings.crypto_sign_seed_keypair(wirekit.ROOT.seed)
UNSIGNED = b"." + b64url_encode(bytes(64)).encode()
HONEST = wirekit.message().frames()
KEYS = [*seeds.texts("keys", "files", "file"), *seeds.texts("keys", "files", "pem")]


def signed_by_root(data: bytes) -> bytes:
    """The first two segments of a token with a right signature."""
    body = b".".join(data.split(b".")[:2])
    signature = bindings.crypto_sign(body, ROOT_SECRET)[:64]
    return body + b"." + b64url_encode(signature).encode()


def certificate(data: bytes) -> None:
    """No token is taken that the root did not sign, and what it did sign is refused or whole."""
    taken = value_or_refused(Keyring([wirekit.ROOT.public]).certificate, data)
    assert taken is None or data in VALID
    read = value_or_refused(certificates.decode, b".".join(data.split(b".")[:2]) + UNSIGNED)
    if read is None:
        return
    token = signed_by_root(data)
    found = value_or_refused(RING.certificate, token)
    if found is None:
        assert read.kid != keyfiles.thumbprint(wirekit.ROOT.public)
        return
    assert found.token == token
    assert (len(found.public), len(keyfiles.z85_decode(found.curve))) == (32, 32)
    assert 0 <= found.nbf < found.exp
    assert found.roles <= set(certificates.ROLES)
    f"{found.iss}{found.sub}{found.jti}{found.kid}".encode()


def revocations(data: bytes) -> None:
    """No list is taken that the root did not sign; what it did sign is refused, or each of its entries revokes what it names and nothing of another root."""  # noqa: E501
    roots = [wirekit.ROOT.public]
    taken = value_or_refused(Keyring, roots, events.decode, [data])
    assert taken is None or data in VALID_LISTS
    if value_or_refused(lists.decode, b".".join(data.split(b".")[:2]) + UNSIGNED) is None:
        return
    token = signed_by_root(data)
    found = lists.decode(token)
    assert lists.issue(wirekit.ROOT, found.number, found.revoked, found.iat)
    own = CERTIFICATE if found.kid == CERTIFICATE.kid else replace(CERTIFICATE, kid=found.kid)
    for entry in found.revoked:
        assert found.find(named := covered(own, entry))
        assert found.find(replace(named, kid="another")) is None
    assert bool(found.find(own)) is any(entry.covers(own) for entry in found.revoked)


def covered(certificate: Certificate, entry: Revoked) -> Certificate:
    """The certificate, changed into one that the entry means."""
    if entry.jti is not None:
        return replace(certificate, jti=entry.jti)
    return replace(certificate, sub=entry.sub, nbf=min(certificate.nbf, entry.before))


def key_file(data: bytes) -> None:
    """Secret and public keys are refused, or read again as themselves from what they encode to."""
    if key := value_or_refused(SecretKey.decode, data):
        assert SecretKey.decode(key.encode()) == key
        assert (len(key.public), len(keyfiles.z85_decode(key.curve_public))) == (32, 32)
        assert repr(key) == repr(replace(key, seed=b"", curve_secret=""))
    if public := value_or_refused(keyfiles.decode_public_pem, data):
        assert keyfiles.decode_public_pem(keyfiles.encode_public_pem(public)) == public
        assert keyfiles.decode_public_pems(data + data) == [public, public]
    if several := value_or_refused(keyfiles.decode_public_pems, data):
        assert all(len(public) == 32 for public in several)
    text = data.decode("latin-1")
    with suppress(ValueError):
        assert keyfiles.b64url_encode(keyfiles.b64url_decode(text)) == text
    with suppress(ValueError):
        assert keyfiles.z85_encode(keyfiles.z85_decode(text)) == text


def message(data: bytes) -> None:
    """Of four frames nothing is authentic but what was signed, with its own topic and signer."""
    topic, event, rest = [*lines(data, 3), b"", b""][:3]
    frames = [topic, event, rest[:64], rest[64:]]

    def authentic(given: list[bytes]) -> object:
        return RING.authenticate(envelope.Message.from_frames(given), wirekit.NOW)

    assert value_or_refused(authentic, frames) is None or frames == HONEST
    at = len(data) % 4
    exchanged = [*HONEST[:at], frames[at], *HONEST[at + 1 :]]
    assert value_or_refused(authentic, exchanged) is None or exchanged == HONEST


TARGETS = (
    Target("certificate", certificate, TOKENS, mutate.token),
    Target("revocations", revocations, LISTS, mutate.token),
    Target("key-file", key_file, KEYS, mutate.key_file),
    Target(
        "message",
        message,
        [b"\n".join([HONEST[0], HONEST[1], HONEST[2] + HONEST[3]]), b"\n\n"],
        mutate.a_line,
    ),
)
