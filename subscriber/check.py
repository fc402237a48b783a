"""The verb `check`: whether a configuration is one that the daemon can live with.

Every part is looked at, so that one run tells all that is to be done. A finding is `ok` or says
what is wrong and what to do. The exit status is 78 if the configuration or a file it names is at
fault, else 69 if a relay does not answer, else 0.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hgext_zmqhooks.service.access import obstacle, remedy
from hgext_zmqhooks.service.errors import EXIT, ConfigError, ServiceError, Unreachable
from hgext_zmqhooks.service.sockets import check_ipc
from subscriber.daemon import Credentials, beside, load_credentials, relay_settings, remote
from subscriber.intake.client import probe
from subscriber.settings import Peer, Rule, Settings, load_settings
from subscriber.views import Printer

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at; `error` None when it is good."""

    subject: str
    detail: str
    error: ServiceError | None = None


def check(path: Path, out: Printer) -> int:
    """Look at everything; prints a finding per part, returns the exit status."""
    worst = EXIT.OK
    for finding in _findings(path):
        error = finding.error
        row = {
            "kind": "check",
            "subject": finding.subject,
            "ok": error is None,
            "detail": str(error) if error else finding.detail,
            "hint": error.hint if error else "",
        }
        if error is None:
            text = f"ok       {finding.subject}: {finding.detail}"
        else:
            text = f"PROBLEM  {finding.subject}: {error}"
            text += f"\n         hint: {error.hint}" if error.hint else ""
        out.row(row, text)
        if error is not None and worst is not EXIT.CONFIG:
            worst = EXIT.UNREACHABLE if isinstance(error, Unreachable) else EXIT.CONFIG
    return worst


def _findings(path: Path) -> Iterator[Finding]:
    try:
        settings = load_settings(path)
    except ServiceError as error:
        yield Finding("configuration", "", error)
        return
    yield Finding("configuration", f"{len(settings.rules)} rules in {settings.file}")
    credentials = None
    try:
        credentials = load_credentials(settings)
        yield Finding("key", f"{credentials.name}, trusted by {_names(settings.trust)}")
    except ServiceError as error:
        yield Finding("key", "", error)
    yield _tried("store", lambda: _store(settings))
    if settings.relay is not None:
        yield _tried("relay", lambda: _inside(settings))
    for peer in settings.relays:
        yield _tried(str(peer.address), lambda peer=peer: _relay(settings, peer, credentials))  # type: ignore[misc]
    for at, rule in enumerate(settings.rules):
        yield _tried(f"rule {rule.name}", lambda at=at, rule=rule: _rule(settings, at, rule))  # type: ignore[misc]


def _tried(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, look())
    except ServiceError as error:
        return Finding(subject, "", error)


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(str(path) for path in paths)


def _store(settings: Settings) -> str:
    folder = settings.store.parent
    if not folder.is_dir():
        reason, hint = f"the folder {folder} does not exist", f"mkdir -p {folder}"
        raise ConfigError(settings.file, "store", str(settings.store), reason, hint)
    for suffix in ("", ".lock", ".runners"):
        closed = obstacle(beside(settings.store, suffix), os.W_OK, make=True)
        if closed:
            path = beside(settings.store, suffix)
            hint = f"all in {folder} must be this user's, and writable: {remedy(path)}"
            raise ConfigError(settings.file, "store", str(settings.store), closed, hint)
    return str(settings.store)


def _inside(settings: Settings) -> str:
    resolved = relay_settings(settings)
    assert resolved is not None
    for endpoint in filter(None, (resolved.publish, *resolved.subscribe, resolved.broadcast)):
        if endpoint.path:
            check_ipc(endpoint, resolved.group)
    return f"inside, publish {resolved.publish}"


def _relay(settings: Settings, peer: Peer, credentials: Credentials | None) -> str:
    if credentials is None:
        raise ConfigError(settings.file, "key", None, "without it no relay can be asked")
    failure = probe(remote(peer), credentials.secret, credentials.keyring, PROBE_SECONDS)
    if failure:
        raise Unreachable(f"{peer.address}: {failure}", hint="is the relay there up?")
    return "answers"


def _rule(settings: Settings, at: int, rule: Rule) -> str:
    """The command must be there now: finding it missing at the first push is too late."""
    key, name = f"rules[{at}].exec[0]", rule.exec[0]
    if "/" in name:
        path = settings.folder / name
        if not path.is_file():
            raise ConfigError(settings.file, key, name, f"{path} does not exist")
        if not os.access(path, os.X_OK):
            raise ConfigError(settings.file, key, name, "it is not executable", f"chmod +x {path}")
        return str(path)
    found = shutil.which(name)
    if found is None:
        reason = f"there is no such command in PATH ({os.environ.get('PATH', '')})"
        raise ConfigError(settings.file, key, name, reason, "write its whole path")
    return found
