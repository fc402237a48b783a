"""Roots and revocation lists as a configuration names them, with real files."""

from pathlib import Path

import pytest
import wirekit
from wirekit import NOW, ROOT

from hgext_zmqhooks.keys.named import Trust
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire import keyfiles, revocations
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked

OTHER = wirekit.key("other root")
STRANGER = wirekit.key("a root of somebody else")
FILE = Path("/etc/ci.yml")


def pem(*roots: SecretKey) -> bytes:
    return b"".join(keyfiles.encode_public_pem(root.public) for root in roots)


def crl(number: int, *jtis: str, root: SecretKey = ROOT) -> bytes:
    return revocations.issue(root, number, [Revoked(NOW, jti=jti) for jti in jtis], NOW) + b"\n"


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    (tmp_path / "root.pub").write_bytes(pem(ROOT))
    (tmp_path / "root.crl").write_bytes(crl(5, "1"))
    return Trust(FILE, [tmp_path / "root.pub"], [tmp_path / "root.crl"])


def verdict(keyring: Keyring, **changes: object) -> str:
    try:
        return keyring.certificate(wirekit.token(**changes)).sub
    except Refused as error:
        return error.kind


def test_what_the_lists_name_is_refused(trust: Trust) -> None:
    keyring = trust.keyring()

    assert verdict(keyring, jti="1") == "revoked"
    assert verdict(keyring, jti="2") == "publisher"
    assert [path.name for path in trust.paths] == ["root.pub", "root.crl"]


def test_a_file_may_hold_the_old_and_the_new_root(trust: Trust) -> None:
    # Given a keyring, and a second root in the same file
    keyring = trust.keyring()
    assert verdict(keyring, root=OTHER) == "unknown-root"
    trust.roots[0].write_bytes(pem(ROOT, OTHER))

    # When the files are read again
    trust.renew(keyring)

    # Then both count
    assert verdict(keyring, root=OTHER) == "publisher"
    assert verdict(keyring, jti="2") == "publisher"


@pytest.mark.parametrize(
    ("data", "reason", "hint"),
    [
        (None, "does not exist", "copy the list"),
        (b"\n", "is not what it should be", "zmq-keys revoke"),
        (wirekit.token(), "is not what it should be", "zmq-keys revoke"),
        (b"x" * 2_000_000, "is larger than", "correct the path"),
        (crl(6, root=STRANGER), "not among the trusted", "`trust`"),
        (wirekit.resigned(crl(6).rpartition(b".")[0], by=OTHER), "did not sign", "once more"),
        (crl(4), "number 4 of 'root', and number 5 is in force", "newest"),
        (crl(5), "another number 5", "newest"),
    ],
)
def test_a_bad_list_is_told_and_changes_nothing(
    trust: Trust, data: bytes | None, reason: str, hint: str
) -> None:
    # Given a keyring, a bad list in place of the good one, and another root
    keyring = trust.keyring()
    path = trust.revocations[0]
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    trust.roots[0].write_bytes(pem(ROOT, OTHER))

    # When the files are read again
    with pytest.raises(ConfigError) as caught:
        trust.renew(keyring)

    # Then it is said which file of which key it was, why, and what to do
    assert str(caught.value).startswith(f"{FILE}: revocations[0]: {str(path)!r}: ")
    assert reason in str(caught.value)
    assert hint in caught.value.hint

    # And what counted before does so still
    assert verdict(keyring, jti="1") == "revoked"
    assert verdict(keyring, root=OTHER) == "unknown-root"


def test_a_list_does_not_go_away_while_its_root_is_trusted(trust: Trust) -> None:
    """The list of another root in its place is most likely a mistake."""
    # Given a keyring with the list of a root
    keyring = trust.keyring()

    # When its file holds that of another trusted root
    trust.roots[0].write_bytes(pem(ROOT, OTHER))
    trust.revocations[0].write_bytes(crl(6, root=OTHER))
    with pytest.raises(ConfigError, match="revocations: cannot be used: none of root 'root'"):
        trust.renew(keyring)

    # Then the first one is still in force
    assert verdict(keyring, jti="1") == "revoked"


def test_the_second_of_two_lists_of_a_root_is_named(trust: Trust, tmp_path: Path) -> None:
    (tmp_path / "other.crl").write_bytes(crl(7))
    two = Trust(FILE, trust.roots, [*trust.revocations, tmp_path / "other.crl"], "", "relay.")

    with pytest.raises(ConfigError, match=r"relay\.revocations\[1\]: .*two lists of root 'root'"):
        two.keyring()
