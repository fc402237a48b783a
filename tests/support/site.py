"""A whole installation in a folder of its own: keys, hgrc, repositories, daemons, scripts.

    with Site.made() as site:
        site.configure(rules=[rule("build")])
        daemon = site.subscriber()
        app = site.repository("team/app")
        client = site.clone(app)
        client.build(3)
        client.hg("push")
        site.wait_runs(1)[0].nodes

The folder is short, below /tmp, because the path of a unix socket has at most 107 bytes:

    keys/  made by zmq-keys quickstart        srv/   the served repositories (zmqhooks.root)
    hgrc   with the extension                 work/  clones, which the extension leaves alone
    plain  without it                         run/   sockets       log/  what the daemons said
    NAME.yml, record.sh                       out/   what the scripts got

Every process that a Site started has ended when it is closed.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from support.daemons import Daemon
from support.waiting import PATIENCE, wait_for

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
NAME = "ci"
EVERY_TOPIC = "hg:**:**:"

PLAIN = """\
[ui]
username = Tester <tester@example.com>
ssh = {folder}/ssh.sh
[extensions]
build = {here}/hg_build.py
probe = {here}/hg_probe.py
[web]
allow-push = *
push_ssl = no
"""

HGRC = """\
%include plain
[extensions]
hgext_zmqhooks =
[zmqhooks]
key = {folder}/keys/publisher.key
relay = ipc://{folder}/run/publish
root = {folder}/srv
"""

SSH = """\
#!/bin/sh
# Stands for ssh and sshd: drops the host name and runs the command that hg asked for.
shift
exec sh -c "$*"
"""

RECORD = """\
#!/bin/sh
# Keeps what it got: the event under out/, and one line in out/runs, in the order of the runs.
set -eu
now=$(date +%s%N)
file="out/$ZMQHOOKS_DELIVERY_ID.$ZMQHOOKS_FENCE"
cat > "$file.part"
mv "$file.part" "$file"
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$now" "$ZMQHOOKS_RULE" \\
    "$ZMQHOOKS_REPO" "$ZMQHOOKS_BRANCH" "$ZMQHOOKS_DELIVERY_ID" "$ZMQHOOKS_FENCE" \\
    "$ZMQHOOKS_ATTEMPT" "$ZMQHOOKS_EVENT_ID" "$ZMQHOOKS_NODE" "$ZMQHOOKS_USER" \\
    "$ZMQHOOKS_TOPIC" >> out/runs
echo "ran for $ZMQHOOKS_EVENT_ID"
"""


def rule(name: str, topic: str | list[str] = EVERY_TOPIC, **more: Any) -> dict[str, Any]:
    """A rule that runs record.sh; `changes` and other conditions go into `when`."""
    when = {key: more.pop(key) for key in ("changes", "files", "origin", "phase") if key in more}
    return {"name": name, "when": {"topic": topic, **when}, "exec": ["./record.sh"], **more}


@dataclass(frozen=True)
class Ran:
    """How a command ended. `seconds`: wall time; `peak`: bytes, of an hg process."""

    status: int
    out: str
    err: str
    seconds: float
    probe: tuple[Mapping[str, Any], ...] = ()

    @property
    def peak(self) -> int:
        """The most memory of the command's own process."""
        return int(self.probe[-1]["peak"])

    @property
    def modules(self) -> set[str]:
        """What any of its hg processes had imported at its end."""
        return {name for line in self.probe for name in line["modules"]}


@dataclass(frozen=True)
class Run:
    """One run of record.sh. `at`: unix seconds at its start."""

    at: float
    rule: str
    repo: str
    branch: str
    delivery: str
    fence: int
    attempt: int
    event_id: str
    node: str
    user: str
    topic: str
    file: Path = field(repr=False)

    @cached_property
    def lines(self) -> list[bytes]:
        """What stood on its standard input: one event per line."""
        data = self.file.read_bytes()
        assert data.endswith(b"\n"), f"{self.file} does not end with a whole line"
        return data.splitlines()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def all(self, key: str) -> list[Any]:
        """The lists `key` of all parts together."""
        return [item for event in self.events for item in event["data"].get(key, ())]

    @property
    def nodes(self) -> list[str]:
        return [changeset["node"] for changeset in self.all("changesets")]

    @property
    def place(self) -> tuple[str, int]:
        """Journal and sequence of the event's last part."""
        journal, _, sequence = self.event_id.rpartition("/")
        return journal, int(sequence)


class Site:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "srv"
        self.daemons: list[Daemon] = []
        for name in ("srv", "work", "log", "out"):
            (folder / name).mkdir()
        (folder / "plain").write_text(PLAIN.format(folder=folder, here=HERE))
        (folder / "hgrc").write_text(HGRC.format(folder=folder))
        self.script("ssh.sh", SSH)
        self.script("record.sh", RECORD)
        self.command("zmq-keys", "quickstart", "keys", "--name", NAME)

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator["Site"]:
        """A new site; afterwards its processes have ended and its folder is gone."""
        folder = Path(tempfile.mkdtemp(prefix="zh-", dir="/tmp"))
        site = None
        try:
            site = cls(folder)
            yield site
        finally:
            for daemon in site.daemons if site else ():
                daemon.end()
            shutil.rmtree(folder, ignore_errors=True)

    # Files

    def script(self, name: str, text: str) -> Path:
        """An executable file in the folder where actions run."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.folder}/run/{name}"

    def relay_section(self, **more: Any) -> dict[str, Any]:
        """What a relay needs to know besides key, trust and state."""
        section = {"publish": self.endpoint("publish"), "repositories": [f"{self.root}/**"]}
        return section | more

    def configure(
        self,
        name: str = NAME,
        *,
        file: str | None = None,
        rules: Sequence[Mapping[str, Any]] = (),
        relay: Mapping[str, Any] | None = None,
        relays: Sequence[str] = (),
        key: str = "keys/subscriber.key",
        **more: Any,
    ) -> Path:
        """Write NAME.yml, or FILE.yml. Without `relays` the relay runs inside, with `relay`."""
        document: dict[str, Any] = {"name": name, "key": key, "trust": ["keys/root.pub"]}
        if relays:
            document["relays"] = [{"address": address} for address in relays]
        else:
            document["relay"] = self.relay_section(**(relay or {}))
        document |= {"store": f"sqlite:{name}.db", "rules": list(rules) or [rule("build")]}
        return self.write(f"{file or name}.yml", document | more)

    def configure_relay(self, file: str = "relay", **more: Any) -> Path:
        """Write FILE.yml, for a zmq-relay of its own."""
        section = self.relay_section(**{"subscribe": [self.endpoint("subscribe")]} | more)
        own = {"key": "keys/relay.key", "trust": ["keys/root.pub"], "state": "relay.db"}
        return self.write(f"{file}.yml", own | section)

    def write(self, file: str, document: Mapping[str, Any]) -> Path:
        path = self.folder / file
        path.write_text(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))
        return path

    def issue(self, name: str, *grants: str, root: str = "keys/root.key") -> None:
        """keys/NAME.key and keys/NAME.cert, under a root."""
        words = ("issue", "--root", root, "--name", name, *grants)
        self.command("zmq-keys", *words, "--out", f"keys/{name}.key")

    # Processes

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's settings: neither an hgrc nor a proxy may interfere."""
        return {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "HGRCPATH": str(self.folder / "hgrc"),
            "LANG": "C.UTF-8",
            "LOGNAME": "tester",
            "USER": "tester",
        }

    def command(
        self,
        *command: str,
        status: int | None = 0,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 500,
    ) -> Ran:
        """Run to the end; AssertionError with all it said unless it ended with `status`."""
        probe = self.folder / f"probe-{time.monotonic_ns()}"
        begin = time.monotonic()
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment | {"ZMQHOOKS_PROBE": str(probe)} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        seconds = time.monotonic() - begin
        lines = probe.read_text().splitlines() if probe.exists() else []
        probe.unlink(missing_ok=True)
        ran = Ran(done.returncode, done.stdout, done.stderr, seconds, tuple(map(json.loads, lines)))
        words = " ".join(command)
        said = f"`{words}` ended with status {ran.status}\n{ran.out}{ran.err}"
        assert status is None or ran.status == status, said
        return ran

    def start(self, name: str, *command: str) -> Daemon:
        """A process that runs until the site ends, or the test ends it."""
        daemon = Daemon(
            list(command),
            folder=self.folder,
            environment=self.environment,
            log=self.folder / "log" / f"{name}.log",
        )
        self.daemons.append(daemon)
        return daemon

    def subscriber(self, name: str = NAME) -> Daemon:
        """`zmq-subscriber`, when it says that it is ready."""
        daemon = self.start(name, "zmq-subscriber", "--config", f"{name}.yml")
        daemon.wait_line("daemon: ready")
        return daemon

    def relay(self, name: str = "relay") -> Daemon:
        """`zmq-relay`, when it serves."""
        daemon = self.start(name, "zmq-relay", "--config", f"{name}.yml")
        daemon.wait_line("relay serves")
        return daemon

    def web(self, repository: "Repository") -> str:
        """`hg serve` of a repository on a free port; its address."""
        command = ("hg", "serve", "-R", str(repository.path))
        options = ("--address", "127.0.0.1", "--port", "0", "--print-url")
        daemon = self.start("hg-serve", *command, *options, "--accesslog", "log/access.log")
        return daemon.first_output()

    def logs(self) -> list[tuple[str, str]]:
        """(name, text) of each daemon's log, for who looks at a failure."""
        return [
            (path.name, path.read_text(errors="replace")[-20_000:])
            for path in sorted((self.folder / "log").iterdir())
        ]

    # Repositories

    def repository(self, name: str) -> "Repository":
        """A new repository under the root."""
        path = self.root / name
        self.command("hg", "init", str(path))
        return Repository(self, path)

    def clone(self, source: "Repository", url: str | None = None) -> "Repository":
        """A clone outside the root, which the extension leaves alone."""
        path = self.folder / "work" / f"{source.path.name}-{time.monotonic_ns()}"
        self.command("hg", "clone", "--quiet", url or str(source.path), str(path))
        return Repository(self, path)

    # What became of it

    def runs(self, name: str | None = None) -> list[Run]:
        """The runs of record.sh, in their order; of one rule if it is named."""
        path = self.folder / "out" / "runs"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [self._run(line.split("\t")) for line in lines]
        return [one for one in found if name in (None, one.rule)]

    def _run(self, words: list[str]) -> Run:
        at, rule_name, repo, branch, delivery, fence, attempt, *rest = words
        file = self.folder / "out" / f"{delivery}.{fence}"
        when = int(at) / 1e9
        return Run(when, rule_name, repo, branch, delivery, int(fence), int(attempt), *rest, file)

    def wait_runs(
        self, count: int, name: str | None = None, deadline: float = PATIENCE
    ) -> list[Run]:
        """The runs as soon as there are `count` of them; more of them is a failure."""

        def look() -> list[Run]:
            found = self.runs(name)
            return found if len(found) >= count else []

        found = wait_for(look, f"{count} runs", deadline)
        assert len(found) == count, found
        return found

    def deliveries(self, name: str = NAME) -> list[dict[str, Any]]:
        """What `zmq-subscriber deliveries --json` says."""
        return self.ask(name, "deliveries", "--limit", "1000")

    def status(self, name: str = NAME) -> list[dict[str, Any]]:
        """What `zmq-subscriber status --json` says: the totals, then each journal."""
        return self.ask(name, "status", status=None)

    def ask(self, name: str, *verb: str, status: int | None = 0) -> list[dict[str, Any]]:
        """The lines of a verb of zmq-subscriber."""
        command = ("zmq-subscriber", "--config", f"{name}.yml", *verb, "--json")
        return [json.loads(line) for line in self.command(*command, status=status).out.splitlines()]

    def wait_settled(self, count: int, name: str = NAME) -> list[dict[str, Any]]:
        """The deliveries, as soon as there are `count` and all of them are done."""

        def look() -> list[dict[str, Any]]:
            found = self.deliveries(name)
            settled = len(found) >= count and all(one["state"] == "done" for one in found)
            return found if settled else []

        found = wait_for(look, f"{count} deliveries done")
        assert len(found) == count, found
        return found


@dataclass(frozen=True)
class Repository:
    """A repository of a site, and hg in it."""

    site: Site
    path: Path

    @property
    def store(self) -> Path:
        return self.path / ".hg" / "store"

    @property
    def name(self) -> str:
        """As events carry it."""
        return str(self.path.relative_to(self.site.root))

    def hg(
        self,
        *arguments: str,
        status: int | None = 0,
        plain: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Ran:
        """An hg command here; `plain`: without the extension."""
        rc = {"HGRCPATH": str(self.site.folder / "plain")} if plain else {}
        return self.site.command(
            "hg",
            *arguments,
            status=status,
            cwd=self.path,
            environment=rc | dict(environment or {}),
        )

    def build(
        self,
        count: int,
        branches: str = "default",
        *options: str,
        plain: bool = False,
        status: int | None = 0,
    ) -> Ran:
        """Add changesets in one transaction (`--single`: in one each)."""
        words = ("testbuild", "--count", str(count), "--branches", branches)
        return self.hg(*words, *options, plain=plain, status=status)

    def commit(self, message: str = "change", *options: str) -> str:
        """Commit a change of a file; its node."""
        with (self.path / "file").open("a") as stream:
            stream.write(message + "\n")
        self.hg("commit", "--quiet", "--addremove", "--message", message, *options)
        return self.nodes("--rev", ".")[0]

    def nodes(self, *options: str) -> list[str]:
        """The nodes that `hg log` shows."""
        return self.hg("log", "--template", "{node}\n", *options, plain=True).out.split()

    def branch_nodes(self, branch: str) -> list[str]:
        return self.nodes("--rev", f"branch('literal:{branch}')")

    def verify(self) -> str:
        """`hg verify` and `hg events --verify`; both must be clean."""
        self.hg("verify", "--quiet", plain=True)
        return self.hg("events", "--verify").out
