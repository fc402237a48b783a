"""The published forms, kept as files: our code reads and writes them, and code that is not ours.

The second half imports nothing of ours: `cryptography` checks signatures, keys and PEM, PyJWT the
certificates, pyzmq the Z85, and a few lines of plain Python the attributes of CloudEvents.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jwt
import pytest
from conformance import make_vectors
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from zmq.utils import z85

from hgext_zmqhooks.wire import envelope, events, keyfiles, messages, revocations, topics
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.topics import Pattern


def load(name: str) -> Any:
    return json.loads((make_vectors.FOLDER / name).read_text(encoding="ascii"))


TOPICS, EVENTS, CERTIFICATES, KEYS, SESSION, REVOCATIONS = map(load, make_vectors.FILES)


def each(vectors: list[dict[str, Any]], label: str = "name") -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: str(vector[label]))


# Our code


@pytest.mark.parametrize("name", make_vectors.FILES)
def test_the_forms_have_not_changed(name: str) -> None:
    """Today's code writes the very bytes that were written when the form was published."""
    kept = (make_vectors.FOLDER / name).read_text(encoding="ascii")

    assert make_vectors.written(name) == kept


def test_every_file_is_checked_here() -> None:
    assert {path.name for path in make_vectors.FOLDER.iterdir()} == set(make_vectors.FILES)


def test_the_script_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a folder in which one file is there and differs
    monkeypatch.setattr(make_vectors, "FOLDER", tmp_path)
    (tmp_path / "topics.json").write_text("{}")

    # When the script is run, asked to write
    missing = make_vectors.main([])
    status = make_vectors.main(["--write"])

    # Then it says so, makes the others and leaves that one alone
    assert missing == status == 1
    assert (tmp_path / "topics.json").read_text() == "{}"
    assert (tmp_path / "keys.json").read_text() == make_vectors.written("keys.json")


def test_the_script_finds_all_in_order() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "conformance.make_vectors"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@each(TOPICS["topics"], "topic")
def test_we_read_each_topic(vector: dict[str, str]) -> None:
    assert topics.split(vector["topic"]) == (vector["scheme"], vector["name"], vector["subject"])
    assert topics.split_source(vector["source"]) == (vector["scheme"], vector["name"])


@each(TOPICS["patterns"], "pattern")
def test_we_match_each_pattern(vector: dict[str, Any]) -> None:
    pattern = Pattern.parse(vector["pattern"])

    assert pattern.matches(vector["topic"]) is vector["matches"]
    assert pattern.prefix == vector["prefix"]


def test_we_refuse_each_bad_topic_and_pattern() -> None:
    for text in TOPICS["bad_topics"]:
        with pytest.raises(Refused):
            topics.split(text)
    for text in TOPICS["bad_patterns"]:
        with pytest.raises(Refused):
            Pattern.parse(text)


@each(EVENTS["events"])
def test_we_read_each_event(vector: dict[str, str]) -> None:
    data = vector["event"].encode()
    event = events.decode(data)

    assert events.encode(event) == data
    assert event.topic == vector["topic"]
    envelope.verify(data, bytes.fromhex(vector["signature"]), bytes.fromhex(EVENTS["public"]))


@each(EVENTS["events"])
def test_our_keyring_takes_each_event(vector: dict[str, str]) -> None:
    message = envelope.Message(
        vector["topic"].encode(),
        vector["event"].encode(),
        bytes.fromhex(vector["signature"]),
        EVENTS["certificate"].encode(),
    )

    found = Keyring([bytes.fromhex(CERTIFICATES["root"])]).authenticate(message, 1_800_000_000)

    assert found.standing.value == "valid"


@each(CERTIFICATES["valid"])
def test_we_take_each_certificate(vector: dict[str, Any]) -> None:
    ring = Keyring([bytes.fromhex(CERTIFICATES["root"])])

    found = ring.certificate(vector["token"].encode())

    claims = vector["claims"]
    assert (found.sub, found.nbf, found.exp) == (claims["sub"], claims["nbf"], claims["exp"])
    assert found.sha256 == vector["sha256"]


@each(CERTIFICATES["invalid"])
def test_we_refuse_each_bad_certificate(vector: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        Keyring([bytes.fromhex(CERTIFICATES["root"])]).certificate(vector["token"].encode())

    assert caught.value.kind == vector["kind"]


def revoking(*tokens: str) -> Keyring:
    root = bytes.fromhex(REVOCATIONS["root"])
    return Keyring([root], revocations=[token.encode() for token in tokens])


@each(REVOCATIONS["certificates"])
def test_we_refuse_what_the_list_says(vector: dict[str, Any]) -> None:
    ring = revoking(REVOCATIONS["valid"][0]["token"])

    assert (value_or_kind(ring, vector["token"]) == "revoked") is vector["revoked"]


def value_or_kind(ring: Keyring, token: str) -> object:
    try:
        return ring.certificate(token.encode())
    except Refused as error:
        return error.kind


@each(REVOCATIONS["valid"])
def test_we_take_each_list(vector: dict[str, Any]) -> None:
    found = revocations.decode(vector["token"].encode())

    claims = vector["claims"]
    assert (found.iss, found.iat, found.number) == (claims["iss"], claims["iat"], claims["number"])
    assert [one.as_dict() for one in found.revoked] == claims["revoked"]
    assert revoking(vector["token"])


@each(REVOCATIONS["invalid"])
def test_we_refuse_each_bad_list(vector: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        revoking(vector["token"])

    assert caught.value.kind == vector["kind"]


@each(KEYS["files"], "thumbprint")
def test_we_read_each_key(vector: dict[str, str]) -> None:
    key = SecretKey.decode(vector["file"].encode())

    assert key.public.hex() == vector["public"]
    assert key.curve_public == vector["curve_public"]
    assert keyfiles.decode_public_pem(vector["pem"].encode()) == key.public


@each(SESSION["messages"], "verb")
def test_we_read_each_message_of_a_session(vector: dict[str, Any]) -> None:
    frames = [
        vector["version"].encode(),
        vector["verb"].encode(),
        vector["header"].encode(),
        bytes.fromhex(vector["payload"]),
    ]

    assert messages.encode(messages.decode(frames)) == frames
    assert messages.cost(frames) == vector["cost"]


# Code that is not ours


PUBLISHER = Ed25519PublicKey.from_public_bytes(bytes.fromhex(EVENTS["public"]))
ROOT = Ed25519PublicKey.from_public_bytes(bytes.fromhex(CERTIFICATES["root"]))


@each(TOPICS["topics"], "topic")
def test_topics_are_percent_encoded_as_urls_are(vector: dict[str, str]) -> None:
    def encoded(name: str) -> str:
        keep = [quote(c) if c in ":%*?" or not c.isprintable() else c for c in name]
        return "".join(keep)

    name, subject = encoded(vector["name"]), encoded(vector["subject"])
    assert vector["source"] == f"{vector['scheme']}:{name}"
    assert vector["topic"] == f"{vector['source']}:{subject}:"
    assert [unquote(part) for part in vector["topic"].split(":")] == [
        vector["scheme"],
        vector["name"],
        vector["subject"],
        "",
    ]


@each(EVENTS["events"])
def test_cryptography_verifies_each_event(vector: dict[str, str]) -> None:
    body = vector["event"].encode()
    signed = b"DSSEv1 28 application/cloudevents+json " + str(len(body)).encode() + b" " + body

    assert vector["dsse"].encode() == signed
    assert vector["sha256"] == hashlib.sha256(body).hexdigest()
    PUBLISHER.verify(bytes.fromhex(vector["signature"]), signed)


# Attributes of CloudEvents 1.0.2, their types and the characters of their names.
REQUIRED = {"specversion", "id", "source", "type"}
OPTIONAL = {"subject", "time", "datacontenttype", "data"}
EXTENSIONS = {"sequence", "traceparent"}


@each(EVENTS["events"])
def test_each_event_is_a_cloud_event(vector: dict[str, str]) -> None:
    document = json.loads(vector["event"])

    assert set(document) >= REQUIRED
    assert set(document) <= REQUIRED | OPTIONAL | EXTENSIONS
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in document)
    attributes = {name: value for name, value in document.items() if name != "data"}
    assert all(isinstance(value, str) and value for value in attributes.values())
    assert document["specversion"] == "1.0"
    assert document["datacontenttype"] == "application/json"
    assert datetime.fromisoformat(document["time"]).utcoffset().total_seconds() == 0
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", document["source"])
    assert int(document["sequence"]) == document["data"]["sequence"]
    assert document["id"] == f"{document['data']['journal']}/{document['data']['sequence']}"
    assert document["subject"] == document["data"]["branch"]


@each(EVENTS["events"])
def test_each_event_is_compact_json_on_one_line(vector: dict[str, str]) -> None:
    document = json.loads(vector["event"])

    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    assert compact == vector["event"]
    assert not re.search("[\r\n]", vector["event"])


def test_every_kind_of_event_and_list_has_a_sample() -> None:
    data = [json.loads(vector["event"]) for vector in EVENTS["events"]]

    assert {event["type"] for event in data} == {"hg.transaction.v1", "hg.baseline.v1"}
    assert {event["data"]["origin"] for event in data} == {"live", "catchup", "revealed", "ping"}
    keys = {key for event in data for key in event["data"]}
    assert keys >= {"changesets", "bookmarks", "tags", "phases", "obsoleted", "removed"}
    assert keys >= {"continues", "previous", "pusher", "heads", "summary"}
    assert any(event["data"]["transaction"]["parts"] > 1 for event in data)
    assert any(not vector["event"].isascii() for vector in EVENTS["events"])


@each(CERTIFICATES["valid"])
def test_pyjwt_takes_each_certificate(vector: dict[str, Any]) -> None:
    # Time is not its question here: the vectors are kept for ever.
    options = {"verify_exp": False, "verify_nbf": False, "require": ["exp", "nbf", "sub", "jti"]}

    claims = jwt.decode(vector["token"], ROOT, algorithms=["EdDSA"], options=options)

    assert claims == vector["claims"]
    header = jwt.get_unverified_header(vector["token"])
    assert (header["typ"], header["alg"]) == ("zmqhooks-cert+jwt", "EdDSA")
    assert header["kid"] == rfc7638(bytes.fromhex(CERTIFICATES["root"]))
    jwk = jwt.PyJWK(claims["cnf"]["jwk"] | {"alg": "EdDSA"})
    assert jwk.key_type == "OKP"
    assert len(z85.decode(claims["cnf"]["curve"].encode())) == 32
    assert hashlib.sha256(vector["token"].encode()).hexdigest() == vector["sha256"]


@each(REVOCATIONS["valid"])
def test_pyjwt_takes_each_list(vector: dict[str, Any]) -> None:
    options = {"verify_iat": False}  # the vectors are kept for ever

    claims = jwt.decode(vector["token"], ROOT, algorithms=["EdDSA"], options=options)

    assert claims == vector["claims"]
    header = jwt.get_unverified_header(vector["token"])
    assert (header["typ"], header["alg"]) == ("zmqhooks-crl+jwt", "EdDSA")
    assert header["kid"] == rfc7638(bytes.fromhex(REVOCATIONS["root"]))


def rfc7638(public: bytes) -> str:
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "name",
    ["alg none", "alg none without a signature", "alg HS256", "another root",
     "signed by another key", "another claim than signed", "five segments"],
)  # fmt: skip
def test_pyjwt_refuses_forged_certificates_too(name: str) -> None:
    [token] = [vector["token"] for vector in CERTIFICATES["invalid"] if vector["name"] == name]

    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(token, ROOT, algorithms=["EdDSA"], options={"verify_exp": False})


@each(KEYS["files"], "thumbprint")
def test_cryptography_reads_each_key(vector: dict[str, str]) -> None:
    document = json.loads(vector["file"])
    seed = base64.urlsafe_b64decode(document["ed25519"] + "=")
    curve = X25519PrivateKey.from_private_bytes(z85.decode(document["curve"].encode()))
    pem = serialization.load_pem_public_key(vector["pem"].encode())

    assert isinstance(pem, Ed25519PublicKey)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    assert public == pem
    assert public.public_bytes_raw().hex() == vector["public"]
    assert z85.encode(curve.public_key().public_bytes_raw()).decode() == vector["curve_public"]
    assert rfc7638(public.public_bytes_raw()) == vector["thumbprint"]
    assert (
        pem.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        == vector["pem"].encode()
    )


def test_plain_code_reads_a_batch() -> None:
    """Signature, then event, of each record, one after another."""
    [batch] = [
        vector for vector in SESSION["messages"] if vector["verb"] == "EVENTS" and vector["payload"]
    ]
    header, payload = json.loads(batch["header"]), bytes.fromhex(batch["payload"])
    [[sequence, certificate, length]] = header["records"]

    signature, body = payload[:64], payload[64:]

    assert len(body) == length
    assert json.loads(body)["data"]["sequence"] == sequence
    assert hashlib.sha256(header["certificates"][0].encode()).hexdigest() == certificate
    PUBLISHER.verify(signature, b"DSSEv1 28 application/cloudevents+json %d %b" % (length, body))
