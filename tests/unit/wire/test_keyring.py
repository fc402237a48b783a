"""The keyring: which roots count, and what of a message must fit what."""

import pytest
import wirekit
from wirekit import NOW, ROOT

from hgext_zmqhooks.wire import certificates, envelope, events, jws, keyring, revocations
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey, thumbprint
from hgext_zmqhooks.wire.keyring import Keyring, Standing
from hgext_zmqhooks.wire.revocations import Revoked

OTHER = wirekit.key("other root")


@pytest.fixture
def ring() -> Keyring:
    return Keyring([ROOT.public])


def kind(call, *arguments) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.kind


def test_an_honest_message_is_authentic(ring: Keyring) -> None:
    # Given a message of a certified publisher
    message = wirekit.message()

    # When it is checked
    found = ring.authenticate(message, NOW)

    # Then its event, signer and time are told
    assert found.event == wirekit.EVENT
    assert found.certificate == certificates.decode(message.certificate)
    assert found.standing is Standing.VALID


def test_a_second_root_counts_too() -> None:
    message = wirekit.message(certificate=wirekit.token(root=OTHER))

    assert Keyring([ROOT.public, OTHER.public]).authenticate(message, NOW).event.id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topic": b"hg:team/app:default-2:"}, "wrong-topic"),
        ({"topic": b""}, "wrong-topic"),
        ({"topic": b"\xff"}, "wrong-topic"),
        ({"event": events.encode(wirekit.event(sequence=2))}, "bad-signature"),
        ({"signature": bytes(64)}, "bad-signature"),
        ({"certificate": b"x"}, "bad-certificate"),
        ({"certificate": wirekit.token("someone else")}, "bad-signature"),
        ({"certificate": wirekit.token(root=OTHER)}, "unknown-root"),
        ({"certificate": wirekit.token(roles=["subscriber", "relay"])}, "not-allowed"),
        ({"certificate": wirekit.token(publish=[])}, "not-allowed"),
        ({"certificate": wirekit.token(publish=["hg:team/*:stable:"])}, "not-allowed"),
        ({"certificate": wirekit.token(publish=["hg:team:default:"])}, "not-allowed"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(
    ring: Keyring, change: dict[str, bytes], reason: str
) -> None:
    assert kind(ring.authenticate, wirekit.message(**change), NOW) == reason


def test_a_rightly_signed_event_of_another_form_is_malformed(ring: Keyring) -> None:
    data = b'{"a":1}'
    message = wirekit.message(
        event=data, signature=envelope.sign(data, wirekit.key("publisher").seed)
    )

    assert kind(ring.authenticate, message, NOW) == "malformed-event"


def test_a_record_needs_no_topic(ring: Keyring) -> None:
    message = wirekit.message()

    found = ring.attest(message.event, message.signature, message.certificate, NOW)

    assert found.event == wirekit.EVENT


@pytest.mark.parametrize(
    ("now", "standing"),
    [
        (NOW - 3600.001, Standing.NOT_YET),
        (NOW - 3600, Standing.VALID),
        (NOW + 3599.999, Standing.VALID),
        (NOW + 3600, Standing.EXPIRED),
    ],
)
def test_time_is_told_and_refuses_no_event(ring: Keyring, now: float, standing: Standing) -> None:
    assert ring.authenticate(wirekit.message(), now).standing is standing


def test_a_peer_needs_its_role_and_its_time(ring: Keyring) -> None:
    token = wirekit.token("ci", roles=["subscriber"])

    assert ring.peer(token, "subscriber", NOW).sub == "ci"
    assert kind(ring.peer, token, "relay", NOW) == "not-allowed"
    assert kind(ring.peer, token, "subscriber", NOW + 3600) == "expired"
    assert kind(ring.peer, token, "subscriber", NOW - 3601) == "not-yet"


def test_a_known_kid_is_no_signature(ring: Keyring) -> None:
    """Another key signs a certificate that names our root."""
    signed = wirekit.token().rpartition(b".")[0]

    assert kind(ring.certificate, wirekit.resigned(signed, by=OTHER)) == "bad-certificate"


def test_a_key_in_the_header_is_not_looked_at(ring: Keyring) -> None:
    """A forger brings the key that verifies his own signature."""
    header = {
        "alg": "EdDSA",
        "typ": certificates.TYP,
        "kid": certificates.decode(wirekit.token(root=OTHER)).kid,
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "x"},
    }

    assert kind(ring.certificate, wirekit.forged(header, by=OTHER)) == "unknown-root"


def test_a_publisher_is_no_root(ring: Keyring) -> None:
    """A certified key vouches for another: chains do not exist."""
    token = wirekit.token("mallory", root=wirekit.key("publisher"))

    assert kind(ring.certificate, token) == "unknown-root"


def test_one_certificate_has_one_spelling(ring: Keyring) -> None:
    """The token is remembered by its bytes, so no second token may stand for one certificate."""
    # Given a checked certificate
    token = wirekit.token()
    ring.certificate(token)
    signed, signature = jws.split(token, "bad-certificate")

    # When its bytes are changed one at a time, each to its neighbour
    # Then none is accepted
    for index in range(len(token)):
        other = token[:index] + bytes([token[index] ^ 1]) + token[index + 1 :]
        assert kind(ring.certificate, other) in {"bad-certificate", "unknown-root"}
    assert signed + b"." + wirekit.b64url_encode(signature).encode() == token


def test_checked_certificates_are_remembered_up_to_a_number(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given room for one
    monkeypatch.setattr(keyring, "REMEMBERED", 1)
    one, other = wirekit.token(jti="1"), wirekit.token(jti="2")

    # When two are used in turn
    first = ring.certificate(one)
    assert ring.certificate(one) is first
    ring.certificate(other)

    # Then the first was forgotten and is checked anew
    assert ring.certificate(one) == first
    assert ring.certificate(one) is not first


def crl(number: int = 1, *entries: Revoked, root: SecretKey = ROOT) -> bytes:
    return revocations.issue(root, number, entries, NOW)


BY_ID = Revoked(NOW, jti="1")


def test_a_revoked_certificate_is_refused_wherever_it_is_shown() -> None:
    ring = Keyring([ROOT.public], revocations=[crl(1, BY_ID)])
    message = wirekit.message()

    assert kind(ring.certificate, message.certificate) == "revoked"
    assert kind(ring.peer, message.certificate, "relay", NOW) == "revoked"
    assert kind(ring.authenticate, message, NOW) == "revoked"
    assert kind(ring.attest, message.event, message.signature, message.certificate, NOW) == (
        "revoked"
    )
    assert ring.certificate(wirekit.token(jti="2")).jti == "2"


def test_the_refusal_says_which_certificate_and_when() -> None:
    ring = Keyring([ROOT.public], revocations=[crl(1, BY_ID)])

    with pytest.raises(Refused, match="certificate 1 of 'publisher' was revoked 2027-01-15 08:00"):
        ring.certificate(wirekit.token())


def test_what_was_checked_before_is_refused_once_it_is_revoked(ring: Keyring) -> None:
    # Given a certificate that has been used
    ring.certificate(wirekit.token())

    # When a list comes that revokes it
    ring.replace([ROOT.public], [crl(1, BY_ID)])

    # Then it is refused
    assert kind(ring.certificate, wirekit.token()) == "revoked"


def test_what_was_checked_under_a_root_that_left_is_refused(ring: Keyring) -> None:
    ring.certificate(wirekit.token())

    ring.replace([OTHER.public], [])

    assert kind(ring.certificate, wirekit.token()) == "unknown-root"
    assert ring.certificate(wirekit.token(root=OTHER)).sub == "publisher"


def test_a_root_revokes_its_own_certificates_only() -> None:
    ring = Keyring([ROOT.public, OTHER.public], revocations=[crl(1, BY_ID, root=OTHER)])

    assert ring.certificate(wirekit.token()).jti == "1"
    assert kind(ring.certificate, wirekit.token(root=OTHER)) == "revoked"


@pytest.mark.parametrize(("now", "standing"), [(NOW, "valid"), (NOW + 3600, "expired")])
def test_who_is_vouched_for_passes_as_valid_where_revoked(now: float, standing: str) -> None:
    """And a certificate that is not revoked is what it always was."""
    ring = Keyring([ROOT.public], revocations=[crl(1, BY_ID)])
    revoked, other = wirekit.message(), wirekit.message(certificate=wirekit.token(jti="2"))

    def standing_of(message: envelope.Message) -> Standing:
        given = (message.event, message.signature, message.certificate)
        return ring.attest(*given, now, vouched=True).standing

    assert standing_of(revoked) is Standing.VALID
    assert standing_of(other).value == standing


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signature": bytes(64)}, "bad-signature"),
        ({"certificate": wirekit.token(publish=[])}, "not-allowed"),
        ({"certificate": wirekit.token(root=OTHER)}, "unknown-root"),
    ],
)
def test_nobody_can_vouch_for_more_than_a_revoked_certificate(
    change: dict[str, bytes], reason: str
) -> None:
    ring = Keyring([ROOT.public], revocations=[crl(1, BY_ID)])
    message = wirekit.message(**change)

    with pytest.raises(Refused) as caught:
        ring.attest(message.event, message.signature, message.certificate, NOW, vouched=True)
    assert caught.value.kind == reason


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([b"x"], "bad-revocations"),
        ([crl(root=OTHER)], "unknown-root"),
        ([wirekit.resigned(crl(9).rpartition(b".")[0], by=OTHER)], "bad-revocations"),
        ([crl(9, BY_ID), crl(10, BY_ID)], "bad-revocations"),
        ([crl(4, BY_ID)], "old-revocations"),
        ([crl(5)], "old-revocations"),
    ],
)
def test_a_list_that_cannot_be_taken_leaves_the_old_one_in_force(
    tokens: list[bytes], reason: str
) -> None:
    # Given a list of number 5
    ring = Keyring([ROOT.public], revocations=[crl(5, BY_ID)])

    # When another comes that cannot be taken, with another root
    # Then it is refused
    assert kind(ring.replace, [ROOT.public], tokens) == reason

    # And nothing has changed
    assert kind(ring.certificate, wirekit.token()) == "revoked"


def test_a_newer_list_and_the_same_one_again_are_taken() -> None:
    ring = Keyring([ROOT.public], revocations=[crl(5, BY_ID)])

    ring.replace([ROOT.public], [crl(5, BY_ID)])
    ring.replace([ROOT.public], [crl(6, BY_ID, Revoked(NOW, jti="2"))])

    assert kind(ring.certificate, wirekit.token(jti="2")) == "revoked"


def test_the_list_of_a_root_goes_with_it() -> None:
    """Its file may still be named for a while: that is no reason to keep the old root."""
    # Given two roots and a list of one
    ring = Keyring([ROOT.public, OTHER.public], revocations=[crl(5, BY_ID)])

    # When that root leaves, and the files are read again and again
    ring.replace([OTHER.public], [crl(5, BY_ID)])
    ring.replace([OTHER.public], [crl(5, BY_ID)])

    # Then the other one counts, and the first does not
    assert ring.certificate(wirekit.token(root=OTHER)).jti == "1"
    assert kind(ring.certificate, wirekit.token()) == "unknown-root"


def test_what_is_in_force_is_what_was_given_last(ring: Keyring) -> None:
    first = ring.in_force
    assert first == (frozenset({thumbprint(ROOT.public)}), frozenset())

    ring.replace([OTHER.public, ROOT.public], [crl(1, BY_ID)])

    assert ring.in_force != first
    assert ring.in_force[1] == {crl(1, BY_ID)}
    # The list of a root goes with it
    ring.replace([OTHER.public], [])
    assert ring.in_force == (frozenset({thumbprint(OTHER.public)}), frozenset())
