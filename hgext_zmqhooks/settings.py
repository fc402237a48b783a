"""The section [zmqhooks] as one typed value, checked before anything is written.

Paths come in as Mercurial resolved them (`~`, relative to the file that names them).
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NAMES = (
    "key",
    "key-group",
    "relay",
    "relay-certificate",
    "root",
    "repo",
    "live-timeout",
    "keep",
    "enabled",
)

_LONGEST_IPC = 107
"""Bytes of the longest path of a unix socket (sun_path of Linux less its NUL)."""
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class SettingError(Exception):
    """A setting cannot be used: `zmqhooks.KEY: 'VALUE': reason`, and a hint."""

    def __init__(self, key: str, value: str | None, reason: str, hint: str) -> None:
        shown = f"zmqhooks.{key}: " + (f"'{value}': " if value else "")
        super().__init__(shown + reason)
        self.key = key
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Keep:
    """What retention leaves: events of so many seconds, or so many bytes; neither: everything."""

    seconds: float | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`relay` is "" for journal only; `live_timeout` is seconds."""

    key: str
    key_group: str | None
    relay: str
    relay_certificate: str | None
    live_timeout: float
    keep: Keep


@dataclass(frozen=True, slots=True)
class Curve:
    """Keys for a tcp relay, in Z85: our own pair, and the relay's public one.

    `certificate`: of our pair, for questions.
    """

    public: str
    secret: str
    server: str
    certificate: bytes = b""


def parse(values: Mapping[str, str | None]) -> Settings:
    """The settings in these texts, under the names of NAMES. Raises SettingError.

    >>> parse({"key": "/k", "relay": "ipc:///run/r", "live-timeout": "250", "keep": "90d"}).keep
    Keep(seconds=7776000.0, size=None)
    """
    return Settings(
        key=_key(values),
        key_group=values.get("key-group") or None,
        relay=_relay(values),
        relay_certificate=values.get("relay-certificate") or None,
        live_timeout=_milliseconds(values),
        keep=check_keep(values.get("keep") or "90d"),
    )


def problems(values: Mapping[str, str | None]) -> list[SettingError]:
    """All that cannot be used in these texts; `parse` raises the first."""
    found: list[SettingError] = []
    for check in (
        _key,
        _relay,
        _milliseconds,
        lambda these: check_keep(these.get("keep") or "all"),
    ):
        try:
            check(values)
        except SettingError as problem:
            found.append(problem)
    return found


def _key(values: Mapping[str, str | None]) -> str:
    key = values.get("key")
    if not key:
        hint = "make keys with `zmq-keys quickstart DIR` and set key = DIR/publisher.key"
        raise SettingError("key", None, "no signing key is set", hint)
    return key


def _relay(values: Mapping[str, str | None]) -> str:
    relay = check_relay(values.get("relay") or "")
    if relay.startswith("tcp:") and not values.get("relay-certificate"):
        hint = "set relay-certificate to the relay's N.cert, or use an ipc address"
        raise SettingError("relay", relay, "a tcp relay needs relay-certificate", hint)
    return relay


def check_relay(text: str) -> str:
    """The address, if hg can connect to it."""
    hint = "write ipc:///ABSOLUTE/PATH or tcp://HOST:PORT; empty: journal only"
    if not text:
        return text
    if text.startswith("ipc://"):
        path = text.removeprefix("ipc://")
        if not path.startswith("/"):
            raise SettingError("relay", text, "the path is not absolute", hint)
        if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_IPC:
            reason = f"the path is longer than the {_LONGEST_IPC} bytes of a unix socket"
            raise SettingError("relay", text, reason, "use a shorter path, such as one in /run")
        return text
    match = _TCP.fullmatch(text)
    if not match or not 0 < int(match[2]) < 65536:
        raise SettingError("relay", text, "not an address that hg can connect to", hint)
    return text


def _milliseconds(values: Mapping[str, str | None]) -> float:
    text = values.get("live-timeout") or "250"
    if not re.fullmatch(r"\d{1,5}", text.strip()):
        hint = "write whole milliseconds such as 250; 0: no live copy"
        raise SettingError("live-timeout", text, "not a number from 0 to 99999", hint)
    return int(text) / 1000


def check_keep(text: str) -> Keep:
    """An age (s, m, h, d, w), a size (K, M, G: powers of 1024), or `all`.

    >>> check_keep("500M"), check_keep("all")
    (Keep(seconds=None, size=524288000), Keep(seconds=None, size=None))
    """
    if text.strip() == "all":
        return Keep()
    match = re.fullmatch(r"(\d{1,6})\s*([smhdwKMG])", text.strip())
    if not match or not int(match[1]):
        hint = "write an age such as 90d, a size such as 500M, or all"
        raise SettingError("keep", text, "neither an age nor a size", hint)
    if match[2] in _SIZES:
        return Keep(size=int(match[1]) * _SIZES[match[2]])
    return Keep(seconds=float(int(match[1]) * _UNITS[match[2]]))


def unknown(names: Iterable[str]) -> list[str]:
    """One warning per name that is no setting, with the nearest one that is.

    >>> unknown(["kye", "key"])
    ["unknown setting zmqhooks.kye: did you mean 'key'?"]
    """
    return [_unknown(name) for name in names if name not in NAMES and ":" not in name]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower().replace("_", "-"), NAMES, 1)
    advice = f"did you mean '{near[0]}'?" if near else f"it is none of {', '.join(NAMES)}"
    return f"unknown setting zmqhooks.{name}: {advice}"
