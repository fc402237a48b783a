"""zmq-keys revoke, verify and rotate, as a user runs them.

PyJWT, which shares no code with us, reads the lists.
"""

import fcntl
import json
import shutil
import stat
import time
from pathlib import Path

import jwt
import pytest
import wirekit
from cryptography.hazmat.primitives import serialization
from keyskit import secrets_of, token_of, zmq_keys

from hgext_zmqhooks.keys.files import NotWrittenError
from hgext_zmqhooks.keys.replace import replace
from hgext_zmqhooks.wire.keyfiles import encode_public_pem

DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "made"
    folder.mkdir()
    for name in ("root", "other"):
        zmq_keys("root", "--out", folder / f"{name}.key")
    issue = ("issue", "--root", folder / "root.key", "--days", "30")
    rights = ("--publish", "hg:team/*:**:", "--publish", "hg:docs:**:")
    zmq_keys(*issue, "--name", "hg1", *rights, "--out", folder / "hg1.key")
    (folder / "hg1.cert").unlink()
    zmq_keys(*issue, "--name", "r1", "--role", "relay", "--out", folder / "r1.key")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """Two roots; of the first a publisher of 30 days, and a relay with its certificate."""
    return shutil.copytree(made, tmp_path / "keys")


def claims(path: Path, root: str = "root.pub") -> dict:
    """Checked by PyJWT."""
    public = serialization.load_pem_public_key((path.parent / root).read_bytes())
    return jwt.decode(token_of(path), public, algorithms=["EdDSA"])


def revoke(here: Path, *words: str | Path, status: int = 0):
    out = ("--root", here / "root.key", "--out", here / "root.crl")
    return zmq_keys("revoke", *out, *words, status=status)


def verdict(*files: Path, status: int, crl: bool = False) -> dict:
    folder = files[0].parent
    words = ["--revocations", folder / "root.crl"] if crl else []
    done = zmq_keys("verify", *files, "--trust", folder / "root.pub", *words, "--json",
                    status=status)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


class TestRevoke:
    def test_a_list_is_begun_and_extended(self, here: Path) -> None:
        # When a list is made of nothing, then extended by certificate, id and name
        assert "number 1, 0 revoked" in revoke(here).stdout
        revoke(here, "--certificate", here / "hg1.key", "--certificate", here / "r1.cert")
        before = int(time.time())
        said = revoke(here, "--id", "1f", "--name", "ci").stdout

        # Then it says all of it, each time under the next number
        found = claims(here / "root.crl")
        assert "root.crl: number 3, 4 revoked" in said
        assert (found["iss"], found["number"]) == ("root", 3)
        assert [(one.get("jti"), one.get("sub")) for one in found["revoked"]] == [
            (claims(here / "hg1.key")["jti"], "hg1"),
            (claims(here / "r1.key")["jti"], "r1"),
            ("1f", None),
            (None, "ci"),
        ]
        assert before <= found["revoked"][3]["before"] + 300 <= time.time()
        assert stat.S_IMODE((here / "root.crl").stat().st_mode) == 0o644
        assert jwt.get_unverified_header(token_of(here / "root.crl"))["typ"] == "zmqhooks-crl+jwt"

    def test_what_it_says_already_changes_nothing(self, here: Path) -> None:
        revoke(here, "--id", "1f")
        before = (here / "root.crl").read_bytes()

        assert "unchanged" in revoke(here, "--id", "1f").stdout
        assert "unchanged" in revoke(here).stdout
        assert (here / "root.crl").read_bytes() == before

    def test_a_name_that_is_revoked_can_be_issued_again_at_once(self, here: Path) -> None:
        # Given a key whose name is revoked
        revoke(here, "--name", "hg1")
        assert verdict(here / "hg1.key", status=1, crl=True)["problem"] == "revoked"

        # When it is issued anew right then
        zmq_keys("rotate", here / "hg1.key", "--root", here / "root.key")

        # Then the new one counts, and no longer once the name is revoked again
        assert verdict(here / "hg1.key", status=0, crl=True)["problem"] is None
        revoke(here, "--name", "hg1")
        assert verdict(here / "hg1.key", status=1, crl=True)["problem"] == "revoked"
        assert len(claims(here / "root.crl")["revoked"]) == 1

    def test_the_list_of_another_root_is_not_extended(self, here: Path) -> None:
        revoke(here, "--id", "1f")
        before = (here / "root.crl").read_bytes()

        done = zmq_keys(
            *("revoke", "--root", here / "other.key", "--id", "2f", "--out", here / "root.crl"),
            status=78,
        )

        assert f"{here / 'root.crl'}: cannot be extended" in done.stderr
        assert (here / "root.crl").read_bytes() == before

    def test_a_certificate_of_another_root_is_told_of(self, here: Path) -> None:
        words = ("revoke", "--root", here / "other.key", "--out", here / "other.crl")

        done = zmq_keys(*words, "--certificate", here / "r1.cert", status=78)
        assert f"{here / 'r1.cert'}: was not made under 'other'" in done.stderr
        assert not (here / "other.crl").exists()

        done = zmq_keys(*words, "--certificate", here / "root.key", status=78)
        assert f"{here / 'root.key'}: is the key of a root" in done.stderr

    def test_the_list_keeps_its_mode(self, here: Path) -> None:
        revoke(here)
        (here / "root.crl").chmod(0o640)

        revoke(here, "--id", "1f")

        assert stat.S_IMODE((here / "root.crl").stat().st_mode) == 0o640
        assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []

    def test_two_at_once_are_one_after_another(self, here: Path) -> None:
        # Given another zmq-keys at work under the same root
        with (here / "root.key").open("rb") as root:
            fcntl.flock(root, fcntl.LOCK_EX)

            # Then this one says so and does nothing
            done = revoke(here, "--id", "1f", status=78)
            assert "in use by another zmq-keys" in done.stderr
            assert not (here / "root.crl").exists()

        # And does it when that one has ended
        revoke(here, "--id", "1f")

    def test_show_tells_what_is_revoked(self, here: Path) -> None:
        revoke(here, "--certificate", here / "r1.cert", "--name", "ci")

        text = zmq_keys("show", here / "root.crl").stdout
        (line,) = zmq_keys("show", "--json", here / "root.crl").stdout.splitlines()

        jti = claims(here / "r1.cert")["jti"]
        assert "kind:        revocation list of a root\n" in text
        assert f"revoked:     {jti} (r1), entered 20" in text
        assert "revoked:     all of ci that begin until 20" in text
        shown = json.loads(line)
        assert (shown["kind"], shown["number"], shown["issuer"]) == ("revocations", 1, "root")
        assert [one["sub"] for one in shown["revoked"]] == ["r1", "ci"]


class TestVerify:
    def test_what_counts(self, here: Path) -> None:
        revoke(here, "--id", "1f")
        files = [here / name for name in ("hg1.key", "r1.key", "r1.cert", "root.crl", "root.key")]

        done = zmq_keys("verify", *files, "--trust", here / "root.pub")

        lines = done.stdout.splitlines()
        assert [line.split(": ")[:2] for line in lines] == [[str(path), "good"] for path in files]
        assert not [secret for secret in secrets_of(here) if secret in done.stdout]

    @pytest.mark.parametrize("name", ["hg1.key", "r1.cert", "root.crl", "root.key"])
    def test_another_root(self, here: Path, name: str) -> None:
        revoke(here)

        found = zmq_keys("verify", here / name, "--trust", here / "other.pub", status=1).stdout

        assert f"{here / name}: unknown-root: " in found

    def test_several_roots_at_once(self, here: Path) -> None:
        both = here / "both.pub"
        both.write_bytes((here / "other.pub").read_bytes() + (here / "root.pub").read_bytes())

        assert "good" in zmq_keys("verify", here / "hg1.key", "--trust", both).stdout
        assert zmq_keys("show", both).stdout.count("thumbprint") == 2

    def test_one_that_is_revoked(self, here: Path) -> None:
        revoke(here, "--certificate", here / "r1.cert")

        assert verdict(here / "r1.cert", status=1, crl=True)["problem"] == "revoked"
        assert verdict(here / "r1.key", status=1, crl=True)["problem"] == "revoked"
        assert verdict(here / "r1.key", status=0)["problem"] is None
        assert verdict(here / "hg1.key", status=0, crl=True)["problem"] is None

    def test_one_that_was_changed(self, here: Path) -> None:
        # Given a certificate with another signature, and a key with the certificate of another
        token = token_of(here / "r1.cert")
        (here / "x.cert").write_text(token[:-4] + ("AAAA" if token[-4:-1] != "AAA" else "BBBB"))
        document = json.loads((here / "hg1.key").read_bytes()) | {"certificate": token}
        (here / "x.key").write_text(json.dumps(document))
        (here / "x.key").chmod(0o600)

        assert verdict(here / "x.cert", status=1)["problem"] == "bad-certificate"
        (here / "x.cert").unlink()
        found = verdict(here / "x.key", status=1)
        assert (found["problem"], found["name"]) == ("key-mismatch", "hg1")

    def test_what_nobody_signs(self, here: Path) -> None:
        done = zmq_keys("verify", here / "root.pub", "--trust", here / "root.pub", status=78)

        assert "nobody signs" in done.stderr

    def test_a_list_that_none_of_the_roots_signed_is_no_help(self, here: Path) -> None:
        revoke(here)
        words = ("--trust", here / "other.pub", "--revocations", here / "root.crl")

        done = zmq_keys("verify", here / "r1.cert", *words, status=78)

        assert f"{here / 'root.crl'}: cannot be used: " in done.stderr


class TestRotate:
    def test_the_new_key_has_the_name_and_the_rights_of_the_old_one(self, here: Path) -> None:
        # Given a key for a group, and one with a certificate beside it
        (here / "hg1.key").chmod(0o640)
        old = {name: claims(here / name) for name in ("hg1.key", "r1.key")}
        secrets = secrets_of(here)

        # When both are rotated
        done = [zmq_keys("rotate", here / name, "--root", here / "root.key").stdout for name in old]

        # Then everything about them is new but name, roles, patterns, length of life, and mode
        for name, before in old.items():
            after = claims(here / name)
            assert {key for key in before if before[key] != after[key]} <= {
                "jti", "cnf", "nbf", "exp",
            }  # fmt: skip
            assert after["jti"] != before["jti"]
            assert set(before["cnf"]["jwk"].items()) != set(after["cnf"]["jwk"].items())
            assert 29 * DAY < after["exp"] - time.time() <= 30 * DAY
        assert stat.S_IMODE((here / "hg1.key").stat().st_mode) == 0o640
        assert stat.S_IMODE((here / "r1.key").stat().st_mode) == 0o600
        assert len({*secrets_of(here), *secrets}) == 12

        # And a certificate is beside it only where one was
        assert claims(here / "r1.cert") == claims(here / "r1.key")
        assert verdict(here / "hg1.key", here / "r1.key", status=0)["problem"] is None
        assert not (here / "hg1.cert").exists()
        assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []

        # And it is said how to end the old one, and no secret
        assert f"--id {old['hg1.key']['jti']} --out {here / 'root.crl'}" in done[0]
        assert done[1].splitlines()[:2] == [f"replaced {here / n}" for n in ("r1.key", "r1.cert")]
        said = "".join(done)
        assert not [secret for secret in {*secrets_of(here), *secrets} if secret in said]

    def test_the_days_can_be_said(self, here: Path) -> None:
        zmq_keys("rotate", here / "r1.key", "--root", here / "root.key", "--days", "3")

        assert 2 * DAY < claims(here / "r1.key")["exp"] - time.time() <= 3 * DAY

    def test_where_the_key_is_a_link_the_file_behind_it_is_replaced(self, here: Path) -> None:
        (here / "link.key").symlink_to("hg1.key")
        old = claims(here / "hg1.key")

        zmq_keys("rotate", here / "link.key", "--root", here / "root.key")

        assert (here / "link.key").is_symlink()
        assert claims(here / "hg1.key")["jti"] != old["jti"]

    def test_a_new_root_is_taken_up_on_purpose_only(self, here: Path) -> None:
        # Given a second root
        before = (here / "r1.key").read_bytes()
        words = ("rotate", here / "r1.key", "--root", here / "other.key")

        # When a key is rotated under it, it is refused and the way is said
        done = zmq_keys(*words, status=78)
        assert f"{here / 'r1.key'}: was made under another root, 'root'" in done.stderr
        assert "--old-root OLD.pub" in done.stderr
        assert (here / "r1.key").read_bytes() == before

        # Then it goes with the public key of the old one
        zmq_keys(*words, "--old-root", here / "root.pub")
        assert claims(here / "r1.key", "other.pub")["iss"] == "other"

    def test_rights_that_no_root_gave_are_not_taken_over(self, here: Path) -> None:
        """Who may write a key file shall not get a certificate for whatever stands there."""
        # Given a key file with a certificate whose signature does not fit
        document = json.loads((here / "r1.key").read_bytes())
        first, _, third = document["certificate"].split(".")
        document["certificate"] = ".".join([first, token_of(here / "hg1.key").split(".")[1], third])
        (here / "r1.key").write_text(json.dumps(document))

        done = zmq_keys("rotate", here / "r1.key", "--root", here / "root.key", status=78)

        assert "cannot be rotated: the root did not sign" in done.stderr

    def test_a_root_and_a_certificate_are_not_rotated(self, here: Path) -> None:
        done = zmq_keys("rotate", here / "root.key", "--root", here / "root.key", status=78)
        assert "is the key of a root" in done.stderr

        done = zmq_keys("rotate", here / "r1.cert", "--root", here / "root.key", status=2)
        assert "does not end in .key" in done.stderr

    def test_an_old_certificate_left_beside_is_told_of(self, here: Path) -> None:
        """As a crash between the two files would leave it."""
        # Given a new key beside the old certificate
        old = (here / "r1.cert").read_bytes()
        zmq_keys("rotate", here / "r1.key", "--root", here / "root.key")
        (here / "r1.cert").write_bytes(old)

        # Then verify says so
        found = verdict(here / "r1.key", status=1)
        assert found["problem"] == "certificate-left-behind"
        assert f"{here / 'r1.cert'} is another certificate" in found["detail"]

        # And to rotate once more mends it
        zmq_keys("rotate", here / "r1.key", "--root", here / "root.key")
        assert verdict(here / "r1.key", status=0)["problem"] is None


def test_of_several_files_none_is_replaced_when_one_cannot_be(here: Path) -> None:
    # Given a second file that is not there
    before = (here / "r1.key").read_bytes()

    # When both are to be replaced
    with pytest.raises(NotWrittenError, match="none: could not be replaced: no such file"):
        replace([(here / "r1.key", b"new"), (here / "none", b"new")])

    # Then the first one is as it was, and nothing else is left
    assert (here / "r1.key").read_bytes() == before
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


def test_an_expired_certificate_is_told_of(tmp_path: Path) -> None:
    """And one that begins later: made with our own code, for zmq-keys makes no such."""
    now = int(time.time())
    (tmp_path / "root.pub").write_bytes(encode_public_pem(wirekit.ROOT.public))
    (tmp_path / "old.cert").write_bytes(wirekit.token(nbf=now - 99, exp=now - 9))
    (tmp_path / "new.cert").write_bytes(wirekit.token(nbf=now + 999, exp=now + 9999))

    assert verdict(tmp_path / "old.cert", status=1)["problem"] == "expired"
    assert verdict(tmp_path / "new.cert", status=1)["problem"] == "not-yet"
