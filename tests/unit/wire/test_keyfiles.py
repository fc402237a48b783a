"""Key files, public keys and the two alphabets: one spelling each, and no secret in an error."""

import json
import time

import pytest
import wirekit

from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey

KEY = wirekit.key("publisher", b"a.b.c")


def test_a_key_survives_its_file() -> None:
    assert SecretKey.decode(KEY.encode()) == KEY
    assert SecretKey.decode(wirekit.ROOT.encode()) == wirekit.ROOT


def test_a_new_key_is_a_new_one() -> None:
    one, other = keyfiles.generate("x"), keyfiles.generate("x")

    assert one.certificate is None
    assert len(one.public) == 32
    assert len(one.curve_public) == 40
    assert len({one.seed, other.seed}) == len({one.curve_secret, other.curve_secret}) == 2


def test_no_secret_is_shown() -> None:
    shown = repr(KEY)

    assert KEY.curve_secret not in shown
    assert repr(KEY.seed) not in shown


def changed(**values: object) -> bytes:
    return json.dumps(json.loads(KEY.encode()) | values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        KEY.encode() + b"x",
        KEY.encode().replace(b'"version": 1', b'"version": 1, "version": 1'),
        changed(version=2),
        changed(version=None),
        changed(name=""),
        changed(name=1),
        changed(name="\ud800"),
        changed(ed25519=keyfiles.b64url_encode(bytes(31))),
        changed(ed25519=keyfiles.b64url_encode(KEY.seed) + "="),
        changed(ed25519="ü" * 43),
        changed(curve=KEY.curve_secret[:-1]),
        changed(curve=KEY.curve_secret[:-5]),
        changed(curve="~" * 40),
        changed(curve="#" * 40),
        changed(certificate=None),
        changed(certificate=""),
        changed(certificate="\udfff"),
    ],
)
def test_what_is_no_key_file_is_refused_without_showing_it(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        SecretKey.decode(data)

    assert caught.value.kind == "bad-key"
    assert KEY.curve_secret[:8] not in str(caught.value)
    assert keyfiles.b64url_encode(KEY.seed)[:8] not in str(caught.value)


def test_a_public_key_survives_its_pem() -> None:
    pem = keyfiles.encode_public_pem(KEY.public)

    assert keyfiles.decode_public_pem(pem) == KEY.public
    assert keyfiles.decode_public_pem(b"\n" + pem.replace(b"\n", b"\r\n")) == KEY.public


PEM = keyfiles.encode_public_pem(KEY.public)
X25519 = PEM.replace(b"MCowBQYDK2VwAyEA", b"MCowBQYDK2VuAyEA")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        KEY.public,
        PEM[1:],
        PEM + b"x",
        PEM + PEM,
        PEM.replace(b"PUBLIC", b"PRIVATE"),
        PEM.replace(b"MCow", b"MCo"),
        PEM.replace(b"MCow", b"MCox"),
        PEM.replace(b"\n-----END", b"AAAA\n-----END"),
        X25519,
        PEM + b" " * 2000,
    ],
)
def test_another_pem_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        keyfiles.decode_public_pem(data)

    assert caught.value.kind == "bad-root"


def test_a_pem_of_blanks_costs_nothing() -> None:
    start = time.thread_time()
    with pytest.raises(Refused):
        keyfiles.decode_public_pem(b"-----BEGIN PUBLIC KEY-----" + b" " * 10_000_000)

    assert time.thread_time() - start < 1


@pytest.mark.parametrize(
    "text", ["=", "AA==", "AA=", "AB", "A", "A A", "+/", "é", "AAAA\n", "\ud800"]
)
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="not base64url"):
        keyfiles.b64url_decode(text)


@pytest.mark.parametrize("text", ["A", "HelloWorl", "#####", "Hell~", "é0000", "%nSc1"])
def test_what_is_no_z85_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Z85|not found"):
        keyfiles.z85_decode(text)


def test_z85_needs_whole_words() -> None:
    with pytest.raises(ValueError, match="multiple of four"):
        keyfiles.z85_encode(b"abc")


def test_the_largest_z85_word() -> None:
    assert keyfiles.z85_decode(keyfiles.z85_encode(b"\xff" * 4)) == b"\xff" * 4


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    """Appendix A.3 of RFC 8037."""
    public = keyfiles.b64url_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")

    assert keyfiles.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_file_may_hold_several_public_keys() -> None:
    one, other = (keyfiles.encode_public_pem(key.public) for key in (KEY, wirekit.ROOT))

    assert keyfiles.decode_public_pems(one) == [KEY.public]
    assert keyfiles.decode_public_pems(one + b"\n" + other) == [KEY.public, wirekit.ROOT.public]


@pytest.mark.parametrize("data", [b"", b"\n", PEM[:-3], PEM + b"x", b"x" + PEM, PEM + PEM[1:]])
def test_anything_between_public_keys_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        keyfiles.decode_public_pems(data)

    assert caught.value.kind == "bad-root"
