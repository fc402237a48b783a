"""Any bytes are a list that a keyring can use, or refused; a list covers what it says."""

import json
from collections.abc import Callable

import wirekit
from hypothesis import given
from hypothesis import strategies as st
from wirekit import NOW, ROOT

from hgext_zmqhooks.wire import certificates, jws, revocations
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked

NUMBERS = st.integers(-1, 2**70)
TEXTS = st.text(max_size=3)
ENTRY = st.fixed_dictionaries(
    {}, optional={"jti": TEXTS, "sub": TEXTS, "before": NUMBERS, "at": NUMBERS, "x": st.none()}
)
CLAIMS = st.fixed_dictionaries(
    {"iss": TEXTS, "iat": NUMBERS, "number": NUMBERS, "revoked": st.lists(ENTRY, max_size=3)}
)
GOOD = st.one_of(
    st.builds(Revoked, at=st.just(NOW), jti=st.sampled_from("123")),
    st.builds(
        Revoked,
        at=st.just(NOW),
        sub=st.sampled_from(["ci", "hg1"]),
        before=st.integers(NOW - 3, NOW + 3),
    ),
)


TOKEN = wirekit.token()


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    try:
        call(*arguments)
    except Refused as error:
        return error.kind
    return None


@given(st.one_of(st.binary(max_size=80), CLAIMS.map(lambda one: wirekit.forged(None, one))))
def test_any_bytes_are_refused_as_no_list(token: bytes) -> None:
    assert refusal(revocations.decode, token) == "bad-revocations"
    assert jws.type_of(token) in {None, certificates.TYP}


@given(CLAIMS)
def test_any_signed_claims_are_a_list_or_refused(claims: dict[str, object]) -> None:
    header = {"alg": "EdDSA", "typ": revocations.TYP, "kid": certificates.decode(TOKEN).kid}
    token = wirekit.forged(header, json.dumps(claims).encode())
    ring = Keyring([ROOT.public])

    assert refusal(ring.replace, [ROOT.public], [token]) in {None, "bad-revocations"}
    assert refusal(ring.certificate, TOKEN) in {None, "revoked"}


@given(
    st.lists(GOOD, max_size=6),
    st.sampled_from("1234"),
    st.sampled_from(["ci", "hg1", "hg2"]),
    st.integers(NOW - 5, NOW + 5),
)
def test_a_certificate_is_revoked_exactly_if_an_entry_covers_it(
    entries: list[Revoked], jti: str, name: str, nbf: int
) -> None:
    found = revocations.decode(revocations.issue(ROOT, 1, entries, NOW))
    certificate = certificates.decode(
        wirekit.token(name, jti=jti, nbf=nbf, exp=nbf + 10, roles=["relay"])
    )

    covered = any(
        jti == one.jti or (one.before is not None and name == one.sub and nbf <= one.before)
        for one in entries
    )

    assert (found.find(certificate) is not None) is covered
