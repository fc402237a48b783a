"""The exec action, with real commands: input, environment, output, limits, and what it leaves."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from actionskit import job, run
from support.waiting import wait_for

from hgext_zmqhooks.service.clock import boot_clock
from subscriber.actions.base import LEASE_OVER, OUTPUT_LIMIT, Cancel, Kind, Verdict
from subscriber.actions.environment import environment
from subscriber.actions.exec import Exec
from subscriber.actions.outcome import Outcome, judge

DEADLINE = 20.0


def shell(folder: Path, text: str, **options: object) -> Exec:
    return Exec(("/bin/sh", "-c", text), str(folder), **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended but was not reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_input_is_exactly_the_parts_one_line_each(tmp_path: Path) -> None:
    parts = [b'{"a":"\xc3\xa9"}', b'{"b":2}', b"x" * 300_000]

    verdict = run(shell(tmp_path, "cat > got"), job(*parts))

    assert verdict.kind is Kind.DONE
    assert (tmp_path / "got").read_bytes() == b"".join(part + b"\n" for part in parts)


def test_a_command_that_reads_nothing_is_done_all_the_same(tmp_path: Path) -> None:
    verdict = run(shell(tmp_path, "exec 0<&-; exit 0"), job(b"x" * 3_000_000))

    assert (verdict.kind, verdict.exit_status) == (Kind.DONE, 0)


def test_the_environment_is_small_and_tells_the_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LC_TIME", "C")

    verdict = run(Exec(("env",), str(tmp_path)), job())

    seen = dict(line.split("=", 1) for line in verdict.output.decode().splitlines())
    assert {name: seen[name] for name in seen if name.startswith("ZMQHOOKS_")} == {
        "ZMQHOOKS_EVENT_ID": "j/1",
        "ZMQHOOKS_DELIVERY_ID": "d1",
        "ZMQHOOKS_FENCE": "7",
        "ZMQHOOKS_ATTEMPT": "2",
        "ZMQHOOKS_RULE": "build",
        "ZMQHOOKS_TOPIC": "hg:app:default:",
        "ZMQHOOKS_REPO": "app",
        "ZMQHOOKS_BRANCH": "default",
        "ZMQHOOKS_NODE": "a" * 40,
        "ZMQHOOKS_USER": "alice",
    }
    assert seen["TRACEPARENT"] == "00-1-2-01"
    assert seen["LC_TIME"] == "C"
    inherited = {"PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR", "TRACEPARENT"}
    rest = {name for name in seen if not name.startswith(("ZMQHOOKS_", "LC_"))}
    assert rest <= inherited


def test_names_from_the_event_cannot_break_the_environment() -> None:
    hostile = "x\0PATH=/evil\nA=b" + "é" * 100_000 + "\udc80"

    values = environment(job(branch=hostile, user=None, node=None, traceparent=None), {})

    assert "\0" not in values["ZMQHOOKS_BRANCH"]
    assert len(values["ZMQHOOKS_BRANCH"].encode()) <= 4096
    assert values["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert (values["ZMQHOOKS_USER"], values["ZMQHOOKS_NODE"]) == ("", "")
    assert "TRACEPARENT" not in values


def test_it_gets_the_limit_of_open_files_that_the_daemon_was_started_with(tmp_path: Path) -> None:
    verdict = run(shell(tmp_path, "ulimit -n", setup=("soft-files=123",)), job())

    assert verdict.output == b"123\n"


def test_it_runs_in_its_folder_by_a_relative_path(tmp_path: Path) -> None:
    script = tmp_path / "build.sh"
    script.write_text("#!/bin/sh\npwd\n")
    script.chmod(0o755)

    verdict = run(Exec(("./build.sh",), str(tmp_path)), job())

    assert verdict.output.decode().strip() == str(tmp_path.resolve())


def test_output_is_both_streams_and_only_the_end_of_a_lot_is_kept(tmp_path: Path) -> None:
    text = "head -c 50000000 /dev/zero; echo out; echo err >&2"

    verdict = run(shell(tmp_path, text), job())

    assert verdict.kind is Kind.DONE
    assert verdict.truncated
    assert len(verdict.output) == OUTPUT_LIMIT
    assert verdict.output.endswith(b"\0out\nerr\n")


@pytest.mark.parametrize(
    ("text", "kind", "status", "number", "patient"),
    [
        ("exit 0", Kind.DONE, 0, None, False),
        ("exit 1", Kind.RETRY, 1, None, False),
        ("exit 75", Kind.RETRY, 75, None, True),
        ("exit 65", Kind.DEAD, 65, None, False),
        ("exit 255", Kind.RETRY, 255, None, False),
        ("kill -9 $$", Kind.RETRY, None, 9, False),
        ("kill -TERM $$", Kind.RETRY, None, 15, False),
        ("kill -PIPE $$", Kind.RETRY, None, 13, False),
        ("kill -INT $$", Kind.RETRY, None, 2, False),
    ],
)
def test_exit_status_and_signal_are_told_apart(
    tmp_path: Path,
    text: str,
    *,
    kind: Kind,
    status: int | None,
    number: int | None,
    patient: bool,
) -> None:
    verdict = run(shell(tmp_path, text), job(b"{}"))

    assert (verdict.kind, verdict.exit_status, verdict.signal) == (kind, status, number)
    assert (verdict.patient, verdict.interrupted) == (patient, False)
    assert verdict.started <= verdict.ended


@pytest.mark.parametrize(
    ("mode", "text", "reason"),
    [
        (None, "", "does not exist"),
        (stat.S_IRUSR, "#!/bin/sh\n", "not executable"),
        (0o755, "#!/no/such/interpreter\n", "interpreter"),
        (0o755, "no first line", "no #! line"),
    ],
)
def test_what_cannot_start_is_a_failure_that_names_the_path(
    tmp_path: Path, mode: int | None, text: str, reason: str
) -> None:
    if mode is not None:
        (tmp_path / "x").write_text(text)
        (tmp_path / "x").chmod(mode)

    verdict = run(Exec(("./x",), str(tmp_path)), job(b"{}"))

    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
    assert (verdict.exit_status, verdict.signal) == (None, None)
    assert str(tmp_path / "x") in verdict.reason
    assert reason in verdict.reason


def test_a_missing_folder_is_ours_and_does_not_count(tmp_path: Path) -> None:
    verdict = run(Exec(("true",), str(tmp_path / "none")), job())

    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
    assert str(tmp_path / "none") in verdict.reason


def test_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    text = "trap '' TERM; (trap '' TERM; sleep 600) & echo $! > child; echo $$ > self; wait"

    verdict = run(shell(tmp_path, text, grace=0.2), job(timeout=0.5))

    assert (verdict.kind, verdict.signal, verdict.interrupted) == (Kind.RETRY, 9, False)
    assert "time limit of 0.5 s" in verdict.reason
    assert verdict.ended - verdict.started < DEADLINE
    for name in ("child", "self"):
        pid = int((tmp_path / name).read_text())
        wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_a_polite_command_may_clean_up_at_its_limit(tmp_path: Path) -> None:
    text = "trap 'echo bye; exit 0' TERM; sleep 600 & wait"

    verdict = run(shell(tmp_path, text), job(timeout=0.3))

    assert (verdict.kind, verdict.exit_status, verdict.output) == (Kind.RETRY, 0, b"bye\n")
    assert "time limit" in verdict.reason


def test_what_a_command_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    verdict = run(shell(tmp_path, "sleep 600 & echo $!"), job())

    assert verdict.kind is Kind.DONE
    pid = int(verdict.output)
    wait_for(lambda: not alive(pid))


def test_a_detached_process_that_keeps_the_output_does_not_hold_us_up(tmp_path: Path) -> None:
    verdict = run(shell(tmp_path, "setsid sleep 600 & sleep 0.2; echo $!"), job())

    os.kill(int(verdict.output), signal.SIGKILL)
    assert verdict.kind is Kind.DONE
    assert verdict.ended - verdict.started < DEADLINE


def test_cancelling_ends_it_and_does_not_count(tmp_path: Path) -> None:
    verdicts: list[Verdict] = []
    with Cancel() as cancel:
        action = shell(tmp_path, "echo $$ > self; sleep 600")
        thread = threading.Thread(target=lambda: verdicts.append(action.run(job(), cancel)))
        thread.start()
        wait_for((tmp_path / "self").exists)
        cancel.set("the daemon ends")
        cancel.set("a second reason changes nothing")
        thread.join(DEADLINE)

    (verdict,) = verdicts
    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
    assert verdict.reason == "stopped: the daemon ends"


def test_cancelled_before_it_started_it_never_starts(tmp_path: Path) -> None:
    with Cancel() as cancel:
        cancel.set("too late")

        verdict = shell(tmp_path, "touch started").run(job(), cancel)

    assert verdict.interrupted
    assert verdict.reason == "stopped: too late"


def test_a_killed_runner_takes_its_command_along_and_does_not_count(tmp_path: Path) -> None:
    verdicts: list[Verdict] = []
    action = shell(tmp_path, "echo $$ $PPID > self; sleep 600")
    with Cancel() as cancel:
        thread = threading.Thread(target=lambda: verdicts.append(action.run(job(), cancel)))
        thread.start()
        wait_for(lambda: (tmp_path / "self").exists() and (tmp_path / "self").read_text())
        command, guard = map(int, (tmp_path / "self").read_text().split())
        os.kill(guard, signal.SIGKILL)
        thread.join(DEADLINE)

    (verdict,) = verdicts
    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
    wait_for(lambda: not alive(command))


DAEMON = """
import sys
from subscriber.actions.base import Cancel
from subscriber.actions.exec import Exec
from actionskit import job
action = Exec(("/bin/sh", "-c", sys.argv[1]), sys.argv[2], sys.argv[3], 0.3)
action.run(job(b"{}", timeout=600.0), Cancel())
"""


def test_nothing_outlives_a_killed_daemon_and_its_successor_waits_for_that(tmp_path: Path) -> None:
    """Given a daemon with a stubborn command, When it is killed, Then the lock is free after it."""
    lock = tmp_path / "runners"
    text = "trap '' TERM; (trap '' TERM; sleep 600) & echo $! $$ > pids; while :; do sleep 1; done"
    here = os.pathsep.join(sys.path)
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, text, str(tmp_path), str(lock)],
        env=os.environ | {"PYTHONPATH": here},
    )
    wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]

    assert not free(lock)
    daemon.kill()
    daemon.wait(DEADLINE)

    wait_for(lambda: free(lock))
    assert not any(map(alive, pids))


LEASED = """
import sys
from pathlib import Path
from hgext_zmqhooks.service.clock import boot_clock
from subscriber.actions.base import Cancel
from subscriber.actions.exec import Exec
from actionskit import job
action = Exec(("/bin/sh", "-c", sys.argv[1]), sys.argv[2], grace=0.5)
cancel = Cancel()
deadline = boot_clock() + 8.0
cancel.until(deadline)
Path(sys.argv[2], "deadline").write_text(str(deadline))
verdict = action.run(job(b"{}", timeout=600.0), cancel)
print(verdict.kind, verdict.interrupted, verdict.reason)
"""

STUBBORN = "trap '' TERM; (trap '' TERM; sleep 600) & echo $! $$ > pids; while :; do sleep 1; done"


def test_a_stopped_daemon_leaves_nothing_running_when_its_lease_ends(tmp_path: Path) -> None:
    """Given a stubborn command, When its daemon is stopped, Then it is gone within the lease."""
    here = os.pathsep.join(sys.path)
    daemon = subprocess.Popen(
        [sys.executable, "-c", LEASED, STUBBORN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": here},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        deadline = float((tmp_path / "deadline").read_text())

        os.kill(daemon.pid, signal.SIGSTOP)
        assert all(map(alive, pids))

        wait_for(lambda: not any(map(alive, pids)))
        assert boot_clock() < deadline
        os.kill(daemon.pid, signal.SIGCONT)
        told, _ = daemon.communicate(timeout=DEADLINE)
        assert told == f"retry True {LEASE_OVER}\n"
    finally:
        daemon.kill()
        daemon.wait(DEADLINE)


def test_without_an_extension_it_ends_politely_before_its_lease(tmp_path: Path) -> None:
    with Cancel() as cancel:
        deadline = boot_clock() + 5.0
        cancel.until(deadline)

        verdict = shell(tmp_path, "trap 'echo bye; exit 0' TERM; sleep 600 & wait").run(
            job(), cancel
        )

    assert boot_clock() < deadline
    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, True)
    assert (verdict.reason, verdict.output) == (LEASE_OVER, b"bye\n")


def test_an_extended_lease_lets_it_go_on(tmp_path: Path) -> None:
    verdicts: list[Verdict] = []
    with Cancel() as cancel:
        first = boot_clock() + 3.0
        cancel.until(first)
        action = shell(tmp_path, "touch here; until test -e go; do sleep 0.02; done")
        thread = threading.Thread(target=lambda: verdicts.append(action.run(job(), cancel)))
        thread.start()
        cancel.until(boot_clock() + 60.0)
        wait_for((tmp_path / "here").exists)
        wait_for(lambda: boot_clock() > first)
        (tmp_path / "go").touch()
        thread.join(DEADLINE)

    assert [verdict.kind for verdict in verdicts] == [Kind.DONE]


def test_after_the_end_of_its_lease_it_never_starts(tmp_path: Path) -> None:
    with Cancel() as cancel:
        cancel.until(boot_clock() - 0.1)

        verdict = shell(tmp_path, "touch started").run(job(), cancel)

    assert (verdict.interrupted, verdict.reason) == (True, LEASE_OVER)
    assert not (tmp_path / "started").exists()


def test_nothing_starts_once_a_new_daemon_has_taken_over(tmp_path: Path) -> None:
    import fcntl

    lock = tmp_path / "runners"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        verdict = run(shell(tmp_path, "touch started", lock=str(lock)), job())

    assert verdict.interrupted
    assert not (tmp_path / "started").exists()


def test_the_command_does_not_inherit_our_descriptors(tmp_path: Path) -> None:
    action = shell(tmp_path, "ls /proc/$$/fd", lock=str(tmp_path / "runners"))

    verdict = run(action, job())

    assert verdict.output.split() == [b"0", b"1", b"2"]


def test_two_hundred_runs_leave_no_descriptor_and_no_process(tmp_path: Path) -> None:
    action = Exec(("true",), str(tmp_path), str(tmp_path / "runners"))
    run(action, job(b"{}"))
    before = set(Path("/proc/self/fd").iterdir())
    others = children()  # such as a server that other tests share
    threads = [
        threading.Thread(target=lambda: [run(action, job(b"{}")) for _ in range(50)])
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 4)

    assert set(Path("/proc/self/fd").iterdir()) == before
    assert children() == others


def children() -> list[str]:
    task = Path("/proc/self/task")
    return [pid for each in task.iterdir() for pid in (each / "children").read_text().split()]


def free(lock: Path) -> bool:
    import fcntl

    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_an_unseen_end_after_the_limit_is_a_failure() -> None:
    outcome = Outcome(expired=True, lost="the runner did not report in time")

    verdict = judge(outcome, where="x", cancelled=None, limit=5, started=1, ended=2)

    assert (verdict.kind, verdict.interrupted) == (Kind.RETRY, False)
    assert verdict.reason == "the time limit of 5 s was reached; the runner did not report in time"


def test_what_it_left_running_may_write_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemonised child keeps the output open; its noise must not keep the attempt."""
    script = "setsid sh -c 'echo $$ > pid; exec yes' & until test -s pid; do :; done"
    read = os.read

    def patient(fd: int, size: int) -> bytes:
        """Reads no faster than the child writes, as on a machine with much to do."""
        while True:
            try:
                return read(fd, size)
            except BlockingIOError:
                time.sleep(0.001)

    monkeypatch.setattr("subscriber.actions.exec.os.read", patient)
    verdict = run(shell(tmp_path, script), job())

    assert verdict.kind is Kind.DONE
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not alive(pid))  # of SIGPIPE, when the attempt closed its end
