"""Real hg processes for tests: keys, a served folder, repositories, ssh-style and http servers."""

import contextlib
import json
import os
import re
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hgext_zmqhooks.journal.format import EVENT, EVENTS, read_signed, scan
from hgext_zmqhooks.wire import certificates, keyfiles
from hgext_zmqhooks.wire.events import Event, decode
from hgext_zmqhooks.wire.keyfiles import SecretKey

HG = Path(sys.executable).with_name("hg")
DEADLINE = 60.0
HG_DEADLINE = 300.0
"""Seconds for one hg command: making 20,000 changesets takes long on a busy machine."""
DAY = 86_400


def make_keys(
    folder: Path,
    *,
    publish: tuple[str, ...] = ("hg:**:**:",),
    valid: tuple[float, float] = (-60, 90 * DAY),
    roles: tuple[str, ...] = ("publisher",),
) -> SecretKey:
    """Write publisher.key and root.pub; `valid` is relative to now."""
    root = keyfiles.generate("root")
    key = keyfiles.generate("publisher")
    now = int(time.time())
    token = certificates.issue(
        root,
        name="publisher",
        public=key.public,
        curve=key.curve_public,
        roles=roles,
        publish=publish,
        nbf=now + int(valid[0]),
        exp=now + int(valid[1]),
        jti="1",
    )
    key = replace(key, certificate=token)
    path = folder / "publisher.key"
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(key.encode())
    (folder / "root.pub").write_bytes(keyfiles.encode_public_pem(root.public))
    return key


GROWTH = """
import resource, sys
from mercurial import dispatch
try:
    from mercurial import main_script
    request = main_script.request
except ImportError:
    request = dispatch.request
assert not dispatch.dispatch(request([a.encode() for a in sys.argv[1:]]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


class Host:
    """A folder with keys, an hgrc and `srv`, the root of what is published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "srv"
        self.root.mkdir()
        self.key = make_keys(folder)
        self.hgrc = folder / "hgrc"
        self.settings = {"key": str(folder / "publisher.key"), "root": str(self.root)}
        self.extra = ""
        self.write()

    def write(self, extra: str = "", **settings: str) -> None:
        """Write the hgrc with these settings besides the usual ones; "" drops one."""
        self.settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        self.extra += extra
        lines = "\n".join(f"{name} = {value}" for name, value in self.settings.items() if value)
        self.hgrc.write_text(
            "[ui]\nusername = Test <test@example.org>\ninteractive = no\n"
            f"[web]\npush_ssl = no\nallow-push = *\n"
            f"[extensions]\nhgext_zmqhooks =\nhgext_zmqhooks:required = yes\n{self.extra}\n"
            f"[zmqhooks]\n{lines}\n"
        )

    def env(self, **more: str) -> dict[str, str]:
        """The environment of its hg processes."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        base = {"HGRCPATH": str(self.hgrc), "HGENCODING": "utf-8", "HOME": str(self.folder)}
        return {**kept, **base, "HGPLAIN": "1", "LANG": "C.UTF-8", **more}

    def hg(self, *args: str | Path, cwd: Path | None = None, ok: bool = True, **env: str) -> str:
        """Run hg; its output. With ok=False both streams, whatever the exit status."""
        done = subprocess.run(
            [HG, *args],
            cwd=cwd or self.folder,
            env=self.env(**env),
            capture_output=True,
            timeout=HG_DEADLINE,
            check=False,
        )
        text = done.stdout.decode("utf-8", "replace")
        if not ok:
            return text + done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, (args, text, done.stderr.decode("utf-8", "replace"))
        return text

    def peak(self, *args: str | Path) -> int:
        """MiB that this hg command needs at most."""
        done = subprocess.run(
            [sys.executable, "-c", GROWTH, *args],
            env=self.env(),
            capture_output=True,
            check=True,
            timeout=10 * DEADLINE,
        )
        return int(done.stdout.split()[-1])

    def repository(self, name: str = "team/app") -> Path:
        """A new repository under the root."""
        path = self.root / name
        self.hg("init", path)
        return path

    def outside(self, name: str = "work") -> Path:
        """A new repository that publishes nothing."""
        path = self.folder / name
        self.hg("init", path)
        return path

    def commit(self, repository: Path, message: str, *args: str, **env: str) -> str:
        """A changeset that changes one file; its node."""
        with (repository / "file").open("a") as file:
            file.write(message + "\n")
        self.hg("commit", "--addremove", "--quiet", "-m", message, *args, cwd=repository, **env)
        return self.hg("log", "-r", ".", "-T", "{node}", cwd=repository)

    def events(self, repository: Path) -> list[Event]:
        """Every event in the journal's file, oldest first."""
        return [decode(event) for event in self.raw_events(repository)]

    def raw_events(self, repository: Path) -> list[bytes]:
        """The exact bytes of the events."""
        path = repository / ".hg/store" / EVENTS
        data = path.read_bytes() if path.exists() else b""
        return [read_signed(record).event for record in scan(data) if record.kind == EVENT]

    def verify(self, repository: Path) -> None:
        """`hg events --verify` finds nothing."""
        assert "no problems found" in self.hg("events", "--verify", cwd=repository)

    def served(self, repository: Path) -> set[str]:
        """The nodes that others may see."""
        revisions = "not (secret() or obsolete())"
        return set(
            self.hg("log", "--hidden", "-r", revisions, "-T", "{node}\n", cwd=repository).split()
        )

    def ssh(self, **env: str) -> str:
        """A command for `ui.ssh` that runs `hg serve --stdio` here, as sshd would."""
        script = self.folder / "ssh"
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.env(**env).items())
        script.write_text(f'#!/bin/sh\n{exports}shift\nexec sh -c "$*"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return str(script)

    def push_ssh(self, source: Path, target: Path, *args: str, ok: bool = True, **env: str) -> str:
        """Push over ssh-style stdio; the server runs under `env`."""
        ssh = self.ssh(**env)
        url = f"ssh://user@host/{target}"
        config = ["--config", f"ui.ssh={ssh}", "--config", f"ui.remotecmd={HG}"]
        return self.hg("push", *config, *args, url, cwd=source, ok=ok)

    @contextlib.contextmanager
    def web(self, repository: Path, *args: str, **env: str) -> Iterator[str]:
        """`hg serve` for one repository; its address."""
        with subprocess.Popen(
            [HG, "serve", "--port", "0", "--address", "127.0.0.1", "--print-url", *args],
            cwd=repository,
            env=self.env(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                yield _url(server)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(DEADLINE)


def _url(server: subprocess.Popen[bytes]) -> str:
    assert server.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        assert selector.select(DEADLINE), "hg serve did not start"
    line = server.stdout.readline().decode()
    port = re.search(r":(\d+)/", line)
    assert port, line
    return f"http://127.0.0.1:{port[1]}/"


def fold(events: list[Event]) -> set[str]:
    """Nodes that were told and not taken back; for journals without baselines."""
    live: set[str] = set()
    for event in events:
        live |= {changeset.node for changeset in event.changesets}
        live -= set(event.removed) | {item.node for item in event.obsoleted}
        live -= {move.node for move in event.phases if move.new == "secret"}
    return live


def as_json(text: str) -> list[dict[str, object]]:
    """The output of `-T json`."""
    found: list[dict[str, object]] = json.loads(text)
    return found
