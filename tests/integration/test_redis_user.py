"""`init --redis`: the user of a server for a store, with the rights that a daemon needs."""

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from relaykit import draft
from subscriberkit import COMMAND, Site, site
from support.valkey import Server
from support.waiting import PATIENCE, wait_for

from subscriber.store.redis_session import key_prefix, library


@pytest.fixture
def here() -> Iterator[Site]:
    with site() as made:
        yield made


def init(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), "init", "--redis", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_daemon_and_its_verbs_work_as_that_user(here: Site, tmp_path: Path) -> None:
    file = here.folder / "ci.redis"
    done = init("ci", "--credentials", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    user, _, password = file.read_text().strip().partition(":")
    assert user == "zmqhooks-ci"
    assert password not in done.stdout

    with Server(tmp_path / "valkey") as server:
        with server.client() as admin:
            admin.execute_command(*done.stdout.split())
            admin.function_load(library(), replace=True)
            admin.execute_command("ACL", "SETUSER", "default", "off")
        here.configure(store={"url": server.url, "credentials": "ci.redis"}, state="one")
        here.repo().commit(draft())
        here.start()
        here.wait_runs(1)
        wait_for(lambda: here.rows("deliveries", "--state", "done"), "it is done")
        for words in (["pause", "build"], ["resume", "build"], ["redeliver", "--state", "done"]):
            (row,) = here.rows(*words, *(["--rule", "build"] if words[0] == "redeliver" else []))
            assert row["kind"] in {"paused", "resumed", "redelivered"}
        here.wait_runs(2)


def test_a_file_that_is_there_is_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("alice:pass\n")

    first, second = (init("ci", "--credentials", str(file), "--json").stdout for _ in range(2))

    row = json.loads(first)
    assert first == second
    assert row["line"].startswith(
        "ACL SETUSER alice reset on #d74ff0ee8da3b9806b18c877dbf29bbde50b5"
    )
    assert "~{zmqhooks:ci}*" in row["line"]
    assert file.read_text() == "alice:pass\n"


def test_name_and_file_may_be_those_of_the_configuration(here: Site) -> None:
    store = {"url": "redis://127.0.0.1:1/0", "credentials": "ci.redis"}
    here.configure(store=store)

    done = init("--config", str(here.config))

    assert done.returncode == 0
    assert done.stdout.startswith("ACL SETUSER zmqhooks-ci ")
    assert (here.folder / "ci.redis").exists()


@pytest.mark.parametrize("name", ["build é", "*", "a[bc]\\"])
def test_any_name_has_the_rights_for_its_own_keys_only(tmp_path: Path, name: str) -> None:
    done = init(name, "--credentials", str(tmp_path / "secret"))
    assert (done.returncode, done.stderr) == (0, "")
    user, _, password = (tmp_path / "secret").read_text().strip().partition(":")

    with Server(tmp_path / "valkey") as server, server.client() as admin:
        admin.execute_command(*done.stdout.split())

        admin.auth(password, user)
        assert admin.hset(f"{key_prefix(name)}:x", "a", "b") == 1
        for other in ("other", "ab", f"{name}x"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                admin.hset(f"{key_prefix(other)}:x", "a", "b")


@pytest.mark.parametrize(
    ("words", "text", "status", "hint"),
    [
        ((), None, 2, "--credentials FILE"),
        (("ci",), None, 2, "--credentials FILE"),
        (("--credentials", "FILE"), None, 2, "init --redis NAME"),
        (("ci", "--credentials", "FILE/none"), None, 1, "folder"),
        (("ci", "--credentials", "FILE"), "alone", 78, "user:password"),
        (("ci", "--credentials", "FILE"), "a b:pass", 78, "user:password"),
        (("ci", "--credentials", "FILE"), "a:b\nc", 78, "one line"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, *, words, text, status: int, hint: str) -> None:
    file = tmp_path / "secret"
    if text is not None:
        file.touch(0o600)
        file.write_text(text)

    done = init(*(word.replace("FILE", str(file)) for word in words))

    assert (done.returncode, done.stdout) == (status, "")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_alone_mean_nothing(tmp_path: Path) -> None:
    command = [str(COMMAND), "init", "--credentials", str(tmp_path / "x")]

    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
