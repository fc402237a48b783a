"""The daemons of a demo, and their end: whatever happens, no process stays."""

import contextlib
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .place import PATIENCE, DemoError, Place


@dataclass
class Daemon:
    """A process with a log file."""

    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen

    def check(self) -> None:
        """DemoError if it is not running, with the end of what it wrote."""
        status = self.process.poll()
        if status is not None:
            line = " ".join(self.command)
            raise DemoError(
                f"`{line}` is not running, it ended with status {status}:\n{self.said()}"
            )

    def said(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def first_line(self) -> str:
        """The first line on its standard output."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline().decode().strip() if ready else ""
        if not line:
            self.check()
            raise DemoError(f"`{' '.join(self.command)}` said nothing for {PATIENCE:.0f} s")
        return line

    def stop(self) -> None:
        """SIGTERM, and time to end."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def subscriber(place: Place) -> Iterator[Daemon]:
    """`zmq-subscriber` with the relay inside, ready to take events."""
    command = ("zmq-subscriber", "--config", str(place.config))
    with _running(place, "subscriber.log", *command) as daemon:
        wait_for(
            lambda: " daemon: ready" in daemon.log.read_text(),
            daemon,
            "zmq-subscriber was not ready",
        )
        yield daemon


@contextlib.contextmanager
def web_server(place: Place, repository: str) -> Iterator[str]:
    """`hg serve` for one repository on a free port; gives its address."""
    command = ("hg", "serve", "-R", str(place.repository(repository)))
    accesses = place.folder / "log" / "access.log"
    options = ("--address", "127.0.0.1", "--port", "0", "--print-url", "-A", str(accesses))
    with _running(place, "hg-serve.log", *command, *options) as daemon:
        yield daemon.first_line()


@contextlib.contextmanager
def _running(place: Place, name: str, *command: str) -> Iterator[Daemon]:
    log = place.folder / "log" / name
    with (
        log.open("wb") as output,
        place.started(*command, cwd=place.folder, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        daemon = Daemon(command, log, process)
        try:
            yield daemon
        finally:
            daemon.stop()


def wait_for(condition: Callable[[], bool], daemon: Daemon, what: str) -> None:
    """Wait until it holds, as long as the daemon runs; DemoError says `what` did not happen."""
    end = time.monotonic() + PATIENCE
    while not condition():
        daemon.check()
        if time.monotonic() > end:
            raise DemoError(f"{what} within {PATIENCE:.0f} s:\n{daemon.said()}")
        time.sleep(0.05)
