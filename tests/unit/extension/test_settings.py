"""The section [zmqhooks]: what is accepted, and what an error says."""

import pytest

from hgext_zmqhooks import settings
from hgext_zmqhooks.settings import Keep, SettingError, parse

GOOD: dict[str, str | None] = {"key": "/etc/zmqhooks/publisher.key"}


def test_defaults() -> None:
    found = parse(GOOD)
    assert (found.relay, found.live_timeout, found.keep) == ("", 0.25, Keep(90 * 86_400))
    assert (found.key_group, found.relay_certificate) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("key", None, "no signing key is set"),
        ("key", "", "no signing key is set"),
        ("relay", "/run/x", "not an address"),
        ("relay", "ipc://x", "not absolute"),
        ("relay", "ipc:///" + "x" * 107, "longer than the 107 bytes"),
        ("relay", "tcp://host", "not an address"),
        ("relay", "tcp://host:0", "not an address"),
        ("relay", "tcp://host:65536", "not an address"),
        ("relay", "tcp://*:5701", "not an address"),
        ("relay", "inproc://x", "not an address"),
        ("relay", "tcp://host:5701", "needs relay-certificate"),
        ("live-timeout", "-1", "not a number"),
        ("live-timeout", "1.5", "not a number"),
        ("keep", "90", "neither an age nor a size"),
        ("keep", "d", "neither an age nor a size"),
        ("keep", "0d", "neither an age nor a size"),
        ("keep", "-1d", "neither an age nor a size"),
        ("keep", "5T", "neither an age nor a size"),
    ],
)
def test_refused(name: str, value: str | None, reason: str) -> None:
    """The error names the key, the value where there is one, the reason, and has a hint."""
    with pytest.raises(SettingError, match=reason) as caught:
        parse({**GOOD, name: value})
    assert str(caught.value).startswith(f"zmqhooks.{name}: ")
    assert not value or f"'{value}'" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "relay",
    ["", "ipc:///run/x", "tcp://h:1", "tcp://127.0.0.1:5701", "tcp://[::1]:5701", "tcp://a-b.c:1"],
)
def test_relays(relay: str) -> None:
    assert parse({**GOOD, "relay": relay, "relay-certificate": "/c"}).relay == relay


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("2 w", 1_209_600)])
def test_ages(text: str, seconds: int) -> None:
    assert parse({**GOOD, "keep": text}).keep == Keep(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("10K", 10_240), ("500M", 500 << 20), ("2 G", 2 << 30), ("all", None)]
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse({**GOOD, "keep": text}).keep == Keep(size=size)


def test_unknown_names() -> None:
    found = settings.unknown(["key", "Live_Timeout", "zzz", "key:sub"])
    assert found[0].endswith("did you mean 'live-timeout'?")
    assert found[1].startswith("unknown setting zmqhooks.zzz: it is none of key, ")
    assert len(found) == 2
