"""What a rule says of its command, and how that command then runs, on this host."""

import errno
import os
import pwd
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from actionskit import job, run
from support.nobody import NOBODY, unprivileged

from subscriber.actions import guard
from subscriber.actions.base import Kind, Verdict
from subscriber.actions.make import described, make, missing, refused
from subscriber.actions.outcome import Outcome, judge
from subscriber.actions.place import Place
from subscriber.actions.settings import ExecSettings, wrong_action

GUARD = Path(guard.__file__)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


def said(text: str = "true", **more: object) -> ExecSettings:
    value = {"command": ["/bin/sh", "-c", text], **more}
    return msgspec.convert(value, ExecSettings, dec_hook=lambda wanted, given: wanted.parse(given))


def here(folder: Path, descriptors: int | None = None) -> Place:
    return Place(folder, folder / "runners", descriptors)


def ran(folder: Path, text: str, **more: object) -> Verdict:
    return run(make(said(text, **more), here(folder)), job())


def test_it_runs_in_its_directory_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()

    verdict = ran(tmp_path, "pwd", directory="work")

    assert verdict.output.decode().strip() == str((tmp_path / "work").resolve())


def test_it_sees_what_is_handed_on_and_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    environment = {"pass": ["HTTPS_PROXY", "NOT_THERE"], "set": {"LANG": "C", "MODE": "a=b"}}

    verdict = ran(tmp_path, "env", environment=environment)

    seen = dict(line.split("=", 1) for line in verdict.output.decode().splitlines())
    assert (seen["HTTPS_PROXY"], seen["LANG"], seen["MODE"]) == ("http://proxy", "C", "a=b")
    assert not {"SECRET_TOKEN", "NOT_THERE"} & seen.keys()


def test_a_path_that_is_set_is_where_the_command_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "bin" / "mine").chmod(0o755)
    what = ExecSettings(
        command=("mine",),
        environment=msgspec.structs.replace(
            ExecSettings(command=()).environment, set={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        ),
    )

    assert list(missing("exec", what, here(tmp_path))) == []
    assert described(what, here(tmp_path)) == str(tmp_path / "bin" / "mine")
    assert run(make(what, here(tmp_path)), job()).output == b"found\n"


@pytest.mark.parametrize(
    ("limits", "text", "seen"),
    [
        ({"files": 100}, "ulimit -Sn; ulimit -Hn", b"100\n100\n"),
        ({"memory": "1GiB"}, "ulimit -Sv; ulimit -Hv", b"1048576\n1048576\n"),
        ({"cpu": "10m"}, "ulimit -St; ulimit -Ht", b"600\n605\n"),
    ],
)
def test_it_gets_its_limits_and_cannot_raise_them(
    tmp_path: Path, limits: dict[str, object], text: str, seen: bytes
) -> None:
    assert ran(tmp_path, text, limits=limits).output == seen


def test_a_limit_of_open_files_replaces_that_of_the_daemon(tmp_path: Path) -> None:
    plain, limited = said("ulimit -n"), said("ulimit -n", limits={"files": 77})

    seen = [run(make(each, here(tmp_path, 123)), job()).output for each in (plain, limited)]

    assert seen == [b"123\n", b"77\n"]


def test_what_needs_more_memory_than_it_may_have_fails(tmp_path: Path) -> None:
    program = "python3 -c 'x = bytearray(3 << 30)'"

    verdict = ran(tmp_path, program, limits={"memory": "512MiB"})

    assert (verdict.kind, verdict.exit_status) == (Kind.RETRY, 1)
    assert b"MemoryError" in verdict.output


def test_what_computes_for_too_long_is_ended_by_a_signal(tmp_path: Path) -> None:
    verdict = ran(tmp_path, "while :; do :; done", limits={"cpu": "1s"})

    assert verdict.kind is Kind.RETRY
    assert verdict.reason == "ended by signal SIGXCPU"


@needs_root
def test_it_runs_as_its_user_with_its_groups_and_its_home(tmp_path: Path) -> None:
    entry = pwd.getpwuid(NOBODY)

    verdict = ran(tmp_path, "id -u; id -g; id -G; echo $HOME $USER $LOGNAME", user=entry.pw_name)

    assert verdict.output.decode().splitlines() == [
        str(entry.pw_uid),
        str(entry.pw_gid),
        " ".join(map(str, os.getgrouplist(entry.pw_name, entry.pw_gid))),
        f"{entry.pw_dir} {entry.pw_name} {entry.pw_name}",
    ]


@needs_root
def test_a_user_need_not_be_able_to_read_the_daemons_python(tmp_path: Path) -> None:
    """What the search in PATH needs is there before the runner becomes the user."""
    what = ExecSettings(command=("id", "-u"), user=pwd.getpwuid(NOBODY).pw_name)

    assert run(make(what, here(tmp_path)), job()).output == f"{NOBODY}\n".encode()


def test_the_runner_loads_nothing_later() -> None:
    program = "import guard, sys; had = set(sys.modules)\n"
    program += "try: guard.os.execvpe('/no/such', ['x'], {})\nexcept OSError: pass\n"
    program += "try: guard.os.execvpe('no-such', ['x'], {})\nexcept OSError: pass\n"
    program += "print(sorted(set(sys.modules) - had))"
    words = [sys.executable, "-S", "-c", program]

    done = subprocess.run(words, cwd=GUARD.parent, capture_output=True, check=True, text=True)

    assert done.stdout == "[]\n"


def test_a_limit_beyond_all_numbers_is_named(tmp_path: Path) -> None:
    verdict = ran(tmp_path, "true", limits={"files": 10**30, "memory": 10**30})

    assert "its limits cannot be set" in verdict.reason


def test_a_host_without_a_free_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise BlockingIOError(errno.EAGAIN, "none")

    monkeypatch.setattr(os, "fork", none)

    with pytest.raises(guard.NotStarted, match=f"^{errno.EAGAIN} command$"):
        guard.start(["true"], {}, {})


@needs_root
def test_a_user_has_no_more_processes_than_it_may(tmp_path: Path) -> None:
    text = "(sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait) 2>&1"
    name = pwd.getpwuid(NOBODY).pw_name

    verdict = ran(tmp_path, text, user=name, limits={"processes": 3})

    assert verdict.kind is Kind.RETRY or b"fork" in verdict.output


def test_its_own_user_changes_nothing(tmp_path: Path) -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name

    assert ran(tmp_path, "id -un", user=name).output.decode().strip() == name
    assert list(refused("exec", said(user=name))) == []


def test_a_daemon_without_the_right_refuses_another_user() -> None:
    with unprivileged() as me:
        (wrong,) = refused("rules[0].exec", said(user="root"))

    assert wrong[:2] == ("rules[0].exec.user", "root")
    assert (me in wrong[2], "as root" in wrong[3]) == (True, True)


def test_a_user_that_is_not_there_is_refused() -> None:
    (wrong,) = refused("exec", said(user="no-such-user"))

    assert wrong[:3] == ("exec.user", "no-such-user", "no such user")


@pytest.mark.parametrize("step", ["user", "limits"])
def test_a_step_before_the_command_that_fails_is_named(step: str) -> None:
    outcome = Outcome()
    outcome.learn(f"failed 1 {step}")

    verdict = judge(outcome, where="x", cancelled=None, limit=5, started=1, ended=2)

    assert outcome.complete
    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
    assert verdict.reason == f"cannot start x: its {step} cannot be set: Operation not permitted"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (ExecSettings(command=("./x",)), "exec.command[0]"),
        (("./x",), "exec[0]"),
        (("no-such-command",), "exec[0]"),
        (ExecSettings(command=("true",), directory="none"), "exec.directory"),
    ],
)
def test_what_is_missing_now_is_named(tmp_path: Path, value: ExecSettings, key: str) -> None:
    (wrong,) = missing("exec", value, here(tmp_path))

    assert wrong[0] == key


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"command": []}, "exec.command"),
        ({"command": ["a", "b\0"]}, "exec.command"),
        ({"directory": ""}, "exec.directory"),
        ({"environment": {"pass": ["A B"]}}, "exec.environment.pass"),
        ({"environment": {"set": {"1A": "x"}}}, "exec.environment.set"),
        ({"environment": {"set": {"ZMQHOOKS_FENCE": "1"}}}, "exec.environment.set"),
        ({"environment": {"set": {"A": "\0"}}}, "exec.environment.set.A"),
        ({"limits": {"memory": 0}}, "exec.limits.memory"),
        ({"limits": {"files": 0}}, "exec.limits.files"),
        ({"limits": {"processes": 0}}, "exec.limits.processes"),
        ({"limits": {"cpu": "0s"}}, "exec.limits.cpu"),
        ({"limits": {"cpu": "8d"}}, "exec.limits.cpu"),
    ],
)
def test_what_is_wrong_in_itself_is_named(more: dict[str, object], key: str) -> None:
    found = list(wrong_action("exec", said(**more)))

    assert [wrong[0] for wrong in found] == [key]
    assert found[0][3]
