"""Key files on disk, with real files and modes."""

import grp
import os
import re
import stat
from pathlib import Path

import pytest
from support.nobody import unprivileged

from hgext_zmqhooks.keys import make
from hgext_zmqhooks.keys.files import (
    LIMIT,
    KeyFileError,
    NotWrittenError,
    load_any,
    load_certificate,
    load_revocations,
    load_roots,
    load_secret,
    write_private,
)
from hgext_zmqhooks.service.errors import EXIT
from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.keyring import Keyring

ROOT = keyfiles.generate("root")
KEY = make.certified(ROOT, make.Wish("ci", read=(make.EVERYTHING,)), now=1_800_000_000)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "ci.key"
    write_private(path, KEY.encode())
    return path


def own_group(path: Path) -> str:
    return grp.getgrgid(path.stat().st_gid).gr_name


def other_group(path: Path) -> str:
    return next(g.gr_name for g in grp.getgrall() if g.gr_gid != path.stat().st_gid)


def refused(path: Path, **options: str) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        load_secret(path, **options)
    assert caught.value.file == str(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert caught.value.status == EXIT.CONFIG
    return caught.value


def test_what_was_written_is_read_again(key: Path) -> None:
    assert load_secret(key) == KEY


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_file_has_exactly_its_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_private(tmp_path / "a.key", b"x")
        write_private(tmp_path / "a.cert", b"x", 0o644)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a.cert").stat().st_mode) == 0o644


def test_an_existing_file_is_never_replaced(key: Path) -> None:
    with pytest.raises(NotWrittenError, match="exists already") as caught:
        write_private(key, b"other")

    assert caught.value.status == EXIT.PROBLEM
    assert load_secret(key) == KEY


def test_a_link_is_not_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotWrittenError):
        write_private(tmp_path / "a.key", b"x")

    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_cannot_be_written_whole_is_removed() -> None:
    import resource
    import signal
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.key")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            with pytest.raises(NotWrittenError):
                write_private(path, b"x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)

        assert not path.exists()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_modes_for_the_owner_alone_are_taken(key: Path, mode: int) -> None:
    key.chmod(mode)

    assert load_secret(key) == KEY
    assert load_secret(key, key_group=other_group(key)) == KEY


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o610, 0o644, 0o660, 0o666, 0o777])
def test_looser_modes_are_refused_with_and_without_a_group(key: Path, mode: int) -> None:
    key.chmod(mode)

    for options in ({}, {"key_group": own_group(key)}):
        error = refused(key, **options)
        assert f"has mode {mode:04o}, looser than" in error.reason
        assert f"{key}" in error.hint
        assert error.hint.startswith("chmod 6")


def test_the_group_may_read_only_when_it_is_named(key: Path) -> None:
    key.chmod(0o640)

    assert load_secret(key, key_group=own_group(key)) == KEY
    assert "may read it" in refused(key).reason
    wrong = refused(key, key_group=other_group(key))
    assert f"but key-group is {other_group(key)}" in wrong.reason


def test_a_group_that_does_not_exist_is_named(key: Path) -> None:
    key.chmod(0o640)

    assert "no-such-group" in refused(key, key_group="no-such-group").reason


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.key")

    assert error.reason == "does not exist"
    assert "zmq-keys" in error.hint


def test_a_file_that_this_user_may_not_read_says_who_is_meant(key: Path) -> None:
    key.chmod(0o000)
    with unprivileged() as name:
        error = refused(key)

    assert re.search(rf"/\S+ \(\S+:\S+ 0[0-7]+\) may not be \w+ by user {name}$", error.reason)
    assert "key-group" in error.hint
    assert "chown USER" in error.hint


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.key"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("/dev/zero")

    assert refused(path).reason == "is not a regular file"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.key"
    write_private(path, b"{" * (LIMIT + 1))

    assert "larger than" in refused(path).reason


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"version":1,"name":"x","ed25519":"?"}']
)
def test_other_contents_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.key"
    write_private(path, data)

    assert "is not what it should be" in refused(path).reason


def test_no_error_shows_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "odd.key"
    secret = keyfiles.b64url_encode(KEY.seed)
    write_private(path, KEY.encode().replace(b'"curve"', b'"kurve"'))

    error = refused(path)

    assert secret not in str(error) + error.hint + repr(error)


def test_a_keyring_trusts_the_roots_of_the_files(tmp_path: Path) -> None:
    write_private(tmp_path / "root.pub", keyfiles.encode_public_pem(ROOT.public), 0o644)
    write_private(tmp_path / "ci.cert", (KEY.certificate or b"") + b"\n", 0o644)

    keyring = Keyring(load_roots(tmp_path / "root.pub"))
    certificate = load_certificate(tmp_path / "ci.cert")

    assert keyring.certificate(certificate.token) == certificate
    assert load_roots(tmp_path / "root.pub") == [ROOT.public]


def test_public_files_that_everybody_may_replace_are_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "root.pub", keyfiles.encode_public_pem(ROOT.public), 0o666)

    with pytest.raises(KeyFileError, match="everybody may replace it"):
        load_roots(tmp_path / "root.pub")


@pytest.mark.parametrize("load", [load_roots, load_certificate, load_revocations])
def test_a_secret_key_is_neither_root_nor_certificate(key: Path, load: object) -> None:
    assert callable(load)
    with pytest.raises(KeyFileError, match="is not what it should be"):
        load(key)


def test_any_kind_is_recognised_but_not_a_loose_key(tmp_path: Path, key: Path) -> None:
    write_private(tmp_path / "root.pub", keyfiles.encode_public_pem(ROOT.public), 0o644)
    write_private(tmp_path / "ci.cert", KEY.certificate or b"", 0o644)

    assert load_any(tmp_path / "root.pub").value == [ROOT.public]
    assert load_any(tmp_path / "ci.cert").value == load_certificate(tmp_path / "ci.cert")
    assert load_any(key).value == KEY
    key.chmod(0o640)
    assert load_any(key).mode == "0640"
    key.chmod(0o644)
    with pytest.raises(KeyFileError, match="looser than"):
        load_any(key)
