"""The configuration file of a daemon that runs: what of it is taken up, and what is not.

    rules, workers, keep     at once, all or nothing
    any other key            named in the log: it needs a restart

A file that is not good in every part changes nothing, and one that is just being written is waited
for: cut short it may be good, too. Rules are replaced while nobody reads events
(see intake/current), so that each event meets the rules of before or of after, never both, and none
is left out. What runs goes on as it began. Deliveries of a rule that is gone stay in the store, and
are named; they go on when a rule of that name comes back.
"""

import logging
import time
from dataclasses import fields as names
from dataclasses import replace
from pathlib import Path

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, fields
from hgext_zmqhooks.service.watch import Part
from hgext_zmqhooks.wire.topics import Pattern
from subscriber.actions.make import missing
from subscriber.actions.place import Place
from subscriber.compiled import Compiled, compiled
from subscriber.credentials import is_deaf
from subscriber.engine.dispatch import Dispatcher
from subscriber.inside import relay_settings
from subscriber.intake.current import Current
from subscriber.retention import Retention
from subscriber.rule_settings import many
from subscriber.settings import Settings, load_settings
from subscriber.store.base import Reader, StoreError
from subscriber.waiting import find_open, gone_rules

LIVE = {"rules", "workers", "keep"}
"""What may change while the daemon runs."""
SETTLED = 0.2
"""Seconds for which a file must not have changed before it is read …"""
LOOKS = 25
"""… unless it changes all the time."""

log = logging.getLogger(f"{ROOT}.daemon")


class Configuration:
    """The settings in force, and what takes up others; `place`: where actions run."""

    def __init__(
        self,
        settings: Settings,
        place: Place,
        current: Current,
        engine: Dispatcher,
        retention: Retention,
    ) -> None:
        self.in_force = settings
        self._place = place
        self._current = current
        self._engine = engine
        self._retention = retention
        self._waits: set[str] = set()
        self._looked = False

    def part(self) -> Part:
        """What reads the file again."""
        return Part("configuration", (self.in_force.file,), self._load)

    def _load(self) -> bool:
        try:
            fresh = _load_settled(self.in_force.file)
            relay_settings(fresh)
            changed = self._take_up(fresh)
        except ServiceError:
            self._current.tools.counters.add("configuration", "refused")
            raise
        self._name_restarts(fresh)
        if changed or not self._looked:
            self._looked = True
            warn_of_gone(self._current.tools.store, self.in_force)
        return changed

    def _take_up(self, fresh: Settings) -> bool:
        wanted = replace(self.in_force, **{name: getattr(fresh, name) for name in LIVE})
        if wanted == self.in_force:
            return False
        work = compiled(wanted, self._place)
        if wanted.rules != self.in_force.rules:
            self._read_by(work)
        self._engine.change(work.specs, work.actions, wanted.workers)
        self._retention.change(wanted.keep)
        self.in_force = wanted
        self._current.tools.counters.add("configuration", "taken-up")
        warn_of_deaf(wanted, self._current.tools.allowed)
        warn_of_missing(wanted, self._place)
        return True

    def _read_by(self, work: Compiled) -> None:
        current = self._current
        tools = replace(current.tools, patterns=work.patterns, match=work.match)
        current.change(current.identity, tools, lambda: tools.store.follow(tools.scope))

    def _name_restarts(self, fresh: Settings) -> None:
        """Each key once, until it is as it was."""
        keys = {each.name for each in names(Settings)} - LIVE
        differs = {key for key in keys if getattr(fresh, key) != getattr(self.in_force, key)}
        if "store" in differs:
            differs.discard("state")  # which follows from it, or changes with it
        for key in sorted(differs - self._waits):
            said = fields(key=key, file=fresh.file)
            log.warning("a changed key needs a restart", extra=said)
        self._waits = differs


def _load_settled(path: Path) -> Settings:
    """The settings in a file that nobody is writing just now. ConfigError."""
    seen: tuple[int, int, int] | None = None
    for _ in range(LOOKS):
        before, seen = seen, _stamp(path)
        if seen == before:
            break
        time.sleep(SETTLED)
    return load_settings(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        info = path.stat()
    except OSError:  # whoever reads it says what is wrong
        return 0, 0, 0
    return info.st_ino, info.st_size, info.st_mtime_ns


def warn_of_deaf(settings: Settings, allowed: tuple[Pattern, ...]) -> None:
    """Say which rules never run, since we may not read what they want."""
    for rule in settings.rules:
        if is_deaf(rule, allowed):
            may = " ".join(pattern.text for pattern in allowed)
            said = fields(rule=rule.name, topic=" ".join(many(rule.when.topic)), may_read=may)
            log.warning("a rule never runs: our certificate may not read it", extra=said)


def warn_of_missing(settings: Settings, place: Place) -> None:
    """Say which rules need something that is not there now: their first delivery is too late."""
    for at, rule in enumerate(settings.rules):
        for name, said in rule.actions().items():
            for key, value, reason, hint in missing(f"rules[{at}].{name}", said, place):
                told = fields(rule=rule.name, key=key, value=value, reason=reason, hint=hint)
                log.warning("a rule needs what is not there", extra=told)


def warn_of_gone(store: Reader, settings: Settings) -> None:
    """Say which deliveries wait for a rule that is not there."""
    try:
        found = find_open(store)
    except StoreError as error:  # `status` tells of them, when the store can be asked again
        log.warning("no look at deliveries of rules that are gone", extra=fields(error=error))
        return
    for rule, count in gone_rules(found, {rule.name for rule in settings.rules}).items():
        said = fields(rule=rule, open=count, hint="write the rule again and they run")
        log.warning("deliveries of a rule that is not configured any more", extra=said)
