"""zmq-keys as a user runs it: its entry point, as a process of its own.

What it writes is read here by PyJWT and `cryptography`, which share no code with us.
"""

import base64
import hashlib
import json
import socket
import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from keyskit import secrets_of, token_of, zmq_keys

from hgext_zmqhooks.wire.keyfiles import z85_decode, z85_encode

DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "zmqhooks"
    zmq_keys("quickstart", folder, "--name", "ci")
    return folder


def root_of(folder: Path) -> Ed25519PublicKey:
    root = serialization.load_pem_public_key((folder / "root.pub").read_bytes())
    assert isinstance(root, Ed25519PublicKey)
    return root


def claims_of(path: Path, root: Ed25519PublicKey) -> dict:
    """Checked by PyJWT: signature, algorithm, nbf and exp."""
    required = ["iss", "sub", "jti", "nbf", "exp"]
    return jwt.decode(token_of(path), root, algorithms=["EdDSA"], options={"require": required})


def thumbprint(root: Ed25519PublicKey) -> str:
    raw = root.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": unpadded(raw)}
    digest = hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode())
    return unpadded(digest.digest())


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_quickstart_writes_the_six_files_with_their_modes(made: Path) -> None:
    modes = {path.name: f"{stat.S_IMODE(path.stat().st_mode):04o}" for path in made.iterdir()}

    assert modes == {
        "root.key": "0600",
        "root.pub": "0644",
        "publisher.key": "0600",
        "relay.key": "0600",
        "relay.cert": "0644",
        "subscriber.key": "0600",
    }


@pytest.mark.parametrize(
    ("file", "sub", "roles", "patterns"),
    [
        ("publisher.key", "ci-publisher", ["publisher"], (["hg:**:**:"], [])),
        ("relay.key", "ci-relay", ["relay"], ([], [])),
        ("relay.cert", "ci-relay", ["relay"], ([], [])),
        ("subscriber.key", "ci", ["relay", "subscriber"], ([], ["hg:**:**:"])),
    ],
)
def test_other_libraries_read_the_certificates(
    made: Path, file: str, sub: str, roles: list[str], patterns: tuple[list[str], list[str]]
) -> None:
    root = root_of(made)

    claims = claims_of(made / file, root)
    header = jwt.get_unverified_header(token_of(made / file))

    assert header == {"alg": "EdDSA", "typ": "zmqhooks-cert+jwt", "kid": thumbprint(root)}
    assert (claims["iss"], claims["sub"], claims["roles"]) == ("ci-root", sub, roles)
    assert (claims["publish"], claims["read"]) == patterns
    assert 364 * DAY < claims["exp"] - time.time() <= 365 * DAY
    assert claims["nbf"] < time.time()


@pytest.mark.parametrize("file", ["publisher.key", "relay.key", "subscriber.key"])
def test_the_certificate_names_the_keys_of_its_file(made: Path, file: str) -> None:
    document = json.loads((made / file).read_bytes())
    seed = base64.urlsafe_b64decode(document["ed25519"] + "=")
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw

    signing = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(*raw)
    curve = X25519PrivateKey.from_private_bytes(z85_decode(document["curve"]))
    cnf = claims_of(made / file, root_of(made))["cnf"]

    assert cnf["jwk"] == {"kty": "OKP", "crv": "Ed25519", "x": unpadded(signing)}
    assert cnf["curve"] == z85_encode(curve.public_key().public_bytes(*raw))


def test_the_root_has_no_certificate_and_fits_its_public_file(made: Path) -> None:
    document = json.loads((made / "root.key").read_bytes())
    seed = base64.urlsafe_b64decode(document["ed25519"] + "=")

    assert "certificate" not in document
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key() == root_of(made)


def test_every_key_and_certificate_is_another(made: Path) -> None:
    files = [made / f"{name}.key" for name in ("root", "publisher", "relay", "subscriber")]
    documents = [json.loads(path.read_bytes()) for path in files]
    serials = {claims_of(path, root_of(made))["jti"] for path in files[1:]}

    assert len({document["ed25519"] for document in documents}) == 4
    assert len({document["curve"] for document in documents}) == 4
    assert len(serials) == 3


def test_the_subscriber_is_named_after_the_host_by_default(tmp_path: Path) -> None:
    zmq_keys("quickstart", tmp_path / "k")

    claims = claims_of(tmp_path / "k" / "subscriber.key", root_of(tmp_path / "k"))

    assert claims["sub"] == socket.gethostname()


@pytest.mark.parametrize("taken", ["root.key", "root.pub", "relay.cert", "subscriber.key"])
def test_quickstart_writes_nothing_when_a_file_exists(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")

    done = zmq_keys("quickstart", tmp_path, status=1)

    assert f"{tmp_path / taken}: exists already" in done.stderr
    assert "hint: keys are never replaced" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(taken, "mine")]


def test_quickstart_says_why_a_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "file/k" in zmq_keys("quickstart", tmp_path / "file" / "k", status=1).stderr


def test_a_root_issues_a_certificate(tmp_path: Path) -> None:
    zmq_keys("root", "--out", tmp_path / "acme.key")
    zmq_keys(
        *("issue", "--root", tmp_path / "acme.key", "--name", "hg1", "--days", "30"),
        *("--publish", "hg:team/**:**:", "--publish", "hg:docs:default:"),
        *("--read", "hg:docs:**:", "--role", "relay", "--out", tmp_path / "hg1.key"),
    )

    root = serialization.load_pem_public_key((tmp_path / "acme.pub").read_bytes())
    assert isinstance(root, Ed25519PublicKey)
    claims = claims_of(tmp_path / "hg1.cert", root)

    assert claims == claims_of(tmp_path / "hg1.key", root)
    assert (claims["iss"], claims["sub"]) == ("acme", "hg1")
    assert claims["roles"] == ["publisher", "relay", "subscriber"]
    assert claims["publish"] == ["hg:team/**:**:", "hg:docs:default:"]
    assert claims["read"] == ["hg:docs:**:"]
    assert 29 * DAY < claims["exp"] - time.time() <= 30 * DAY
    assert stat.S_IMODE((tmp_path / "hg1.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "hg1.cert").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing"),
        (["--publish", "hg:team"], "'hg:team' is not scheme:name:subject:"),
        (["--read", "hg:%41:x:"], "percent-encoded"),
        (["--role", "king"], "invalid choice: 'king'"),
        (["--role", "relay", "--days", "0"], "'0' is not a number of days"),
        (["--role", "relay", "--days", "٣"], "is not a number of days"),
        (["--role", "relay", "--days", "36501"], "'36501' is not a number of days"),
        (["--role", "relay", "--name", ""], "'' is not a name"),
        (["--role", "relay", "--name", "a\nb"], "is not a name"),
        (["--role", "relay", "--out", "x.pem"], "'x.pem' does not end in .key"),
        (["--role", "relay", "--out", ".key"], "'.key' does not end in .key"),
    ],
)
def test_a_wrong_wish_is_a_usage_error(
    made: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    out = tmp_path / "n.key"
    usual = ("issue", "--root", made / "root.key", "--name", "n", "--out", out)

    done = zmq_keys(*usual, *arguments, status=2)

    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_a_root_issues(made: Path, tmp_path: Path) -> None:
    publisher = made / "publisher.key"

    done = zmq_keys(
        *("issue", "--root", publisher, "--name", "n", "--role", "relay"),
        *("--out", tmp_path / "n.key"),
        status=78,
    )

    assert f"{publisher}: is not a root" in done.stderr
    assert "hint: " in done.stderr


def test_a_loose_root_is_refused(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.key"
    root.write_bytes((made / "root.key").read_bytes())
    root.chmod(0o640)

    done = zmq_keys(
        *("issue", "--root", root, "--name", "n", "--role", "relay", "--out", tmp_path / "n.key"),
        status=78,
    )

    assert f"{root}: has mode 0640" in done.stderr
    assert f"hint: chmod 600 {root}" in done.stderr
    assert not (tmp_path / "n.key").exists()


def test_show_never_prints_a_secret(made: Path) -> None:
    files = sorted(made.iterdir())

    text = zmq_keys("show", *files).stdout
    lines = zmq_keys("show", "--json", *files).stdout

    assert len(lines.splitlines()) == len(files)
    assert all(str(path) in text for path in files)
    assert len(secrets_of(made)) == 8
    assert not [secret for secret in secrets_of(made) if secret in text + lines]


def test_show_as_json(made: Path) -> None:
    shown = json.loads(zmq_keys("show", "--json", made / "publisher.key").stdout)
    claims = claims_of(made / "publisher.key", root_of(made))

    assert shown["file"] == str(made / "publisher.key")
    assert (shown["kind"], shown["mode"], shown["name"]) == ("key", "0600", "ci-publisher")
    assert (shown["issuer"], shown["serial"]) == ("ci-root", claims["jti"])
    assert shown["root"] == thumbprint(root_of(made))
    assert shown["ed25519"] == claims["cnf"]["jwk"]["x"]
    assert shown["curve"] == claims["cnf"]["curve"]
    assert shown["standing"] == "valid"
    assert shown["expires"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(claims["exp"]))
    assert (shown["roles"], shown["publish"]) == (["publisher"], ["hg:**:**:"])
    assert "read" not in shown


def test_show_tells_the_kinds_apart(made: Path) -> None:
    names = ["root.key", "root.pub", "relay.cert", "relay.key"]
    lines = zmq_keys("show", "--json", *(made / name for name in names)).stdout.splitlines()

    kinds = [json.loads(line)["kind"] for line in lines]
    prints = [json.loads(line)["thumbprint"] for line in lines]

    assert kinds == ["root-key", "root", "certificate", "key"]
    assert prints[0] == prints[1] == thumbprint(root_of(made))
    assert prints[2] == prints[3]


def test_show_refuses_a_loose_key_and_a_wrong_file(made: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose.key"
    loose.write_bytes((made / "relay.key").read_bytes())
    loose.chmod(0o644)
    (tmp_path / "other").write_text("hello")

    assert "has mode 0644" in zmq_keys("show", loose, status=78).stderr
    assert "is not what it should be" in zmq_keys("show", tmp_path / "other", status=78).stderr
    assert "does not exist" in zmq_keys("show", tmp_path / "none", status=78).stderr


def test_a_misspelt_folder_is_not_made(made: Path, tmp_path: Path) -> None:
    words = ("issue", "--root", made / "root.key", "--name", "x", "--read", "hg:**:**:")

    done = zmq_keys(*words, "--out", tmp_path / "nodir" / "x.key", status=1)

    assert f"hint: mkdir -p {tmp_path}/nodir" in done.stderr
    assert not (tmp_path / "nodir").exists()
