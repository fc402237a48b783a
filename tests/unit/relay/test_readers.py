import os
import time

import pytest
import relaykit

from hgext_zmqhooks.relay.readers import faults, load_readers
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire.errors import Refused


@pytest.fixture
def keys():
    return relaykit.Keys()


@pytest.fixture
def write(tmp_path):
    def write(key, name="reader.cert"):
        path = tmp_path / name
        path.write_bytes(key.certificate + b"\n")
        return path

    return write


def test_readers_are_known_by_their_curve_keys(keys, write):
    old = keys.make("old", read=(relaykit.EVERYTHING,), nbf=-60, lasts=-1)
    paths = [write(keys.subscriber), write(old, "old.cert")]

    readers = load_readers(paths, keys.keyring)

    readers.check(keys.subscriber.curve_public, time.time())
    with pytest.raises(Refused, match="expired"):
        readers.check(old.curve_public, time.time())
    assert readers.valid(time.time()) == {keys.subscriber.curve_public}
    ((path, reason),) = faults(paths, keys.keyring, time.time())
    assert (path, reason) == (paths[1], "the certificate of 'old' is expired")


@pytest.mark.parametrize(
    ("make", "reason", "hint"),
    [
        (lambda keys: keys.make("half", read=("hg:team/**:**:",)),
         "'half' may not read everything, and a broadcast is everything", "zmq-keys issue --root"),
        (lambda keys: keys.publisher, "'publisher' may not read everything", "zmq-keys issue"),
        (lambda _: relaykit.Keys().subscriber, "is no reader's certificate: certificate of 'ci'",
         "it must be an N.cert under a root"),
    ],
)  # fmt: skip
def test_one_that_can_never_read_is_an_error_that_names_its_file(keys, write, make, reason, hint):
    path = write(make(keys))

    with pytest.raises(ConfigError) as caught:
        load_readers([path], keys.keyring)

    assert str(caught.value).startswith(f"{path}: {reason}")
    assert caught.value.hint.startswith(hint)
    ((_, said),) = faults([path], keys.keyring, time.time())
    assert said.startswith(reason)


def test_a_file_that_is_missing_or_something_else(keys, tmp_path):
    with pytest.raises(ConfigError, match="does not exist") as caught:
        load_readers([tmp_path / "no.cert"], keys.keyring)
    assert caught.value.hint.startswith("copy the N.cert")
    (tmp_path / "x.cert").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="is not what it should be: not a compact JWS"):
        load_readers([tmp_path / "x.cert"], keys.keyring)


def test_a_pipe_in_its_place_lets_nobody_wait(keys, tmp_path):
    os.mkfifo(tmp_path / "pipe.cert")
    with pytest.raises(ConfigError, match="is not a regular file"):
        load_readers([tmp_path / "pipe.cert"], keys.keyring)


def test_one_that_everybody_may_replace_is_an_error(keys, write):
    path = write(keys.subscriber)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="everybody may replace it") as caught:
        load_readers([path], keys.keyring)
    assert caught.value.hint == f"chmod o-w {path}"


def test_one_that_is_revoked_keeps_its_place_and_is_a_fault(keys, write):
    path = write(keys.subscriber)
    keys.revoke("ci")

    readers = load_readers([path], keys.keyring)

    with pytest.raises(Refused, match="revoked"):
        readers.check(keys.subscriber.curve_public, time.time())
    ((_, reason),) = faults([path], keys.keyring, time.time())
    assert "jti-ci of 'ci' was revoked" in reason
