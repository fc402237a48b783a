"""A machine for a page of the docs: its folders, its environment, its commands and daemons."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.pages import File, steps
from support.waiting import wait_for

TOP = Path(__file__).parents[2]
PATIENCE = 60.0
SUBSCRIBER = "zmq-subscriber --config "


class Machine:
    """A machine for a page: an environment, commands in it, and daemons that end with it."""

    def __init__(self, folder: Path, hgrc: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "HGRCPATH": str(hgrc),
            "LANG": "C.UTF-8",
            "LOGNAME": "alice",
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def run(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str) -> None:
        """Start a daemon and wait until it is ready."""
        path = self.folder / f"daemon-{len(self.daemons)}.log"
        with path.open("wb") as log:
            daemon = subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.daemons.append(daemon)
        wait_for(lambda: " daemon: ready" in path.read_text() or daemon.poll() is not None)
        assert daemon.poll() is None, path.read_text()

    def done(self, config: Path) -> list[dict]:
        """The deliveries that are done."""
        lines = self.run(f"{SUBSCRIBER}{config} deliveries --state done --json").splitlines()
        return [json.loads(line) for line in lines]

    def output(self, config: Path, delivery: dict) -> str:
        return self.run(f"{SUBSCRIBER}{config} show {delivery['id']}")

    def push(self, repository: Path, branch: str) -> str:
        """A changeset on `branch`, pushed from a clone; its node."""
        clone = self.folder / f"clone-{branch}"
        self.run(
            f"hg clone -q {repository} {clone}; cd {clone};"
            f" hg branch -q {branch}; echo x > {branch};"
            f" hg commit -q -A -m new -u 'Alice <alice@example.com>'; hg push -q --new-branch"
        )
        return self.run(f"hg -R {clone} log -r tip -T '{{node}}'")

    def stop(self) -> None:
        for daemon in self.daemons:
            daemon.terminate()
        assert [daemon.wait(PATIENCE) for daemon in self.daemons] == [0] * len(self.daemons)


def places(folder: Path) -> dict[str, Path]:
    """Where the README's folders are in a test; those that every machine has are made."""
    for name in ("etc", "run", "srv"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "/etc/zmqhooks": folder / "etc" / "zmqhooks",
        "/etc/mercurial": folder / "etc" / "mercurial",
        "/srv/hg": folder / "srv",
        "/run/zmqhooks": folder / "run" / "zmqhooks",
        "/var/lib/zmqhooks": folder / "var",
    }


def follow(machine: Machine, page: Path, change: Callable[[str], str] = str) -> None:
    """Do what a page says; `change` edits its files on the way."""
    for step in steps(page, places(machine.folder)):
        if isinstance(step, File):
            File(step.path, change(step.text)).write()
        elif step.text.startswith(SUBSCRIBER):
            machine.start(step.text)
        else:
            machine.run(step.text)
