"""The folder of a demo: everything that one machine needs, as the README sets it up.

    keys/            made by `zmq-keys quickstart`
    hgrc             what would be /etc/mercurial/hgrc
    subscriber.yml   with the scripts build.sh, release.sh and mark.sh beside it
    srv/team/…       two served repositories
    work/            where the clients clone to
    run/             sockets
    log/             what the daemons wrote
    out/             the events as the scripts got them

Nothing outside it is read or written: HOME and HGRCPATH point into it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds that a command has to end, and a daemon to begin or to end."""

ENDING = {signal.SIGINT, signal.SIGTERM}

REPOSITORIES = ("team/app", "team/site")

HGRC = """\
[ui]
username = Demo <demo@example.com>
ssh = {folder}/ssh.sh
[extensions]
hgext_zmqhooks =
hgext_zmqhooks:required = yes
[zmqhooks]
key = {folder}/keys/publisher.key
relay = ipc://{folder}/run/publish
root = {folder}/srv
[web]
allow-push = *
push_ssl = no
"""

SUBSCRIBER = """\
name: demo
key: keys/subscriber.key
trust: [keys/root.pub]
relay:
  publish: ipc://{folder}/run/publish
  repositories: ["{folder}/srv/**"]
store: sqlite:subscriber.db
rules:
  - name: build
    when: {{topic: "hg:team/*:default:", changes: changesets}}
    exec: [./build.sh]
  - name: release
    when: {{topic: "hg:team/*:release-*:", changes: changesets}}
    exec: [./release.sh]
  - name: mark
    when: {{topic: "hg:**:**:", changes: bookmarks}}
    exec: [./mark.sh]
"""

SCRIPT = """\
#!/bin/sh
# Runs once per event that the rule "{rule}" matches; the event comes on standard input.
set -eu
cat > "out/$ZMQHOOKS_RULE-$ZMQHOOKS_FENCE.json"
echo "{does} $ZMQHOOKS_REPO, branch $ZMQHOOKS_BRANCH, at $ZMQHOOKS_NODE"
"""

SSH = """\
#!/bin/sh
# Stands for ssh and sshd: drops the host name and runs the command that hg asked for.
shift
exec sh -c "$*"
"""

SCRIPTS = {"build": "building", "release": "releasing", "mark": "looking at the bookmarks of"}


class DemoError(Exception):
    """The demo cannot go on, or did not show what it should; the text says why."""


@dataclass(frozen=True)
class Place:
    """A demo's folder and the commands that work in it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "subscriber.yml"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's settings: neither an hgrc nor a proxy may interfere."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "HGRCPATH": str(self.folder / "hgrc"),
            "LANG": "C.UTF-8",
            "LOGNAME": "demo",
            "USER": "demo",
        }

    def repository(self, name: str) -> Path:
        return self.folder / "srv" / name

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command to its end; DemoError with all it said unless it ended with 0."""
        done = self.tried(*command, cwd=cwd)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise DemoError(f"`{' '.join(command)}` ended with status {done.returncode}:\n{said}")
        return done.stdout

    def tried(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with self.started(*command, cwd=cwd or self.folder, **pipes) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                line = " ".join(command)
                raise DemoError(f"`{line}` did not end within {PATIENCE:.0f} s") from None
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextlib.contextmanager
    def started(self, *command: str, **options: Any) -> Iterator[subprocess.Popen]:
        """A process in a group of its own, of which nothing stays at the end, whatever ends it.

        A signal that comes while it starts is taken once there is somebody to end it.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_listen,  # noqa: PLW1509 - there are no threads here
                **options,
            )
            try:
                _listen()
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        finally:
            _listen()


def _listen() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def new_folder() -> Path:
    """A folder with a short name: the path of a unix socket has at most 107 bytes."""
    short = Path("/tmp")
    parent = short if os.access(short, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="zmqhooks-demo-", dir=parent))


def set_up(folder: Path) -> Place:
    """Fill an empty folder; makes it if need be."""
    place = Place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("work", "log", "out"):
        (folder / name).mkdir()
    (folder / "hgrc").write_text(HGRC.format(folder=folder))
    place.config.write_text(SUBSCRIBER.format(folder=folder))
    _script(folder / "ssh.sh", SSH)
    for rule, does in SCRIPTS.items():
        _script(folder / f"{rule}.sh", SCRIPT.format(rule=rule, does=does))
    place.run("zmq-keys", "quickstart", "keys", "--name", "demo")
    for name in REPOSITORIES:
        place.run("hg", "init", str(place.repository(name)))
    return place


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
