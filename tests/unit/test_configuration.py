"""What a changed configuration does to the parts of a daemon, and what a bad one leaves alone."""

import logging
import time

import pytest
import yaml
from subscriberkit import Site, site

from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.service.metrics import Counters
from subscriber import configuration
from subscriber.compiled import compiled
from subscriber.configuration import Configuration
from subscriber.credentials import load_credentials
from subscriber.daemon import place
from subscriber.engine.dispatch import Dispatcher
from subscriber.intake.current import Current, new_identity
from subscriber.intake.inbox import Tools
from subscriber.retention import Retention
from subscriber.settings import load_settings
from subscriber.store.base import StoreError
from subscriber.store.memory import MemoryStore


class Parts:
    """The parts of a daemon that a configuration is about; nothing of them runs."""

    def __init__(self, here: Site) -> None:
        settings = load_settings(here.config)
        credentials = load_credentials(settings)
        work = compiled(settings, place(settings))
        self.store = MemoryStore()
        self.engine = Dispatcher(self.store, work.specs, work.actions, owner="ci/1")
        self.counters = Counters()
        tools = Tools(
            store=self.store,
            keyring=credentials.keyring,
            patterns=work.patterns,
            match=work.match,
            counters=self.counters,
            notify=self.engine.notify,
            allowed=credentials.allowed,
        )
        self.store.follow(tools.scope)
        self.current = Current(new_identity(credentials.secret, "ci", "s"), tools)
        kept = Retention(self.store, settings.keep)
        self.it = Configuration(settings, place(settings), self.current, self.engine, kept)
        self.load = self.it.part().load

    def counted(self, kind: str) -> int:
        return self.counters.get("configuration", kind)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(configuration, "SETTLED", 0.0)
    with site() as made:
        yield made


@pytest.fixture
def parts(here):
    return Parts(here)


def topics(parts: Parts) -> list[str]:
    return [pattern.text for pattern in parts.current.tools.patterns]


def test_a_file_that_says_the_same_changes_nothing(here: Site, parts: Parts) -> None:
    tools = parts.current.tools
    here.config.write_text(f"# the same\n{here.config.read_text()}")

    assert parts.load() is False

    assert parts.current.tools is tools
    assert (parts.counted("taken-up"), parts.counted("refused")) == (0, 0)


def test_every_part_takes_it_up_and_it_is_counted(here: Site, parts: Parts) -> None:
    scope = parts.current.tools.scope
    here.configure(rules=[here.rule("new", when={"topic": "hg:a:**:"})], workers=3, keep="2h")

    assert parts.load() is True

    assert topics(parts) == ["hg:a:**:"]
    assert parts.store.follow(scope), "the store was told what is read now"
    assert (parts.it.in_force.workers, parts.it.in_force.keep) == (3, 7200)
    assert (parts.counted("taken-up"), parts.counted("refused")) == (1, 0)


def test_a_rule_whose_command_is_not_there_is_taken_up_and_named(
    here: Site, parts: Parts, caplog
) -> None:
    caplog.set_level(logging.WARNING, "zmqhooks.daemon")
    here.configure(rules=[here.rule("build", exec=["./none.sh"])])

    assert parts.load() is True

    (said,) = [each.fields for each in caplog.records if "not there" in each.message]
    assert (said["rule"], said["key"]) == ("build", "rules[0].exec[0]")
    assert "none.sh does not exist" in said["reason"]
    assert said["hint"]


def test_sessions_go_on_where_only_the_number_of_workers_changed(here: Site, parts: Parts) -> None:
    tools = parts.current.tools
    here.configure(workers=3)

    assert parts.load() is True

    assert parts.current.tools is tools
    assert parts.it.in_force.workers == 3


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"workers": 0}, "workers"),
        ({"rules": [{"name": "build"}]}, "rules[0].exec"),
        ({"relay": {"publish": "here"}}, "relay.publish"),
    ],
)
def test_a_bad_file_is_counted_and_leaves_all_as_it_was(
    here: Site, parts: Parts, changes: dict[str, object], key: str
) -> None:
    before = parts.current.tools, parts.it.in_force
    here.configure(**changes)

    with pytest.raises(ConfigError) as caught:
        parts.load()

    assert caught.value.key == key
    assert (parts.current.tools, parts.it.in_force) == before
    assert (parts.counted("taken-up"), parts.counted("refused")) == (0, 1)


def test_a_store_that_fails_leaves_all_as_it_was(here: Site, parts: Parts, monkeypatch) -> None:
    def fail(_self, _scope):
        raise StoreError("ci.db", "the disk is full")

    before = parts.current.tools, parts.it.in_force
    here.configure(rules=[here.rule("new", when={"topic": "hg:a:**:"})])
    with monkeypatch.context() as broken:
        broken.setattr(MemoryStore, "follow", fail)
        with pytest.raises(StoreError, match="full"):
            parts.load()
    assert (parts.current.tools, parts.it.in_force) == before

    assert parts.load() is True
    assert topics(parts) == ["hg:a:**:"]


def test_what_was_taken_up_stays_so_when_the_store_fails_right_after(
    here: Site, parts: Parts, monkeypatch, caplog
) -> None:
    def fail(_self, _wanted, _limit):
        raise StoreError("ci.db", "gone")

    monkeypatch.setattr(MemoryStore, "deliveries", fail)
    here.configure(workers=3)

    assert parts.load() is True

    assert parts.it.in_force.workers == 3
    assert "no look at deliveries of rules that are gone" in caplog.text


def test_a_file_that_is_just_being_written_is_waited_for(here: Site, parts: Parts, monkeypatch):
    # Given a file of which only the first of two rules is there yet, a good file
    here.configure(rules=[here.rule("one"), here.rule("two")])
    document = yaml.safe_load(here.config.read_text())
    rules = yaml.safe_dump({"rules": document.pop("rules")}).splitlines(keepends=True)
    lines = [yaml.safe_dump(document), *rules]
    second = [at for at, line in enumerate(lines) if line.startswith("- ")][-1]
    here.config.write_text("".join(lines[:second]))
    assert len(load_settings(here.config).rules) == 1
    pieces = lines[second:]

    def write_on(_seconds: float) -> None:
        if pieces:
            here.config.write_text(here.config.read_text() + pieces.pop(0))

    # When it is read while the rest is written
    monkeypatch.setattr(time, "sleep", write_on)
    parts.load()
    # Then both are taken up
    assert [rule.name for rule in parts.it.in_force.rules] == ["one", "two"]
    assert parts.counted("taken-up") == 1


def test_keys_that_need_a_restart_are_named_once_each_time_they_change(
    here: Site, parts: Parts, caplog
) -> None:
    caplog.set_level(logging.WARNING, "zmqhooks.daemon")

    def named(**changes: object) -> list[str]:
        caplog.clear()
        here.configure(**changes)
        assert parts.load() is False
        return [each.fields["key"] for each in caplog.records if "restart" in each.message]

    assert named(start="24h", store="sqlite:other.db") == ["start", "store"]
    assert named(start="24h") == []
    assert named() == []
    assert named(start="24h") == ["start"]
