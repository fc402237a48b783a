"""subscriber.yml: what is accepted, and that every mistake says file, key, value, reason, hint."""

from pathlib import Path

import pytest

from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.service.redis_client import RedisAddress, RedisUrl, parse_address
from subscriber.engine.schedule import WEBHOOKS, Retry
from subscriber.settings import Settings, load_settings

GOOD = """
name: ci
key: ci.key
trust: [root.pub]
relay:
  publish: ipc:///run/zmqhooks/publish
  repositories: ["/srv/hg/**"]
relays:
  - {address: tcp://192.0.2.1:5701, certificate: hg1.cert}
  - {address: ipc:///run/zmqhooks/subscribe}
start: 24h
store: sqlite:ci.db
workers: 4
keep: 7d
state: run/ci
lease: 2m
rules:
  - name: build
    when:
      topic: ["hg:team/*:default:", "hg:**:stable:"]
      changes: changesets
      files: ["src/**"]
      phase: draft
      user: "*@example.com*"
      pusher: [alice, bob]
      origin: live
    each: changeset
    exec: ["./build.sh", "-v"]
    timeout: 15m
    order: "deploy-{repo}"
    overlap: latest
    concurrency: 2
    lock: deploy-prod
    retry: {attempts: 3, delays: [5s, 1m], patience: 1d}
  - name: tell
    exec: [mail]
    when: {topic: "hg:**:stable:"}
"""

SMALL = """
key: ci.key
trust: [root.pub]
relays: [{address: "ipc:///run/zmqhooks/subscribe"}]
store: sqlite:ci.db
rules: [{name: a, exec: [x]}]
"""


def load(folder: Path, text: str) -> Settings:
    file = folder / "subscriber.yml"
    file.write_text(text)
    return load_settings(file)


def test_everything_the_design_shows_is_accepted(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)

    assert settings.name == "ci"
    assert settings.key == tmp_path / "ci.key"
    assert settings.trust == (tmp_path / "root.pub",)
    assert settings.store == tmp_path / "ci.db"
    assert (settings.state, settings.lease) == (tmp_path / "run/ci", 120.0)
    assert settings.start == 86400
    assert settings.folder == tmp_path
    assert settings.relay == {
        "publish": "ipc:///run/zmqhooks/publish",
        "repositories": ["/srv/hg/**"],
    }
    assert [str(peer.address) for peer in settings.relays] == [
        "tcp://192.0.2.1:5701",
        "ipc:///run/zmqhooks/subscribe",
    ]
    assert settings.relays[0].certificate == tmp_path / "hg1.cert"
    build = settings.rules[0]
    assert (build.timeout, build.retry.attempts, build.each) == (900, 3, "changeset")
    assert (settings.workers, settings.keep) == (4, 7 * 86400)
    assert (build.overlap, build.concurrency, build.lock) == ("latest", 2, "deploy-prod")
    assert (build.order, build.retry.delays, build.retry.patience) == (
        "deploy-{repo}",
        (5, 60),
        86400,
    )
    assert build.exec == ("./build.sh", "-v")
    assert settings.patterns == ("hg:team/*:default:", "hg:**:stable:")


@pytest.mark.parametrize(
    "url", ["redis://db.example.com:6380/2", "rediss://db/0", "unix:///run/valkey.sock?db=1"]
)
def test_a_store_may_be_a_server_that_hosts_share(tmp_path: Path, url: str) -> None:
    settings = load(tmp_path, SMALL.replace("sqlite:ci.db", url))

    assert settings.store == parse_address(url)
    # Then what belongs to this host stands beside the configuration.
    assert settings.state == tmp_path / "subscriber"


def test_a_server_may_have_more_to_say(tmp_path: Path) -> None:
    store = """
  url: rediss://ci/0
  credentials: redis.secret
  ca: /etc/ca.pem
  sentinels: ["s1:26379", s2]
  service: ci"""

    settings = load(tmp_path, SMALL.replace(" sqlite:ci.db", store))

    assert settings.store == RedisAddress(
        url=RedisUrl.parse("rediss://ci/0"),
        credentials=tmp_path / "redis.secret",
        ca=Path("/etc/ca.pem"),
        sentinels=(("s1", 26379), ("s2", 26379)),
        service="ci",
    )


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    settings = load(tmp_path, SMALL)

    (rule,) = settings.rules
    assert (settings.name, settings.relay, settings.start) == (None, None, "latest")
    assert (settings.workers, settings.keep) == (8, 30 * 86400)
    assert (rule.concurrency, rule.lock) == (None, None)
    assert (settings.state, settings.lease) == (settings.store, 60.0)
    assert (rule.limit, rule.each, rule.order, rule.overlap) == (900, "event", "branch", "queue")
    assert rule.retries == Retry(4, (1, 10, 60), 259200)
    assert settings.patterns == ("hg:**:**:",)


def test_what_a_webhook_leaves_out_has_another_default(tmp_path: Path) -> None:
    url = "webhook: {url: https://ci.example.com/}"
    usual, own = (
        load(tmp_path, SMALL.replace("exec: [x]", text)).rules[0]
        for text in (url, f"{url}, timeout: 5s, retry: {{attempts: 2, patience: 1h}}")
    )

    assert (usual.limit, usual.retries) == (30, WEBHOOKS)
    assert (own.limit, own.retries) == (5, Retry(2, WEBHOOKS.delays, 3600))


@pytest.mark.parametrize(
    ("old", "new", "key", "value", "reason", "hint"),
    [
        ("name: ci", "nmae: ci", "nmae", "ci", "unknown key", '"name"'),
        ("start: 24h", "http: 127.0.0.1:8400", "http", None, "unknown key", ""),
        ("exec: [mail]", "webhook: x", "rules[1].webhook", "x", "a mapping", ""),
        ("exec: [mail]", "mail: [x]", "rules[1].mail", ["x"], "unknown key", "exec"),
        (
            "exec: [mail]",
            "exec: [mail]\n    webhook: {url: https://ci/}",
            "rules[1].webhook",
            None,
            "the rule tell has exec and webhook",
            "a rule of each",
        ),
        ("exec: [mail]", "webhook: {ulr: x}", "rules[1].webhook.ulr", "x", "unknown", '"url"'),
        ("exec: [mail]", "webhook: {url: ci}", "rules[1].webhook.url", "ci", "not a URL", ""),
        ("exec: [mail]", "exec: mail", "rules[1].exec", "mail", "a list", '["mail"]'),
        ("exec: [mail]", "exec: {cmd: [x]}", "rules[1].exec.cmd", ["x"], "unknown key", "command"),
        ("exec: [mail]", "exec: {user: x}", "rules[1].exec.command", None, "missing", ""),
        (
            "exec: [mail]",
            "exec: {command: [x], limits: {memory: much}}",
            "rules[1].exec.limits.memory",
            "much",
            "not a size",
            "64KiB",
        ),
        ("exec: [mail]", "exec: []", "rules[1].exec", [], "names no command", "build.sh"),
        ("exec: [mail]", "each: event", "rules[1].exec", None, "missing", ""),
        ("key: ci.key", "", "key", None, "missing", ""),
        ("trust: [root.pub]", "trust: []", "trust", None, "names no root", "root.pub"),
        ("store: sqlite:ci.db", "store: ci.db", "store", "ci.db", "not the address", "sqlite:"),
        (
            "store: sqlite:ci.db",
            "store: redis://u:p@h:6379/0",
            "store",
            None,
            "names a user or a password",
            "",
        ),
        ("store: sqlite:ci.db", "store: {url: redis://h/x}", "store.url", None, "database", ""),
        (
            "store: sqlite:ci.db",
            "store: {uri: redis://h/0}",
            "store.uri",
            None,
            "unknown key",
            "url",
        ),
        (
            "store: sqlite:ci.db",
            "store: {url: redis://h/0, service: ci}",
            "store.url",
            None,
            "go together",
            "name both",
        ),
        ("start: 24h", "start: soon", "start", "soon", "neither latest, earliest nor", ""),
        ("lease: 2m", "lease: 1s", "lease", "1s", "not between 2s and 1h", "60s"),
        ("lease: 2m", "lease: 2h", "lease", "2h", "not between 2s and 1h", "60s"),
        ("15m", "15 fortnights", "rules[0].timeout", "15 fortnights", "duration", ""),
        ("15m", "0s", "rules[0].timeout", "0s", "not between", "15m"),
        ("15m", "8d", "rules[0].timeout", "8d", "not between", "15m"),
        ("attempts: 3", "attempts: 0", "rules[0].retry.attempts", 0, "not between", ""),
        ("[5s, 1m]", "[]", "rules[0].retry.delays", [], "0 of them", "[1s, 10s, 60s]"),
        ("[5s, 1m]", "[5s, 8d]", "rules[0].retry.delays[1]", "8d", "longer than 7d", "1h"),
        ("[5s, 1m]", "[5s, soon]", "rules[0].retry.delays[1]", "soon", "duration", ""),
        ("patience: 1d", "patience: 31d", "rules[0].retry.patience", "31d", "longer", "3d"),
        ('"deploy-{repo}"', "brunch", "rules[0].order", "brunch", "neither branch", "template"),
        (
            "deploy-{repo}",
            "deploy-{rule}",
            "rules[0].order",
            "deploy-{rule}",
            "{rule} is none",
            "{repo} {branch} {user} {topic} {node}",
        ),
        ("overlap: latest", "overlap: last", "rules[0].overlap", "last", "last", '"latest"'),
        ('"deploy-{repo}"', "none", "rules[0].overlap", "latest", "replaces nothing", "branch"),
        ("lock: deploy-prod", "lock: a b", "rules[0].lock", "a b", "letters", "for example a-b"),
        ("concurrency: 2", "concurrency: 0", "rules[0].concurrency", 0, "not between", "no limit"),
        ("workers: 4", "workers: 0", "workers", 0, "not between 1 and 256", "8"),
        ("workers: 4", "workers: 257", "workers", 257, "not between 1 and 256", "8"),
        ("keep: 7d", "keep: 59m", "keep", "59m", "not between 1h and 3650d", "30d"),
        ("name: tell", "name: build", "rules[1].name", "build", "rules[0] too", "of its own"),
        ("name: tell", "name: Tell me", "rules[1].name", "Tell me", "a-z", ""),
        ("hg:team/*:default:", "team/*", "rules[0].when.topic", "team/*", "not scheme", "hg:team"),
        ("origin: live", "author: me", "rules[0].when.author", "me", "unknown key", "valid are"),
        ("changes: changesets", "changes: chngs", "rules[0].when.changes", "chngs", "chngs", ""),
        ("192.0.2.1:5701", "hg1", "relays[0].address", "tcp://hg1", "tcp://host:port", ""),
        (", certificate: hg1.cert", "", "relays[0].certificate", None, "required", "N.cert"),
        (
            "ipc:///run/zmqhooks/subscribe",
            "ipc://x",
            "relays[1].address",
            "ipc://x",
            "absolute",
            "",
        ),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path, *, old: str, new: str, key: str, value: object, reason: str, hint: str
) -> None:
    assert old in GOOD

    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))

    error = caught.value
    assert error.file == str(tmp_path / "subscriber.yml")
    assert (error.key, reason in str(error)) == (key, True)
    assert value is None or error.value == value
    assert hint in error.hint


def test_no_relay_at_all_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="relay: missing") as caught:
        load(tmp_path, SMALL.replace("relays: [", "# ["))

    assert "`relays:`" in caught.value.hint


def test_no_rule_at_all_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 rules"):
        load(tmp_path, SMALL.replace("rules: [{name: a, exec: [x]}]", "rules: []"))


def test_the_same_relay_twice_is_a_mistake(tmp_path: Path) -> None:
    text = GOOD.replace("tcp://192.0.2.1:5701", "ipc:///run/zmqhooks/subscribe")

    with pytest.raises(ConfigError, match="in the list already") as caught:
        load(tmp_path, text)

    assert caught.value.key == "relays[1].address"
