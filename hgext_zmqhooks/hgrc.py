# ruff: noqa: PTH112,PTH119,PTH120
# Mercurial's paths are bytes, which pathlib has not.
"""The section [zmqhooks] as Mercurial read it: values, their places, and the repository's name.

`ui` is Mercurial's; what the values mean is said in settings.py, which needs no Mercurial.
"""

import os
from typing import Any

from . import compat

_PATHS = ("key", "relay-certificate")
_TEXTS = ("key-group", "relay", "live-timeout", "keep")


def repository_name(ui: Any, repo: Any) -> str | None:
    """The name on the wire, or None for a repository that is left alone.

    It is that of the store: a share speaks for its source. `repo` names it whatever its place.
    """
    if not ui.configbool(b"zmqhooks", b"enabled"):
        return None
    named = ui.config(b"zmqhooks", b"repo")
    if named:
        return compat.stored(named).strip("/")
    root = ui.configpath(b"zmqhooks", b"root")
    if not root:
        return None
    top = os.path.realpath(root)
    place = os.path.realpath(os.path.dirname(repo.sharedpath))
    if place == top:
        return compat.text(os.path.basename(top))
    if not place.startswith(top.rstrip(b"/") + b"/"):
        return None
    return compat.text(os.path.relpath(place, top))


def texts(ui: Any) -> dict[str, str | None]:
    """The settings as text, by name."""
    found = {name: ui.configpath(b"zmqhooks", name.encode()) for name in _PATHS}
    values = {name: os.fsdecode(value) if value else None for name, value in found.items()}
    for name in _TEXTS:
        value = ui.config(b"zmqhooks", name.encode())
        values[name] = os.fsdecode(value) if value is not None else None
    return values


def unknown(ui: Any) -> list[str]:
    """Warnings about names in [zmqhooks] that mean nothing."""
    names = [compat.text(name) for name, _value in ui.configitems(b"zmqhooks")]
    found: list[str] = compat.eager("settings").unknown(names)
    return found


def advice(ui: Any, problem: Any) -> str:
    """What to do about a setting, and where it stands."""
    place = source(ui, problem.key)
    return f"{problem.hint}; it stands in {place}" if place else problem.hint


def source(ui: Any, name: str) -> str:
    """File and line of a setting, empty if it stands in none."""
    place = os.fsdecode(ui.configsource(b"zmqhooks", name.encode()))
    return place if place.startswith("/") else ""


def why_left_alone(ui: Any, repo: Any) -> str:
    """Why a repository has no name, and so publishes nothing, in words."""
    if not ui.configbool(b"zmqhooks", b"enabled"):
        return f"zmqhooks.enabled is off{_where(ui, 'enabled')}"
    root = ui.configpath(b"zmqhooks", b"root")
    if not root:
        return "neither zmqhooks.root nor zmqhooks.repo is set: set root = FOLDER in the hgrc"
    shown = f"zmqhooks.root = {os.fsdecode(root)}{_where(ui, 'root')}"
    if not os.path.isdir(root):
        return f"{shown} is no folder, and zmqhooks.repo is not set"
    place = os.fsdecode(os.path.realpath(os.path.dirname(repo.sharedpath)))
    return f"{place} is outside {shown}, and zmqhooks.repo is not set"


def _where(ui: Any, name: str) -> str:
    place = source(ui, name)
    return f" ({place})" if place else ""
