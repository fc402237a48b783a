"""Secrets in files: who may read them, and what they hold."""

import os

import pytest

from hgext_zmqhooks.service.secretfile import LIMIT, SecretFileError, read_secret


def write(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("data", [b"ci:secret", b"ci:secret\n", b"ci:secret\r\n"])
def test_the_line_without_its_end(tmp_path, data):
    assert read_secret(write(tmp_path / "s", data)) == "ci:secret"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "one line"),
        (b"\n", "one line"),
        (b"a\nb\n", "one line"),
        (b"a\0b\n", "one line"),
        (b"\xff\n", "UTF-8"),
        (b"a" * (LIMIT + 1), "larger"),
    ],
)
def test_what_is_no_secret(tmp_path, data, reason):
    with pytest.raises(SecretFileError, match=reason) as caught:
        read_secret(write(tmp_path / "s", data))
    assert caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o777])
def test_what_others_may_read_or_write_is_refused(tmp_path, mode):
    path = write(tmp_path / "s", b"x", mode)
    with pytest.raises(SecretFileError, match=f"{mode:04o}") as caught:
        read_secret(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_secret(tmp_path / "pipe")
    with pytest.raises(SecretFileError, match="does not exist") as caught:
        read_secret(tmp_path / "none")
    assert caught.value.file == str(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path}/none: does not exist"
