"""Revocation lists: what an entry covers, and every way to be no list."""

import json

import pytest
import wirekit
from wirekit import NOW, ROOT, resigned

from hgext_zmqhooks.wire import certificates, revocations
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import b64url_encode, thumbprint
from hgext_zmqhooks.wire.revocations import Revoked

OTHER = wirekit.key("other root")
ENTRIES = (Revoked(NOW, jti="1", sub="ci"), Revoked(NOW, sub="hg1", before=NOW - 60))
TOKEN = revocations.issue(ROOT, 3, ENTRIES, NOW)
HEADER = {"alg": "EdDSA", "typ": revocations.TYP, "kid": thumbprint(ROOT.public)}
CLAIMS = {"iss": "root", "iat": NOW, "number": 1, "revoked": []}


def forged(header: object = HEADER, claims: object = CLAIMS) -> bytes:
    segments = [b64url_encode(json.dumps(part).encode()) for part in (header, claims)]
    return resigned(".".join(segments).encode())


def certificate(**changes: object) -> certificates.Certificate:
    return certificates.decode(wirekit.token(**changes))


def test_a_list_says_what_was_issued() -> None:
    found = revocations.decode(TOKEN)

    assert (found.iss, found.iat, found.number) == ("root", NOW, 3)
    assert found.kid == thumbprint(ROOT.public)
    assert found.revoked == ENTRIES
    assert found.token == TOKEN


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({"jti": "1", "name": "whoever"}, True),
        ({"jti": "2", "name": "ci"}, False),
        ({"jti": "2", "name": "hg1", "nbf": NOW - 61}, True),
        ({"jti": "2", "name": "hg1", "nbf": NOW - 60}, True),
        ({"jti": "2", "name": "hg1", "nbf": NOW - 59}, False),
        ({"jti": "1", "root": OTHER}, False),
        ({"jti": "2", "name": "hg1", "nbf": NOW - 61, "root": OTHER}, False),
    ],
)
def test_an_entry_covers_an_id_or_what_a_name_had_up_to_then(
    changes: dict[str, object], covered: bool
) -> None:
    found = revocations.decode(TOKEN).find(certificate(**changes))

    assert (found is not None) is covered


def test_of_two_entries_of_a_name_the_one_that_goes_further_counts() -> None:
    # Given two, the further one first
    entries = [Revoked(NOW, sub="ci", before=NOW), Revoked(NOW, sub="ci", before=NOW - 100)]
    found = revocations.decode(revocations.issue(ROOT, 1, entries, NOW))

    # When a certificate between the two is looked up
    covered = found.find(certificate(name="ci", nbf=NOW - 50))

    # Then it is covered
    assert covered == entries[0]


@pytest.mark.parametrize(
    "token",
    [
        b"",
        wirekit.token(),
        forged(header=HEADER | {"typ": certificates.TYP}),
        forged(header=HEADER | {"kid": 1}),
        forged(claims=[]),
        forged(claims={"iss": "root", "iat": NOW, "number": 1}),
        b"A" * (revocations.MAX_LENGTH + 1),
        *(
            forged(claims=CLAIMS | change)
            for change in (
                {"iss": None},
                {"iat": -1},
                {"number": 0},
                {"number": "1"},
                {"revoked": {}},
                {"revoked": [1]},
                {"revoked": [{}]},
                {"revoked": [{"jti": "1"}]},
                {"revoked": [{"jti": 1, "at": NOW}]},
                {"revoked": [{"jti": "", "at": NOW}]},
                {"revoked": [{"sub": "", "before": NOW, "at": NOW}]},
                {"revoked": [{"jti": "1", "at": certificates.LAST + 1}]},
                {"revoked": [{"sub": "ci", "at": NOW}]},
                {"revoked": [{"before": NOW, "at": NOW}]},
                {"revoked": [{"jti": "1", "sub": "ci", "before": NOW, "at": NOW}]},
            )
        ),
    ],
)
def test_what_is_no_list_is_refused(token: bytes) -> None:
    with pytest.raises(Refused) as caught:
        revocations.decode(token)

    assert caught.value.kind == "bad-revocations"


def test_a_list_that_nobody_could_read_is_not_issued() -> None:
    with pytest.raises(Refused):
        revocations.issue(ROOT, 0, [], NOW)
