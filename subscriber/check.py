"""The verb `check`: whether a configuration is one that the daemon can live with.

Every part is looked at, so that one run tells all that is to be done. A finding is `ok` or says
what is wrong and what to do. The exit status is 78 if the configuration or a file it names is at
fault, else 69 if a relay does not answer, else 1 if something works but not as it should, else 0.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hgext_zmqhooks.service.access import obstacle, remedy
from hgext_zmqhooks.service.errors import EXIT, ConfigError, ServiceError, Unreachable
from hgext_zmqhooks.service.words import counted
from subscriber.actions.make import described, missing, refused
from subscriber.credentials import Credentials, expiries, is_deaf, load_credentials, load_relay
from subscriber.daemon import place, remote
from subscriber.inside import (
    check_endpoints,
    check_state,
    refused_readers,
    relay_settings,
    troubles,
)
from subscriber.intake.connect import probe
from subscriber.rule_settings import Rule, many
from subscriber.settings import Peer, Settings, beside, load_settings
from subscriber.store.base import StoreError
from subscriber.stores import doubts, glance
from subscriber.views import Printer
from subscriber.waiting import find_open, gone_rules

PROBE_SECONDS = 5.0
_FIRST = "mend what is said of `key` first"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at; `error` None when it is good. `mild`: the daemon can live with it."""

    subject: str
    detail: str
    error: ServiceError | None = None
    mild: bool = False

    @property
    def status(self) -> EXIT:
        """With what exit status this alone would end."""
        if self.error is None:
            return EXIT.OK
        if self.mild:
            return EXIT.PROBLEM
        return EXIT.UNREACHABLE if isinstance(self.error, Unreachable) else EXIT.CONFIG


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
        worst = max(worst, finding.status)
    return worst


def _findings(path: Path) -> Iterator[Finding]:
    try:
        settings = load_settings(path)
    except ServiceError as error:
        yield Finding("configuration", "", error)
        return
    rules = counted(len(settings.rules), "rule")
    yield Finding("configuration", f"{rules} in {settings.file}")
    credentials = None
    try:
        credentials = load_credentials(settings)
        yield Finding("key", f"{credentials.name}, trusted by {_names(settings.trust)}")
    except ServiceError as error:
        yield Finding("key", "", error)
    yield from _stored(settings)
    yield from _served(settings, credentials)
    for peer in settings.relays:
        yield _tried(str(peer.address), lambda peer=peer: _relay(settings, peer, credentials))  # type: ignore[misc]
    for at, rule in enumerate(settings.rules):
        yield _tried(
            f"rule {rule.name}",
            lambda at=at, rule=rule: _rule(settings, at, rule, credentials),  # type: ignore[misc]
        )


def _stored(settings: Settings) -> Iterator[Finding]:
    """The store: whether it can be used, and what in it waits for a rule that is gone."""
    found = _tried("store", lambda: _store(settings))
    yield found
    if found.error is None:
        for doubt in doubts(settings):
            error = ServiceError(f"{settings.store}: {doubt}", hint="see its configuration")
            yield Finding("store", "", error, mild=True)
    store = glance(settings) if found.error is None else None
    if store is None:
        return
    with store:
        gone = gone_rules(find_open(store), {rule.name for rule in settings.rules})
    for name, count in gone.items():
        waiting = f"{counted(count, 'delivery')} of the rule {name} open, but it is gone"
        hint = f"write the rule again: then they run; or: dead --give-up --rule {name}"
        error = ServiceError(waiting, hint=hint)
        yield Finding("store", "", error, mild=True)


def _served(settings: Settings, credentials: Credentials | None) -> Iterator[Finding]:
    """The relay inside, the repositories it serves, and the time of certificates."""
    try:
        inside = relay_settings(settings)
    except ServiceError as error:
        yield Finding("relay", "", error)
        return
    if inside is not None:
        yield _tried("relay", lambda: _inside(settings, credentials=credentials is not None))
        if credentials is not None and inside.broadcast_readers:
            yield from _readers(settings)
        found = list(troubles(inside))
        for path, problem in found:
            trouble = ServiceError(f"{path}: {problem}", hint="see `repositories` in `relay`")
            yield Finding("repositories", "", trouble, mild=True)
        if not found:
            yield Finding("repositories", ", ".join(inside.repositories))
    for one in expiries(settings, inside, time.time()):
        # What has expired was found when the key was loaded.
        if not one.over:
            yield Finding(one.key, "", ServiceError(one.text, hint=one.hint), mild=True)


def _readers(settings: Settings) -> Iterator[Finding]:
    """Readers of the broadcast who are refused at present; those who always will be are worse."""
    hint = "zmq-keys rotate renews it; then copy its N.cert here"
    inside = relay_settings(settings)
    assert inside is not None
    try:
        _, keyring = load_relay(settings, inside)
        for reason in refused_readers(inside, keyring):
            yield Finding("broadcast-readers", "", ServiceError(reason, hint=hint), mild=True)
    except ServiceError as error:
        yield Finding("broadcast-readers", "", error)


def _tried(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, look())
    except ServiceError as error:
        return Finding(subject, "", error)


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(str(path) for path in paths)


def _store(settings: Settings) -> str:
    place = settings.store
    if isinstance(place, Path):
        _writable(settings, "store", place, ("", ".lock"))
    key = "store" if settings.state == place else "state"
    _writable(settings, key, settings.state, (".lock", ".runners"))
    try:
        store = glance(settings)
    except StoreError as error:
        if not isinstance(place, Path):
            raise Unreachable(f"{place}: {error.reason}", hint=error.hint) from None
        raise ConfigError(settings.file, "store", str(place), error.reason, error.hint) from None
    if store is not None:
        store.close()
    return str(settings.store)


def _writable(settings: Settings, key: str, path: Path, suffixes: tuple[str, ...]) -> None:
    """Whether a daemon can make and write these files. ConfigError."""
    folder = path.parent
    if not folder.is_dir():
        reason, hint = f"the folder {folder} does not exist", f"mkdir -p {folder}"
        raise ConfigError(settings.file, key, str(path), reason, hint)
    for suffix in suffixes:
        file = beside(path, suffix)
        closed = obstacle(file, os.W_OK, make=True)
        if closed:
            hint = f"all in {folder} must be this user's, and writable: {remedy(file)}"
            raise ConfigError(settings.file, key, str(path), closed, hint)


def _inside(settings: Settings, *, credentials: bool) -> str:
    resolved = relay_settings(settings)
    assert resolved is not None
    check_endpoints(settings, resolved)
    if credentials:
        load_relay(settings, resolved)
    try:
        check_state(resolved)
    except StoreError as error:
        hint = "with the daemon stopped move it away: subscribers keep their own positions"
        path = str(resolved.state)
        raise ConfigError(settings.file, "relay.state", path, error.reason, hint) from None
    return f"inside, publish {resolved.publish}"


def _relay(settings: Settings, peer: Peer, credentials: Credentials | None) -> str:
    if credentials is None:
        raise ConfigError(settings.file, "key", None, "without it no relay can be asked", _FIRST)
    failure = probe(remote(peer), credentials.secret, credentials.keyring, PROBE_SECONDS)
    if failure:
        raise Unreachable(f"{peer.address}: {failure}", hint="is the relay there up?")
    return "answers"


def _rule(settings: Settings, at: int, rule: Rule, credentials: Credentials | None) -> str:
    """The command must be there now: finding it missing at the first push is too late."""
    if credentials is not None and is_deaf(rule, credentials.allowed):
        may = " ".join(pattern.text for pattern in credentials.allowed)
        reason = f"the certificate in {settings.key} may read {may} only: the rule would never run"
        wanted = list(many(rule.when.topic))
        hint = "correct the topic, or issue a key with --read for it"
        raise ConfigError(settings.file, f"rules[{at}].when.topic", wanted, reason, hint)
    (key, said), here = next(iter(rule.actions().items())), place(settings)
    key = f"rules[{at}].{key}"
    for wrong, value, reason, hint in (*refused(key, said), *missing(key, said, here)):
        raise ConfigError(settings.file, wrong, value, reason, hint)
    return described(said, here)
