"""The key in an hg process: which ones are refused, and when the certificate's time is a topic."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hgkit import DAY, make_keys

from hgext_zmqhooks import settings, signer
from hgext_zmqhooks.settings import SettingError
from hgext_zmqhooks.wire import envelope, keyfiles


def load(folder: Path, repo: str = "team/app") -> signer.KeySigner:
    return signer.load(settings.parse({"key": str(folder / "publisher.key")}), repo)


def test_signs_with_the_key_of_its_certificate(tmp_path: Path) -> None:
    key = make_keys(tmp_path)
    found = load(tmp_path)
    envelope.verify(b"{}", found.sign(b"{}"), key.public)
    assert found.certificate == key.certificate


def test_a_key_that_no_subscriber_accepts(tmp_path: Path) -> None:
    make_keys(tmp_path, publish=("hg:other/*:**:",))
    with pytest.raises(SettingError, match=r"may not publish hg:team/app \(only hg:other/"):
        load(tmp_path)
    assert load(tmp_path, "other/x").details.sub == "publisher"
    make_keys(tmp_path, roles=("subscriber",))
    with pytest.raises(SettingError, match="may not publish"):
        load(tmp_path)


def test_a_key_without_certificate_or_with_anothers(tmp_path: Path) -> None:
    key = make_keys(tmp_path)
    path = tmp_path / "publisher.key"
    path.write_bytes(replace(key, certificate=None).encode())
    with pytest.raises(SettingError, match="no certificate"):
        load(tmp_path)
    other = keyfiles.generate("other")
    path.write_bytes(replace(other, certificate=key.certificate).encode())
    with pytest.raises(SettingError, match="for another key"):
        load(tmp_path)
    path.write_bytes(replace(key, certificate=b"a.b.c").encode())
    with pytest.raises(SettingError, match="bad-certificate"):
        load(tmp_path)


@pytest.mark.parametrize("before", [None, b"", b'{"version": 1, "na'])
def test_a_key_that_is_being_replaced_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    # Given a new key that is there by half, or not yet
    monkeypatch.setattr(signer, "PATIENCE", 60.0)
    monkeypatch.setattr(signer, "RECENT", 60.0)
    key = make_keys(tmp_path)
    path = tmp_path / "publisher.key"
    whole = path.read_bytes()
    path.unlink()
    if before is not None:
        path.touch(0o600)
        path.write_bytes(before)
    # When a transaction begins, and the key becomes whole meanwhile
    pauses = iter([lambda: None, lambda: write(path, whole)])
    monkeypatch.setattr(signer.time, "sleep", lambda _: next(pauses)())
    # Then it signs with it
    assert load(tmp_path).certificate == key.certificate


def write(path: Path, data: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(data)


def test_a_key_that_is_bad_for_long_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_keys(tmp_path)
    path = tmp_path / "publisher.key"
    path.write_bytes(b"{}")
    os.utime(path, (0, 0))
    monkeypatch.setattr(signer.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(SettingError, match="not a key file"):
        load(tmp_path)
    with pytest.raises(SettingError, match="does not exist"):
        signer.read_key(settings.parse({"key": "/nowhere/at/all.key"}))


def test_warns_in_the_last_third_and_after(tmp_path: Path) -> None:
    make_keys(tmp_path, valid=(0, 90 * DAY))
    found, now = load(tmp_path), time.time()
    assert found.warning(now + 59 * DAY) is None
    assert "expires" in (found.warning(now + 61 * DAY) or "")
    assert "expired" in (found.warning(now + 91 * DAY) or "")
    assert "not valid yet" in (found.warning(now - DAY) or "")


def test_keys_of_a_tcp_relay(tmp_path: Path) -> None:
    key = make_keys(tmp_path)
    assert key.certificate
    (tmp_path / "relay.cert").write_bytes(key.certificate)
    texts = {
        "key": str(tmp_path / "publisher.key"),
        "relay": "tcp://127.0.0.1:1",
        "relay-certificate": str(tmp_path / "relay.cert"),
    }
    curve = signer.curve(settings.parse(texts), key)
    assert curve
    assert (curve.public, curve.server) == (key.curve_public, key.curve_public)
    with pytest.raises(SettingError, match="does not exist"):
        signer.curve(settings.parse({**texts, "relay-certificate": "/nowhere"}), key)
    assert signer.curve(settings.parse({**texts, "relay": ""}), key) is None


def test_which_branches_its_certificate_covers(tmp_path: Path) -> None:
    make_keys(tmp_path, publish=("hg:team/*:release-*:",))
    key = load(tmp_path)
    key.check_branch("team/app", "release-1")
    with pytest.raises(SettingError, match="may not publish hg:team/app:default:"):
        key.check_branch("team/app", "default")
