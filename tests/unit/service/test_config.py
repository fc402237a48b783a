from pathlib import Path
from typing import Literal

import msgspec
import pytest

from hgext_zmqhooks.service import config
from hgext_zmqhooks.service.config import Duration, Size
from hgext_zmqhooks.service.endpoints import Endpoint
from hgext_zmqhooks.service.errors import ConfigError


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    publish: Endpoint
    keep: Duration = Duration(3)
    overlap: Literal["queue", "latest"] = "queue"


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Path
    relay: Inner | None = None
    rules: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    limit: Size = Size(1)


@pytest.fixture
def load(tmp_path):
    def write(text):
        path = tmp_path / "f.yml"
        path.write_text(text)
        return config.load(path, Outer)

    return write


def test_texts_become_typed_values(load, tmp_path):
    loaded = load("key: a/b\nlimit: 64KiB\nrelay: {publish: 'ipc:///run/x', keep: 15m}")
    assert loaded.key == tmp_path / "a/b"
    assert loaded.limit == 65536
    assert loaded.relay is not None
    assert (loaded.relay.publish.path, loaded.relay.keep) == ("/run/x", 900.0)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("kye: a", "kye: 'a': unknown key", 'did you mean "key"?'),
        ("key: a\nrelay: {publsh: 3}", "relay.publsh: 3: unknown key", 'did you mean "publish"?'),
        (
            "key: a\nrules: [{publish: 'ipc:///x', zzz: 1}]",
            "rules[0].zzz: 1: unknown key",
            "valid are: keep, overlap, publish",
        ),
        ("relay: null", "key: required, but missing", "add it; `zmq-subscriber init`"),
        ("key: 7", "key: 7: not a path", ""),
        ("key: a\nrules: x", "rules: 'x': expected a list, got a text", 'write ["x"]'),
        ("key: a\nrules: 7", "rules: 7: expected a list, got a whole number", ""),
        (
            "key: a\nrelay: {publish: here}",
            "relay.publish: 'here': neither ipc:///path nor tcp://host:port",
            "",
        ),
        (
            "key: a\nrelay: {publish: 'ipc:///x', keep: soon}",
            "relay.keep: 'soon': not a duration such as 250ms, 30s, 15m, 24h or 90d",
            "write one such as 250ms",
        ),
        (
            "key: a\nrelay: {publish: 'ipc:///x', overlap: lates}",
            "relay.overlap: 'lates': invalid enum value 'lates'",
            'did you mean "latest"?',
        ),
        ("- a", "['a']: not a mapping of keys to values", "write lines such"),
        ("key: a\nkey: b", "not YAML: key 'key' stands there twice", "keep one"),
        ("key: &a x\nlimit: *a", "not YAML: aliases are not accepted", "write the value out"),
        ("key: [", "not YAML: while parsing", "look at the line"),
        ("a: " + "[" * 5000, "not YAML: nested too deeply", "look at"),
        ("key: a\nkey2: !!python/object:os.system x", "not YAML: could not determine", "look at"),
    ],
)
def test_errors_name_file_key_value_reason_and_hint(load, tmp_path, text, message, hint):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path}/f.yml: {message}")
    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "none.yml", Outer)


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "f.yml"
    path.write_bytes(b"#" * (config.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        config.load(path, Outer)


def test_keys_of_a_part_are_named_from_the_top():
    with pytest.raises(
        ConfigError, match=r"f\.yml: relay\.keep: required|relay\.publish: required"
    ):
        config.convert({}, Inner, Path("f.yml"), within="relay")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7776000), ("1.5h", 5400), ("0", 0), (12, 12), ("3 s", 3), ("2w", 1209600)],
)
def test_durations(text, seconds):
    assert config.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-3s", "3 x", "s", "1e3", None, True, [], "3s4"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        config.duration(text)


@pytest.mark.parametrize(("text", "count"), [("4MiB", 4 << 20), ("1GB", 10**9), ("2kB", 2000)])
def test_sizes(text, count):
    assert config.size(text) == count


@pytest.mark.parametrize("text", ["1.5", "MB", "-1", "3KB", False])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="not a size"):
        config.size(text)
