"""A daemon under test: a process with a log file, which tests stop, freeze and kill by its pid."""

import contextlib
import os
import re
import select
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from support.waiting import PATIENCE, wait_for

_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|\S*)')


class Daemon:
    """`command` running in `folder`, a process group of its own; standard error goes to `log`."""

    def __init__(
        self, command: list[str], *, folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.command = command
        self.log = log
        with log.open("ab") as output:
            self._begin = output.tell()
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """What this process wrote to its log so far."""
        with self.log.open("rb") as stream:
            stream.seek(self._begin)
            return stream.read().decode(errors="replace")

    def lines(self, *words: str) -> list[str]:
        """Its log lines that hold all of `words`."""
        return [line for line in self.said().splitlines() if all(word in line for word in words)]

    def wait_line(self, *words: str, deadline: float = PATIENCE) -> str:
        """The first such line, as soon as there is one; fails at once if the process has ended."""

        def look() -> list[str]:
            ended = self.process.poll()
            found = self.lines(*words)
            line = " ".join(self.command)
            assert found or ended is None, f"{line} ended with {ended}:\n{self.said()}"
            return found

        return wait_for(look, f"a log line with {words}", deadline)[0]

    def first_output(self) -> str:
        """The first line on its standard output."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, f"{self.command} wrote nothing to standard output"
        return self.process.stdout.readline().decode().strip()

    def memory(self) -> int:
        """The most bytes it ever had in memory (VmHWM)."""
        return peak_memory(self.pid)

    def children(self) -> list[int]:
        """The pids of the processes that it started and that have not been waited for."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def freeze(self, *, children: bool = False) -> None:
        """SIGSTOP, and wait until it really stands still."""
        for pid in self._and(children=children):
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda pid=pid: _state(pid) == "T", "the process is stopped")

    def thaw(self, *, children: bool = False) -> None:
        for pid in self._and(children=children):
            os.kill(pid, signal.SIGCONT)

    def _and(self, *, children: bool) -> list[int]:
        return [self.pid, *(self.children() if children else ())]

    def terminate(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL for the one process, as a crash; its children must notice by themselves."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Whatever state it is in, nothing of its group is left."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def peak_memory(pid: int) -> int:
    """VmHWM in bytes. Not ru_maxrss: that one is inherited through fork and exec."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, f"no VmHWM for {pid}"
    return int(found[1]) * 1024


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def log_fields(line: str) -> dict[str, str]:
    """The key=value pairs at the end of a log line.

    >>> log_fields("2026-… WARNING relay: live copy refused kind=x suppressed=3")
    {'kind': 'x', 'suppressed': '3'}
    """
    return {name: value.strip('"') for name, value in _FIELD.findall(line)}


def tallied(lines: list[str]) -> Counter[str]:
    """How often each kind happened: its lines, and what they say was suppressed between them."""
    count: Counter[str] = Counter()
    for line in lines:
        values = log_fields(line)
        if "kind" in values:
            own = 0 if "more of the same" in line else 1
            count[values["kind"]] += own + int(values.get("suppressed", "0"))
    return count
