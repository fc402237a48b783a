"""The reference says what the code says: keys, events, states, statuses."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from hgext_zmqhooks import extension, settings
from hgext_zmqhooks.journal import format as journal_format
from hgext_zmqhooks.journal import heads
from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.relay.settings import RelaySection
from hgext_zmqhooks.service.config import Duration, Size
from hgext_zmqhooks.wire import events, split, topics, values
from hgext_zmqhooks.wire.session import TRANSITIONS
from hgext_zmqhooks.wire.verbs import VERBS
from subscriber import rule_settings, store_settings
from subscriber import settings as subscriber
from subscriber.actions import settings as actions
from subscriber.actions.redis_settings import RedisSettings
from subscriber.actions.template import NAMES
from subscriber.actions.webhook_settings import WebhookSettings
from subscriber.store import redis_session

DOCS = Path(__file__).parents[2] / "docs"
STRUCTS = {
    "subscriber.yml": subscriber._File,
    "store": store_settings.Server,
    "relays": subscriber.Peer,
    "rules": rule_settings.Rule,
    "when": rule_settings.When,
    "retry": rule_settings.Retry,
    "exec": actions.ExecSettings,
    "environment": actions.Environment,
    "limits of a command": actions.Limits,
    "webhook": WebhookSettings,
    "redis": RedisSettings,
    "relay.yml": RelaySection,
    "limits": Limits,
}


def read(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def section(text: str, title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, less their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("| ---")}
    return [row for at, row in enumerate(cells) if at not in heads | {at + 1 for at in heads}]


def first_cells(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text)]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("title", STRUCTS)
def test_every_key_of_a_file_is_documented_and_no_other(title: str) -> None:
    known = [field.encode_name for field in msgspec.structs.fields(STRUCTS[title])]

    assert sorted(first_cells(section(read("configuration.md"), title))) == sorted(known)


@pytest.mark.parametrize("title", STRUCTS)
def test_what_is_required_is_said_to_be(title: str) -> None:
    documented = {
        row[0].strip("`") for row in rows(section(read("configuration.md"), title))
        if row[1] == "required"
    }  # fmt: skip
    required = {
        field.encode_name for field in msgspec.structs.fields(STRUCTS[title]) if field.required
    }
    # These may be left out of a subscriber.yml only, where the subscriber's are taken.
    taken_over = {"key", "trust", "state"} if title == "relay.yml" else set()

    assert documented == required | taken_over


def test_the_defaults_of_rules_are_the_documented_ones() -> None:
    text = read("configuration.md")
    default = {row[0].strip("`"): row[1].strip("`") for row in rows(section(text, "rules"))}
    rule = rule_settings.Rule(name="x", exec=("x",))

    request = rule_settings.Rule(name="x", webhook=WebhookSettings(url="https://ci/"))
    command, of_request = default["timeout"].split("`; of requests ")

    assert Duration.parse(command) == rule.limit
    assert Duration.parse(of_request) == request.limit
    assert (default["each"], default["overlap"]) == (rule.each, rule.overlap)
    assert default["order"] == rule.order
    retry = {row[0].strip("`"): row[1].strip("`") for row in rows(section(text, "retry"))}
    delays = [Duration.parse(each) for each in retry["delays"].strip("[]").split(", ")]
    assert (int(retry["attempts"]), tuple(delays)) == (rule.retries.attempts, rule.retries.delays)
    assert Duration.parse(retry["patience"]) == rule.retries.patience
    assert rows(section(text, "when"))[0][1] == f"`{rule.when.topic}`"


def test_the_schedule_of_webhooks_is_the_documented_one() -> None:
    webhook = rule_settings.Rule(name="x", webhook=WebhookSettings(url="https://ci/")).retries
    said = re.search(
        r"Webhooks have (\d+) attempts, with the delays `\[(.*?)\]`", read("configuration.md")
    )
    assert said

    assert int(said[1]) == webhook.attempts
    assert tuple(map(Duration.parse, said[2].split(", "))) == webhook.delays


def test_every_value_of_a_template_is_documented_and_no_other() -> None:
    page = (DOCS / "howto" / "send-a-webhook.md").read_text()
    table = re.search(r"^\| values .*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert table

    found = [name for row in rows(table[0]) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(found) == sorted(NAMES)


def test_every_setting_of_the_hgrc_is_documented_and_no_other() -> None:
    documented = first_cells(section(read("configuration.md"), "hgrc"))
    registered = [name.decode() for name in extension.configtable[b"zmqhooks"]]

    assert sorted(documented) == sorted(registered) == sorted(settings.NAMES)


def test_the_defaults_of_the_hgrc_are_the_documented_ones() -> None:
    table = rows(section(read("configuration.md"), "hgrc"))
    documented = {row[0].strip("`"): row[1].strip("`") for row in table}
    words = {None: "", True: "yes", b"": ""}

    for name, item in extension.configtable[b"zmqhooks"].items():
        default = item.default
        text = words[default] if default in words else default.decode()
        assert documented[name.decode()] == text, name


def test_the_example_event_is_one() -> None:
    document = json.loads(blocks(read("events.md"), "json")[0])
    compact = events.dumps(document)

    assert events.encode(events.decode(compact)) == compact


def names(kind: type) -> Iterator[str]:
    yield from (item.name for item in fields(kind))


def test_every_key_of_an_event_is_documented() -> None:
    text = read("events.md")
    place = set(names(values.Event)) - {"continuing", "type", "time", "traceparent"}
    inner = {
        name
        for kind in (values.Changeset, values.Heads, values.Summary, values.Pusher, values.Move)
        for name in names(kind)
    }
    inner |= set(names(values.Transaction)) | set(names(values.Obsoleted))

    assert [name for name in sorted(place | inner) if f"`{name}`" not in text] == []


def test_limits_are_the_documented_ones() -> None:
    assert f"at most {split.LIMIT:,} bytes" in read("events.md")
    assert events.MAX_LENGTH == 1 << 20
    assert journal_format.LONGEST == 4 << 20


@pytest.mark.parametrize("pattern", first_cells(section(read("events.md"), "Topic")))
def test_documented_patterns_are_patterns(pattern: str) -> None:
    assert topics.Pattern.parse(pattern).text == pattern


def test_every_key_of_the_head_is_documented() -> None:
    text = read("journal.md")
    example = json.loads(blocks(text, "json")[0])
    head = heads.decode(json.dumps(example).encode())

    assert json.loads(head.encode()) == example
    documented = [name.strip("`") for row in rows(section(text, "`zmqhooks-head`"))
                  for name in row[0].split(", ")]  # fmt: skip
    assert sorted(documented) == sorted(names(heads.Head))


def test_the_keys_of_the_redis_store_are_documented() -> None:
    library = Path(redis_session.__file__).with_name("redis.lua").read_text()
    kept = re.findall(r"^--   (P:\S+(?:, P:\S+)?) +(?:hash|set|zset|list) ", library, re.MULTILINE)

    documented = [cell for cell in first_cells(read("redis-store.md")) if cell.startswith("P:")]
    assert documented == [names.replace(", ", "`, `") for names in kept]


def test_the_kinds_of_records_are_documented() -> None:
    kinds = {"certificate": journal_format.CERTIFICATE, "event": journal_format.EVENT}
    kinds["mark"] = journal_format.MARK
    kinds |= {"origin": journal_format.ORIGIN, "branch": journal_format.BRANCH}
    table = rows(section(read("journal.md"), "Records of `zmqhooks-events`"))

    assert {row[1]: int(row[0]) for row in table} == kinds


def test_the_table_of_states_is_that_of_the_code() -> None:
    documented = rows(section(read("session.md"), "States"))

    assert documented == [
        [state.value, role.value, VERBS[kind].decode(), after.value]
        for (state, role, kind), after in TRANSITIONS.items()
    ]


def test_every_verb_of_a_session_is_documented() -> None:
    documented = first_cells(section(read("session.md"), "Messages"))

    assert sorted(documented) == sorted(verb.decode() for verb in VERBS.values())


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


NAMED_TESTS = re.findall(r"`(tests/[^`]+)`", (DOCS / "explanation" / "guarantees.md").read_text())


@pytest.mark.parametrize("named", NAMED_TESTS)
def test_what_is_guaranteed_is_tested(named: str) -> None:
    path, *names = named.split("::")
    source = (DOCS.parent / path).read_text()

    for name in names:
        assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), name


def test_every_paragraph_of_the_guarantees_names_a_test() -> None:
    titles = re.split(
        r"^## ", (DOCS / "explanation" / "guarantees.md").read_text(), flags=re.MULTILINE
    )

    assert [title.splitlines()[0] for title in titles[1:] if "`tests/" not in title] == []


def test_the_defaults_of_limits_are_the_documented_ones() -> None:
    documented = {
        row[0].strip("`"): row[1] for row in rows(section(read("configuration.md"), "limits"))
    }
    shown = {
        field.name: f"`{field.default >> 20}MiB`" if field.type is Size else f"`{field.default}`"
        for field in msgspec.structs.fields(Limits)
    }

    assert documented == shown
