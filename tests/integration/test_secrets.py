"""No secret key leaves its file: not in what is said or logged, argv, environment, store, journal.

Keys are looked for in every form in which they could be written down.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import Daemon
from support.site import Ran, Site, rule
from zmq.utils import z85

from hgext_zmqhooks.wire.keyfiles import SecretKey

LOOKING = """\
#!/bin/sh
# An action that tells everything it can see of the daemon's and its own surroundings.
env
tr '\\0' '\\n' < /proc/$PPID/cmdline
tr '\\0' '\\n' < /proc/$PPID/environ
cat
exit 65
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.made() as made:
        made.script("look.sh", LOOKING)
        yield made


Secrets = list[tuple[str, bytes]]
"""What it is, and how it would stand there."""


def secrets_in(site: Site) -> Secrets:
    """Each secret of each key file, in each form."""
    found: Secrets = []
    for file in (site.folder / "keys").glob("*.key"):
        key = SecretKey.decode(file.read_bytes())
        for what, raw in (("signs", key.seed), ("opens", z85.decode(key.curve_secret))):
            forms = {
                "raw": raw,
                "hex": raw.hex().encode(),
                "Z85": z85.encode(raw),
                "base64": base64.b64encode(raw).rstrip(b"="),
                "base64url": base64.urlsafe_b64encode(raw).rstrip(b"="),
                "a Python literal": repr(raw)[2:-1].encode(),
            }
            found += [(f"{file.name}, {what}, {name}", form) for name, form in forms.items()]
    return found


def leaks(secrets: Secrets, place: str, data: bytes) -> list[str]:
    return [f"{place}: {what}" for what, form in secrets if form in data]


def leaks_in_files(site: Site, secrets: Secrets) -> list[str]:
    """In any file but the key files: logs, stores, journals, sockets' certificates, output."""
    files = [file for file in site.folder.rglob("*") if file.is_file() and file.suffix != ".key"]
    assert {"ci.db", "relay.db", "zmqhooks-events", "relay.cert"} <= {file.name for file in files}
    return [leak for file in files for leak in leaks(secrets, file.name, file.read_bytes())]


def leaks_in_process(secrets: Secrets, pid: int) -> list[str]:
    shown = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    return leaks(secrets, f"process {pid}", b"\n".join(shown))


def every_process(daemons: list[Daemon]) -> list[int]:
    """The daemons and what they started."""
    return [pid for daemon in daemons for pid in (daemon.pid, *daemon.children())]


def said_by_commands(site: Site) -> list[Ran]:
    """What every command says of keys, those that fail included."""
    (site.folder / "broken.key").write_bytes((site.folder / "keys/relay.key").read_bytes()[:-9])
    (site.folder / "broken.key").chmod(0o600)
    (site.folder / "broken.yml").write_text(
        (site.folder / "ci.yml").read_text().replace("keys/subscriber.key", "broken.key")
    )
    keys = sorted(f"keys/{file.name}" for file in (site.folder / "keys").iterdir())
    commands = [
        ("zmq-keys", "show", *keys),
        ("zmq-keys", "show", "--json", *keys),
        ("zmq-keys", "show", "broken.key"),
        ("zmq-keys", "verify", *keys, "--trust", "keys/root.pub"),
        ("zmq-keys", "rotate", "keys/spare.key", "--root", "keys/root.key"),
        ("zmq-keys", "issue", "--root", "broken.key", "--name", "x", "--out", "keys/x.key"),
        ("zmq-subscriber", "--config", "ci.yml", "check"),
        ("zmq-subscriber", "--config", "ci.yml", "status", "--json"),
        ("zmq-subscriber", "--config", "ci.yml", "deliveries"),
        ("zmq-subscriber", "--config", "broken.yml", "check"),
        ("zmq-subscriber", "--config", "broken.yml"),
        ("zmq-relay", "--config", "relay.yml", "check"),
    ]
    return [site.command(*command, status=None) for command in commands]


def test_a_secret_is_found_in_every_form(site: Site) -> None:
    secrets = secrets_in(site)

    for what, form in secrets:
        assert f"here: {what}" in leaks(secrets, "here", b"before " + form + b" after")
    assert len(secrets) == 2 * 6 * len(list((site.folder / "keys").glob("*.key")))


def test_no_secret_leaves_its_file(site: Site) -> None:
    # Given a relay and a subscriber over CURVE, and actions that show all that they see
    site.issue("spare", "--read", "hg:**:**:")
    site.configure_relay()
    rules = [rule("look", exec=["./look.sh"]), rule("build")]
    site.configure(relays=[site.endpoint("subscribe")], rules=rules)
    secrets = secrets_in(site)
    daemons = [site.relay(), site.subscriber()]
    app = site.repository("team/app")
    # When hg tells all it can while it commits and is pushed to, also with a key that is damaged
    loud = ("--debug", "--traceback", "--verbose", "--config", "devel.all-warnings=yes")
    said = [app.build(2, "default", *loud)]
    clone = site.clone(app)
    clone.build(1, "stable")
    said.append(clone.hg("push", "--force", "--new-branch", *loud, f"ssh://host/{app.path}"))
    site.wait_runs(3)
    said += said_by_commands(site)
    damaged = ("--config", f"zmqhooks.key={site.folder}/broken.key")
    said.append(app.build(1, "default", *loud, *damaged, status=255))
    said += [app.hg("events", "--check", *loud), app.hg("showconfig", *loud)]
    # Then no key is in any of it, neither an old one nor one that took its place
    secrets += secrets_in(site)
    text = "".join(ran.out + ran.err for ran in said)
    assert leaks(secrets, "said", text.encode()) == []
    for pid in every_process(daemons):
        assert leaks_in_process(secrets, pid) == []
    for daemon in daemons:
        daemon.end()
    assert leaks_in_files(site, secrets) == []
