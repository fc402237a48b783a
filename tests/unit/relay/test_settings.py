import grp
import os
from pathlib import Path

import pytest

from hgext_zmqhooks.relay import settings
from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.service.errors import ConfigError

GROUP = grp.getgrgid(os.getegid()).gr_name

RELAY = f"""
key: relay.key
trust: [root.pub]
publish: ipc:///run/zmqhooks/publish
subscribe: [tcp://0.0.0.0:5701, ipc:///run/zmqhooks/subscribe]
broadcast: ipc:///run/zmqhooks/broadcast
repositories: ["/srv/hg/**", here/*]
state: /var/lib/zmqhooks/relay.db
group: {GROUP}
"""

SUBSCRIBER = """
name: ci
key: ci.key
trust: [root.pub]
store: sqlite:/var/lib/zmqhooks/ci.db
rules: [{name: build, exec: ["./build.sh"]}]
relay:
  publish: ipc:///run/zmqhooks/publish
  repositories: ["/srv/hg/**"]
"""


@pytest.fixture
def load(tmp_path):
    def write(text):
        path = tmp_path / "f.yml"
        path.write_text(text)
        return settings.load(path)

    return write


def test_a_relay_yml(load, tmp_path):
    loaded = load(RELAY)
    given = loaded.settings
    assert not loaded.inside
    assert given.key == tmp_path / "relay.key"
    assert given.trust == (tmp_path / "root.pub",)
    assert [one.transport for one in given.subscribe] == ["tcp", "ipc"]
    assert given.repositories == ("/srv/hg/**", f"{tmp_path}/here/*")
    assert (given.state, given.group) == (Path("/var/lib/zmqhooks/relay.db"), GROUP)


def test_who_may_connect_and_what_they_are_granted(load, tmp_path):
    given = load(RELAY).settings
    assert (given.allow, given.broadcast_readers, given.insecure) == ((), (), False)
    assert (given.excess, given.limits) == ("narrow", Limits(2 << 20, 8, 8, 1000, 50, 4 << 20))

    tcp = RELAY.replace("broadcast: ipc:///run/zmqhooks/broadcast", "broadcast: tcp://[::]:5702")
    given = load(
        tcp + "broadcast-readers: [a.cert]\nallow: [192.0.2.0/24, '::1']\nexcess: refuse\n"
        "limits: {message: 64KiB, unfinished: 1MiB, sessions: 2}\n"
    ).settings
    assert given.broadcast_readers == (tmp_path / "a.cert",)
    assert given.allow == ("192.0.2.0/24", "::1")
    assert (given.excess, given.limits.message, given.limits.sessions) == ("refuse", 65536, 2)
    assert load(tcp + "insecure: yes\n").settings.insecure


def test_a_relay_inside_a_subscriber_takes_key_trust_and_state_from_it(load, tmp_path):
    loaded = load(SUBSCRIBER)
    assert loaded.inside
    assert loaded.settings.key == tmp_path / "ci.key"
    assert loaded.settings.trust == (tmp_path / "root.pub",)
    assert loaded.settings.state == Path("/var/lib/zmqhooks/ci.db.relay")


def test_what_the_section_says_wins(load, tmp_path):
    loaded = load(SUBSCRIBER + "  key: own.key\n  state: own.db\n")
    assert loaded.settings.key == tmp_path / "own.key"
    assert loaded.settings.state == tmp_path / "own.db"


@pytest.mark.parametrize(
    ("within", "names"),
    [("", ["root.crl"]), ("  revocations: []\n", []), ("  revocations: [own.crl]\n", ["own.crl"])],
)
def test_revocation_lists_are_the_subscribers_unless_the_section_says_its_own(load, within, names):
    loaded = load("revocations: [root.crl]\n" + SUBSCRIBER + within)

    assert [path.name for path in loaded.settings.revocations] == names


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (("key: relay.key", ""), "key: required, but missing", ""),
        (("trust: [root.pub]", ""), "trust: required, but missing", ""),
        (("state: /var", "#"), "state: required, but missing", ""),
        (("publish: ipc", "publsh: ipc"),
         "publsh: 'ipc:///run/zmqhooks/publish': unknown key", 'did you mean "publish"?'),
        (("[\"/srv/hg/**\", here/*]", "[]"), "repositories: names no repository", ""),
        (("\"/srv/hg/**\"", "\"/\""), "repositories[0]: '/': not a folder", ""),
        (("broadcast: ipc:///run/zmqhooks/broadcast", "broadcast: tcp://0.0.0.0:5702"),
         "broadcast: 'tcp://0.0.0.0:5702': whoever connects over tcp would read every event",
         "name the certificates that may: broadcast-readers: [dashboard.cert]; or use an ipc"),
        (("group:", "broadcast-readers: [x.cert]\ngroup:"),
         "broadcast-readers: is for a tcp broadcast, and there is none", "on ipc the members"),
        (("broadcast: ipc:///run/zmqhooks/broadcast",
          "broadcast: tcp://[::]:5702\nbroadcast-readers: [x.cert]\ninsecure: yes"),
         "insecure: 'yes': contradicts `broadcast-readers`", "take one of the two out"),
        (("group:", "allow: [192.0.2.1/24]\ngroup:"),
         "allow[0]: '192.0.2.1/24': 192.0.2.1/24 has host bits set", ""),
        (("group:", "allow: [anywhere]\ngroup:"), "allow[0]: 'anywhere': not a network such as",
         "write one such as 192.0.2.0/24"),
        (("group:", "excess: cut\ngroup:"), "excess: 'cut': invalid enum value 'cut'",
         "valid are: narrow, refuse"),
        (("group:", "limits: {sesions: 9}\ngroup:"),
         "limits.sesions: 9: unknown key", 'did you mean "sessions"?'),
        (("group:", "limits: {sessions: 0}\ngroup:"), "limits.sessions: 0: expected", ""),
        (("group:", "limits: {patterns: 1001}\ngroup:"), "limits.patterns: 1001: expected", ""),
        (("group:", "limits: {frames: 3}\ngroup:"), "limits.frames: 3: expected", ""),
        (("group:", "limits: {message: 3MiB}\ngroup:"),
         "limits.message: 3145728: a message has at least 65536 and at most 2097152 bytes",
         "write for example 2MiB"),
        (("group:", "limits: {unfinished: 1MiB}\ngroup:"),
         "limits.unfinished: 1048576: less than `message`, 2097152 bytes", "write for example"),
        (("hooks/subscribe", "hooks/publish"),
         "subscribe[1]: 'ipc:///run/zmqhooks/publish': is the address of publish too", ""),
        (("tcp://0.0.0.0:5701", "5701"), "subscribe[0]: 5701: neither ipc", ""),
    ],
)  # fmt: skip
def test_errors_say_what_to_change(load, tmp_path, change, message, hint):
    with pytest.raises(ConfigError) as caught:
        load(RELAY.replace(*change))
    assert str(caught.value).startswith(f"{tmp_path}/f.yml: {message}")
    assert caught.value.hint.startswith(hint)


def test_errors_inside_a_subscriber_yml_name_the_whole_key(load):
    with pytest.raises(ConfigError, match=r"relay\.grop: 'hg': unknown key"):
        load(SUBSCRIBER + "  grop: hg\n")
    with pytest.raises(ConfigError, match=r"relay\.state: required"):
        load(SUBSCRIBER.replace("sqlite:/var/lib/zmqhooks/ci.db", "redis://localhost/0"))


def test_a_subscriber_without_a_relay(load):
    with pytest.raises(ConfigError, match="has no relay of its own"):
        load("name: x\nrelays: [{address: 'ipc:///x'}]\n")
