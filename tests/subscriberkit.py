"""A subscriber under test: keys and configuration in a folder, journals, the daemon as a process.

Its action appends one JSON line per run to `runs.jsonl`: what it got, in the order in which it ran.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from relaykit import EVERYTHING, Keys, Repo, draft
from support.daemons import Daemon
from support.waiting import PATIENCE, wait_for

from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.keyfiles import SecretKey

COMMAND = Path(sys.executable).with_name("zmq-subscriber")

SCRIPT = f"""#!{sys.executable} -IS
import json, os, sys, time
lines = sys.stdin.buffer.read().split(b"\\n")[:-1]
events = [json.loads(line) for line in lines]
run = {{key[9:].lower(): value for key, value in os.environ.items() if key.startswith("ZMQHOOKS_")}}
run["sequences"] = [event["data"]["sequence"] for event in events]
with open("runs.jsonl", "a") as file:
    file.write(json.dumps(run) + "\\n")
"""


class Site:
    """One folder with all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = Keys()
        self.hg = folder / "hg"
        self.hg.mkdir()
        self.config = folder / "subscriber.yml"
        self.store = folder / "ci.db"
        self.daemons: list[Daemon] = []
        (folder / "root.pub").write_bytes(keyfiles.encode_public_pem(self.keys.root.public))
        self.write_key("ci.key", self.keys.subscriber)
        self.script("run.py", SCRIPT)
        self.configure()

    def write_key(self, name: str, key: SecretKey) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(key.encode())
        return path

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def rule(self, name: str = "build", **changes: object) -> dict[str, object]:
        return {"name": name, "exec": ["./run.py"], "when": {"topic": EVERYTHING}} | changes

    def configure(self, **changes: object) -> None:
        """Write the configuration; a key with the value None is left out."""
        values: dict[str, object] = {
            "key": "ci.key",
            "trust": ["root.pub"],
            "relay": {
                "publish": f"ipc://{self.folder}/run/publish",
                "repositories": [f"{self.hg}/**"],
            },
            "start": "earliest",
            "store": "sqlite:ci.db",
            "rules": [self.rule()],
        }
        merged = {key: value for key, value in (values | changes).items() if value is not None}
        self.config.write_text(yaml.safe_dump(merged))

    def repo(self, name: str = "app", key: SecretKey | None = None) -> Repo:
        return Repo(self.hg, name, key or self.keys.publisher)

    def start(self, config: Path | None = None, *, ready: bool = True) -> Daemon:
        command = [str(COMMAND), "--config", str(config or self.config)]
        log = self.folder / f"daemon-{len(self.daemons)}.log"
        daemon = Daemon(command, folder=self.folder, environment=os.environ, log=log)
        self.daemons.append(daemon)
        if ready:
            daemon.wait_line(" ready ")
        return daemon

    def ask(self, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a verb."""
        command = [str(COMMAND), "--config", str(config or self.config), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def rows(self, *words: str) -> list[dict]:
        done = self.ask(*words, "--json")
        assert done.returncode in {0, 1}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def runs(self) -> list[dict]:
        path = self.folder / "runs.jsonl"
        if not path.exists():
            return []
        return [
            json.loads(line)
            for line in path.read_text().splitlines(keepends=True)
            if line[-1:] == "\n"
        ]

    def wait_runs(self, count: int, deadline: float = PATIENCE) -> list[dict]:
        wait_for(lambda: len(self.runs()) >= count, f"{count} runs", deadline)
        return self.runs()

    def sql(self, query: str) -> list[tuple]:
        """Ask the database itself."""
        with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True) as db:
            rows = db.execute(query).fetchall()
        db.close()
        return rows

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.end()


def burst(repo: Repo, count: int, branches: Sequence[str] = ("default", "stable")) -> None:
    """Transactions one after another, each on one branch in turn."""
    for number in range(count):
        repo.commit(draft(branches[number % len(branches)]))


def settled(path: Path) -> bool:
    """Whether a file was not written to for a while."""
    return time.time() - path.stat().st_mtime > 0.5


@contextmanager
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="zs", dir="/tmp"))
    here = Site(folder)
    try:
        yield here
    finally:
        here.close()
        shutil.rmtree(folder)
