"""What stops a process from using a path is named: which folder, whose, with which mode."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nobody import unprivileged

from hgext_zmqhooks.service.access import me, obstacle, remedy, rights

FOLDER = os.R_OK | os.X_OK


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path
        for inner in filter(Path.is_dir, path.iterdir()):
            inner.chmod(0o755)


def test_nothing_is_in_the_way(folder: Path) -> None:
    file = folder / "key"
    file.touch(0o644)

    assert obstacle(file, os.R_OK) is None
    assert obstacle(folder, FOLDER) is None


def test_the_first_folder_that_is_closed_is_named(folder: Path) -> None:
    below = folder / "etc" / "keys"
    below.mkdir(parents=True)
    (folder / "etc").chmod(0o600)

    with unprivileged() as user:
        found = obstacle(below / "a.key", os.R_OK)

    assert re.fullmatch(
        rf"{folder}/etc \(\w+:\w+ 0600\) may not be entered by user {user}", found or ""
    )


@pytest.mark.parametrize(
    ("mode", "word"), [(os.R_OK, "read"), (os.W_OK, "written")], ids=["read", "write"]
)
def test_a_file_that_is_closed_is_named(folder: Path, mode: int, word: str) -> None:
    file = folder / "a.key"
    file.touch(0o000)

    with unprivileged() as user:
        assert obstacle(file, mode) == f"{file} ({rights(file)}) may not be {word} by user {user}"


def test_what_is_missing_is_named_from_above(folder: Path) -> None:
    assert obstacle(folder / "none" / "a", os.R_OK) == f"{folder}/none does not exist"
    assert obstacle(folder / "none", os.R_OK) == f"{folder}/none does not exist"
    (folder / "file").touch()
    assert obstacle(folder / "file" / "a", os.R_OK) == f"{folder}/file is not a folder"


def test_a_link_is_followed(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "gone")

    assert obstacle(folder / "link", os.R_OK) == f"{folder}/gone does not exist"


def test_what_is_to_be_made_needs_a_folder_to_write_into(folder: Path) -> None:
    inner = folder / "closed"
    inner.mkdir(0o555)

    with unprivileged():
        assert "may not be written into" in (obstacle(inner / "a", os.W_OK, make=True) or "")
    inner.chmod(0o777)
    with unprivileged():
        assert obstacle(inner / "a", os.W_OK, make=True) is None


def test_what_helps_depends_on_whose_it_is(folder: Path) -> None:
    mine = folder / "mine"
    mine.touch(0o444)

    assert remedy(mine) == f"chmod u+w {mine}"
    assert remedy(folder / "new") == f"chmod u+w {folder}"
    assert remedy(folder / "none" / "new") == f"mkdir -p {folder / 'none'}"


def test_what_is_another_users_must_change_its_owner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other").touch()
    monkeypatch.setattr("os.geteuid", lambda: folder.stat().st_uid + 1)
    monkeypatch.setattr("hgext_zmqhooks.service.access.me", lambda: "user ci")

    assert remedy(folder / "other") == f"chown -R ci {folder}"


def test_a_user_or_a_group_without_a_name_is_a_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("grp.getgrgid", {}.__getitem__)
    status = folder.stat()

    assert rights(folder) == f"{status.st_uid}:{status.st_gid} 0755"
    assert me() == f"user id {os.geteuid()}"
