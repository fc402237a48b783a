"""What a soak plays on: repositories, daemons that are kept running, clients that are kept busy.

committers, ssh and http pushers ──► srv/team/a, srv/team/b ── first (relay inside) ──┐
committers, ssh and http pushers ──► srv/other/c ── zmq-relay ────────────────────────┴─ second
"""

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fault import soak_hg, soak_ledger
from support.daemons import Daemon
from support.site import Repository, Site, rule

TESTS = Path(__file__).parents[1]
SUBSCRIBERS = {"first": "ci", "second": "second"}
"""Rule, and name of the configuration and of the store."""

# The shell keeps its pid through exec, so that the schedule finds the server by the file's name.
SSH = """\
#!/bin/sh
shift
: > "{run}/ssh.$$"
exec sh -c "exec $*"
"""


@dataclass(frozen=True)
class Process:
    """Signalled through a descriptor, so that no stranger who got its old pid is ever hit."""

    kind: str
    descriptor: int

    @classmethod
    def found(cls, kind: str, pid: int, mark: bytes) -> "Process | None":
        """The process of that pid if it lives and its command line contains `mark`."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/cmdline").read_bytes():
                return cls(kind, descriptor)
        os.close(descriptor)
        return None

    def send(self, number: int) -> bool:
        """Whether it still lived."""
        try:
            signal.pidfd_send_signal(self.descriptor, number)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass
class Service:
    """A daemon that is started again when it has ended, whatever ended it."""

    kind: str
    start: Callable[[], Daemon]
    daemon: Daemon

    @property
    def running(self) -> bool:
        return self.daemon.process.poll() is None


class Stage:
    """Made in a site; `close` ends what it started."""

    def __init__(self, site: Site, seed: int, pace: float) -> None:
        self.site = site
        self.run = site.folder / "run"
        self.run.mkdir(mode=0o700, exist_ok=True)
        self.ended: Counter[tuple[str, int]] = Counter()
        """Daemons that ended otherwise than by SIGKILL: kind and status."""
        self.services: list[Service] = []
        self.clients: dict[str, Daemon] = {}
        self._seed, self._pace = seed, pace
        self._write()
        self.repositories = [self._repository(name) for name in ("team/a", "team/b", "other/c")]

    def begin(self) -> None:
        """Start everything."""
        self._serve("relay", "relay", "zmq-relay", "--config", "relay.yml")
        for name in SUBSCRIBERS.values():
            self._serve("subscriber", name, "zmq-subscriber", "--config", f"{name}.yml")
        for one in self.repositories:
            path = str(one.path)
            self._client(f"commit-{one.path.name}", path)
            self._client(f"ssh-{one.path.name}", self._clone(one), f"ssh://host/{path}", path)
            if one is not self.repositories[0]:
                self._client(f"http-{one.path.name}", self._clone(one), self._web(one), path)

    def close(self) -> None:
        for daemon in (*self.clients.values(), *(each.daemon for each in self.services)):
            if daemon.process.poll() is None:
                daemon.end()
            assert daemon.process.stdout is not None
            daemon.process.stdout.close()
        self.clients, self.services = {}, []

    # Before

    def _write(self) -> None:
        site = self.site
        site.script("ssh.sh", SSH.format(run=self.run))
        site.script("keep.sh", soak_ledger.KEEP)
        with (site.folder / "plain").open("a") as stream:
            stream.write("[ui]\ntimeout = 60\n")
        site.configure(
            "ci",
            rules=[rule("first", exec=["./keep.sh"])],
            relay={
                "repositories": [f"{site.root}/team/**"],
                "subscribe": [site.endpoint("subscribe")],
            },
            start="earliest",
        )
        site.configure_relay(
            publish=site.endpoint("publish2"), repositories=[f"{site.root}/other/**"]
        )
        relay = site.folder / "relay.yml"
        relay.write_text(relay.read_text().replace("run/subscribe", "run/subscribe2"))
        site.issue("second", "--read", "hg:**:**:")
        site.configure(
            "second",
            key="keys/second.key",
            relays=[site.endpoint("subscribe"), site.endpoint("subscribe2")],
            rules=[rule("second", exec=["./keep.sh"])],
            start="earliest",
        )

    def _repository(self, name: str) -> Repository:
        made = self.site.repository(name)
        if name.startswith("other/"):
            setting = f"[zmqhooks]\nrelay = {self.site.endpoint('publish2')}\n"
            (made.path / ".hg" / "hgrc").write_text(setting)
        made.build(len(soak_hg.BRANCHES), ",".join(soak_hg.BRANCHES))
        for subscriber in SUBSCRIBERS:
            (self.site.folder / "out" / subscriber / name).mkdir(parents=True)
        return made

    def _clone(self, source: Repository) -> str:
        return str(self.site.clone(source).path)

    # Daemons

    def _start(self, name: str, *command: str) -> Daemon:
        """As `Site.start`, but the site does not end it: its pid may be another's by then.

        On SIGABRT it says where it stands.
        """
        daemon = self.site.start(name, "env", "PYTHONFAULTHANDLER=1", *command)
        self.site.daemons.remove(daemon)
        return daemon

    def _serve(self, kind: str, name: str, *command: str) -> Daemon:
        def start() -> Daemon:
            return self._start(name, *command)

        service = Service(kind, start, start())
        self.services.append(service)
        return service.daemon

    def _web(self, repository: Repository) -> str:
        """`hg serve`, on the port that the first one found, and where clients push to."""
        name = f"web-{repository.path.name}"
        command = ["hg", "serve", "-R", str(repository.path), "--address", "127.0.0.1"]
        first = self._start(name, *command, "--port", "0", "--print-url")
        url = first.first_output()
        first.end()
        self._serve("hg", name, *command, "--port", str(urlsplit(url).port))
        return url

    def _client(self, name: str, *arguments: str) -> None:
        repository, *remote = arguments
        first = (name, str(self.site.folder), repository, str(self._seed), str(self._pace))
        python = ("env", f"PYTHONPATH={TESTS}", sys.executable, "-m", "fault.soak_hg")
        self.clients[name] = self._start(f"client-{name}", *python, *first, *remote)

    def keep_running(self) -> None:
        """Start again what has ended."""
        for service in self.services:
            status = service.daemon.process.poll()
            if status is not None:
                if status != -signal.SIGKILL:
                    self.ended[service.kind, status] += 1
                assert service.daemon.process.stdout is not None
                service.daemon.process.stdout.close()
                service.daemon = service.start()

    # Who can be hit

    def daemons(self) -> Iterator[Process]:
        """Relay and subscribers."""
        for service in self.services:
            if service.kind != "hg" and service.running:
                yield Process(service.kind, os.pidfd_open(service.daemon.pid))

    def hg_processes(self) -> Iterator[Process]:
        """Those that commit or push, those behind ssh, web servers and their children."""
        mark = os.fsencode(self.site.folder)
        for file in list(self.run.glob("hg.*")):
            found = Process.found("hg", _number(file), mark)
            if found:
                yield found
        for file in list(self.run.glob("ssh.*")):
            found = Process.found("hg", int(file.name.partition(".")[2]), mark)
            if found:
                yield found
            else:
                file.unlink()
        for service in self.services:
            if service.kind == "hg" and service.running:
                for pid in (service.daemon.pid, *_children(service.daemon.pid)):
                    found = Process.found("hg", pid, mark)
                    if found:
                        yield found


def _number(file: Path) -> int:
    """The pid in a file; 0, which is nobody's, while it is being written."""
    text = file.read_text()
    return int(text) if text else 0


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
