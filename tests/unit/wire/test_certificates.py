"""Certificates: what has the form, and every way to be something else."""

import json

import pytest
import wirekit
from wirekit import NOW, ROOT, forged

from hgext_zmqhooks.wire import certificates
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import b64url_encode, thumbprint, z85_encode

TOKEN = wirekit.token()
HEADER = {"alg": "EdDSA", "typ": certificates.TYP, "kid": thumbprint(ROOT.public)}
CLAIMS = json.loads(wirekit.unb64(TOKEN.split(b".")[1]))
KEY = wirekit.key("publisher")


def test_a_certificate_says_what_was_issued() -> None:
    found = certificates.decode(TOKEN)

    assert (found.iss, found.sub, found.jti) == ("root", "publisher", "1")
    assert (found.nbf, found.exp) == (NOW - 3600, NOW + 3600)
    assert found.kid == thumbprint(ROOT.public)
    assert found.roles == set(certificates.ROLES)
    assert [pattern.text for pattern in found.publish + found.read] == [wirekit.ALL] * 2
    assert (found.public, found.curve) == (KEY.public, KEY.curve_public)
    assert found.token == TOKEN
    assert len(found.sha256) == 64


def refusal(token: bytes) -> str:
    with pytest.raises(Refused) as caught:
        certificates.decode(token)
    assert caught.value.kind == "bad-certificate"
    return caught.value.detail


def segment(data: bytes) -> bytes:
    return b64url_encode(data).encode()


FIRST, SECOND, THIRD = TOKEN.split(b".")
NOT_CANONICAL = THIRD[:-1] + bytes([THIRD[-1] + 1])


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b".",
        b"..",
        b"...",
        FIRST + b"." + SECOND,
        FIRST + b"." + SECOND + b".",
        FIRST + b"." + SECOND + b"." + THIRD[:-2],
        TOKEN + b"=",
        TOKEN + b"\n",
        TOKEN + b"." + THIRD,
        b"." + TOKEN,
        FIRST + b"==." + SECOND + b"." + THIRD,
        FIRST + b"." + SECOND + b"." + NOT_CANONICAL,
        b"\xff" + TOKEN,
        TOKEN.replace(b".", "é.".encode(), 1),
        TOKEN + b"\xff",
        b"A" * (certificates.MAX_LENGTH + 1),
        wirekit.resigned(segment(b"[]") + b"." + SECOND),
        wirekit.resigned(FIRST + b"." + segment(b"null")),
        wirekit.resigned(FIRST + b"." + segment(b"[" * 10_000)),
        wirekit.resigned(FIRST + b"." + segment(b"{")),
    ],
)
def test_what_is_no_compact_jws_is_refused(token: bytes) -> None:
    assert refusal(token)


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"alg": "none"},
        HEADER | {"alg": "HS256"},
        HEADER | {"alg": "ES256"},
        HEADER | {"alg": "Ed25519"},
        HEADER | {"alg": "eddsa"},
        HEADER | {"alg": ["EdDSA"]},
        HEADER | {"typ": "JWT"},
        HEADER | {"crit": []},
        HEADER | {"crit": ["b64"], "b64": False},
        HEADER | {"kid": 1},
        HEADER | {"kid": ""},
        HEADER | {"kid": "\ud800"},
        {"alg": "EdDSA", "typ": certificates.TYP},
        json.dumps(HEADER).encode().replace(b"{", b'{"alg":"none",', 1),
        json.dumps(HEADER).encode().replace(b"}", b',"alg":"EdDSA"}'),
    ],
)
def test_another_header_is_refused(header: object) -> None:
    assert refusal(forged(header))


CNF = CLAIMS["cnf"]


@pytest.mark.parametrize(
    "change",
    [
        {"iss": None},
        {"iss": ""},
        {"sub": "x" * 256},
        {"sub": "\ud800"},
        {"jti": 1},
        {"nbf": True},
        {"nbf": 1.5},
        {"nbf": -1},
        {"nbf": "1"},
        {"exp": certificates.LAST + 1},
        {"exp": 10**400},
        {"exp": float("nan")},
        {"exp": NOW - 3600},
        {"roles": "publisher"},
        {"roles": ["admin"]},
        {"roles": [["publisher"]]},
        {"roles": {"publisher": 1}},
        {"publish": None},
        {"publish": [1]},
        {"publish": ["hg:**"]},
        {"read": ["**"]},
        {"read": ["hg:\udc00:x:"]},
        {"cnf": None},
        {"cnf": []},
        {"cnf": {"curve": CNF["curve"]}},
        {"cnf": CNF | {"jwk": "x"}},
        {"cnf": CNF | {"jwk": CNF["jwk"] | {"kty": "EC"}}},
        {"cnf": CNF | {"jwk": CNF["jwk"] | {"crv": "X25519"}}},
        {"cnf": CNF | {"jwk": CNF["jwk"] | {"x": CNF["jwk"]["x"] + "="}}},
        {"cnf": CNF | {"jwk": CNF["jwk"] | {"x": b64url_encode(bytes(31))}}},
        {"cnf": CNF | {"jwk": CNF["jwk"] | {"x": None}}},
        {"cnf": CNF | {"jwk": {"kty": "OKP", "crv": "Ed25519"}}},
        {"cnf": CNF | {"curve": z85_encode(bytes(28))}},
        {"cnf": CNF | {"curve": "~" * 40}},
        {"cnf": CNF | {"curve": 1}},
    ],
)
def test_a_wrong_claim_is_refused(change: dict[str, object]) -> None:
    assert refusal(forged(**change))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_missing_claim_is_refused(claim: str) -> None:
    assert refusal(forged(claims={key: CLAIMS[key] for key in CLAIMS if key != claim}))


def test_a_claim_that_stands_twice_is_refused() -> None:
    """Another reader might take the first one."""
    twice = json.dumps(CLAIMS).encode().replace(b"{", b'{"sub":"admin",', 1)

    assert refusal(forged(claims=twice))


def test_claims_that_we_do_not_know_are_no_fault() -> None:
    assert certificates.decode(forged(aud="x", new={"a": 1})).sub == "publisher"


@pytest.mark.parametrize(
    "wish",
    [
        {"roles": ["admin"]},
        {"publish": ["hg:app"]},
        {"nbf": NOW, "exp": NOW},
        {"name": ""},
        {"public": bytes(31)},
        {"curve": "x"},
        {"read": ["hg:" + "a" * 3000 + ":b:"] * 10},
    ],
)
def test_nothing_is_issued_that_would_be_refused(wish: dict[str, object]) -> None:
    with pytest.raises(Refused):
        wirekit.token(**wish)
