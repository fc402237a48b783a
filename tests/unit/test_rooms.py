"""The rooms of the project, and which way imports point between them.

Data flows from left to right, imports from right to left: what is pure stays pure, what a push
loads stays small, and a store or an action can be replaced without the engine noticing. The rules
read the source (imports inside functions too), so that a lazy import is no way around them.
Each rule is shown to bite by a small counter-example beside it.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MAX_LINES = 400

# Which rooms of ours a room may import from, besides itself. The longest name that fits counts.
HG = "hgext_zmqhooks"
MAY_IMPORT: dict[str, set[str]] = {
    f"{HG}.wire": set(),
    f"{HG}.journal": {f"{HG}.wire"},
    f"{HG}.service": {f"{HG}.wire"},
    f"{HG}.keys": {f"{HG}.wire", f"{HG}.service.errors", f"{HG}.service.access"},
    f"{HG}.relay": {f"{HG}.wire", f"{HG}.journal", f"{HG}.service", f"{HG}.keys"},
    # The files that hg loads. Not `relay`, and of `service` only what needs no msgspec and no YAML.
    HG: {
        f"{HG}.wire",
        f"{HG}.journal",
        f"{HG}.keys",
        f"{HG}.service.errors",
        f"{HG}.service.access",
        f"{HG}.service.words",
    },
    "subscriber.store": {f"{HG}.wire", f"{HG}.service"},
    "subscriber.actions": {f"{HG}.wire", f"{HG}.service"},
    # The engine knows the contracts of a store and of an action, and none of either.
    "subscriber.engine": {
        f"{HG}.wire",
        f"{HG}.service",
        "subscriber.store.base",
        "subscriber.store.values",
        "subscriber.actions.base",
    },
    "subscriber.intake": {
        f"{HG}.wire",
        f"{HG}.service",
        "subscriber.engine.rules",
        "subscriber.store.base",
        "subscriber.store.values",
    },
    # settings, cli and what they need of their own
    "subscriber": {f"{HG}.wire", f"{HG}.service", "subscriber"},
    # Our keys from their files, and what the relay inside serves on this host.
    "subscriber.credentials": {
        f"{HG}.wire",
        f"{HG}.service",
        f"{HG}.keys",
        f"{HG}.relay.settings",
        f"{HG}.relay.reload",
        "subscriber",
    },
    # Takes up new keys in a daemon that runs.
    "subscriber.reload": {
        f"{HG}.wire",
        f"{HG}.service",
        f"{HG}.keys",
        f"{HG}.relay.reload",
        "subscriber",
    },
    "subscriber.inside": {f"{HG}.wire", f"{HG}.service", f"{HG}.relay", "subscriber"},
    # The composition root alone puts the parts together, with the relay inside and keys from files.
    "subscriber.daemon": {
        f"{HG}.wire",
        f"{HG}.service",
        f"{HG}.relay",
        f"{HG}.keys",
        "subscriber",
    },
}

# Which files may import what is not ours. A name that is neither here nor in the standard library
# is refused, and so is a part of the standard library that has a task of its own.
FOREIGN: dict[str, set[str]] = {
    "mercurial": {f"{HG}.{name}" for name in ("extension", "changes", "commands", "compat")},
    "hgdemandimport": {f"{HG}.compat", f"{HG}.extension"},
    # Webhooks are signed as their receivers expect it, which is no matter of our wire.
    "nacl": {f"{HG}.wire", "subscriber.actions.signing"},
    # The composition root makes the one context that intake and relay share.
    "zmq": {
        f"{HG}.service.connections",
        f"{HG}.service.ipc",
        f"{HG}.service.sockets",
        f"{HG}.service.zap",
        f"{HG}.publish",
        f"{HG}.relay",
        "subscriber.intake.client",
        "subscriber.intake.connect",
        "subscriber.daemon",
    },
    "sqlite3": {f"{HG}.relay.state", "subscriber.store.sqlite", "subscriber.store.connection"},
    "httpx": {"subscriber.actions.exchange", "subscriber.actions.webhook"},
    "httpcore": {"subscriber.actions.exchange"},
    "redis": {
        f"{HG}.service.redis_client",
        "subscriber.store.redis_session",
        "subscriber.store.redis_server",
        "subscriber.actions.redis",
    },
    "yaml": {f"{HG}.service.config"},
    # The relay looks at the envelopes of many thousand events a second.
    "msgspec": {
        f"{HG}.service.config",
        f"{HG}.relay.settings",
        f"{HG}.relay.limits",
        f"{HG}.relay.reading",
        f"{HG}.service.parsing",
        "subscriber.rule_settings",
        "subscriber.actions.settings",
        "subscriber.store.redis_forms",
        "subscriber.actions.webhook_settings",
    },
}
GUARDED = {"sqlite3"}

# What the hg process loads must not need what only the daemons have.
LOADED_BY_HG = {f"{HG}.{name}" for name in ("extension", "changes", "commands", "compat")}
ONLY_IN_DAEMONS = {"httpx", "msgspec", "redis", "yaml", "sqlite3"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name; `dots` is the level of a relative import."""

    name: str
    line: int
    dots: int


Code = Mapping[str, str]
Graph = Mapping[str, list[Import]]
Rule = Callable[[Graph], Iterator[str]]


def project() -> dict[str, str]:
    """Source by module name; a package's own module has the name of the package."""
    found = {}
    for package in (HG, "subscriber"):
        for path in sorted((TOP / package).rglob("*.py")):
            name = ".".join(path.relative_to(TOP).with_suffix("").parts)
            found[name] = path.read_text()
    return found


def graph(code: Code) -> dict[str, list[Import]]:
    """Every import of every module; `pkg.__init__` goes by the name of `pkg`."""
    names = {name.removesuffix(".__init__") for name in code}
    return {
        name.removesuffix(".__init__"): list(_imports(name, source, names))
        for name, source in code.items()
    }


def _imports(module: str, source: str, names: set[str]) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, 0)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield Import(inner if inner in names else origin, node.lineno, node.level)


def ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in (HG, "subscriber")


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if within(module, room)), key=len)


def rooms(modules: Graph) -> Iterator[str]:
    """A room imports from itself and from the rooms named for it."""
    for module, imports in modules.items():
        room = room_of(module)
        for one in imports:
            if not ours(one.name) or room_of(one.name) == room:
                continue
            if not any(within(one.name, allowed) for allowed in MAY_IMPORT[room]):
                yield f"{module}:{one.line}: {room} may not import {one.name}"


def foreign(modules: Graph) -> Iterator[str]:
    """What is not ours is imported only where it is the file's task."""
    for module, imports in modules.items():
        for one in imports:
            top = one.name.split(".", maxsplit=1)[0]
            if ours(top) or (top in sys.stdlib_module_names and top not in GUARDED):
                continue
            if not any(within(module, allowed) for allowed in FOREIGN.get(top, ())):
                yield f"{module}:{one.line}: imports {one.name}"


def relative(modules: Graph) -> Iterator[str]:
    """Inside hgext_zmqhooks imports are relative: hg may load it under another name."""
    for module, imports in modules.items():
        for one in imports:
            if within(module, HG) and within(one.name, HG) and not one.dots:
                yield f"{module}:{one.line}: absolute import of {one.name}"


def small_for_hg(modules: Graph) -> Iterator[str]:
    """What hg loads reaches nothing that only the daemons have, by any way."""
    reached, waiting = set(), [name for name in LOADED_BY_HG if name in modules]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        for one in modules[module]:
            if one.name.split(".", maxsplit=1)[0] in ONLY_IN_DAEMONS:
                yield f"{module}:{one.line}: hg would load {one.name}"
            if one.name in modules and one.name not in reached:
                waiting.append(one.name)


def no_circles(modules: Graph) -> Iterator[str]:
    """No module is needed to import itself."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> Iterator[str]:
        if module in way:
            yield " -> ".join((*way[way.index(module) :], module))
        elif module not in done:
            for one in modules.get(module, ()):
                if one.name in modules and one.name != module:
                    yield from visit(one.name, (*way, module))
            done.add(module)

    for module in modules:
        yield from visit(module, ())


def quiet_door(modules: Graph) -> Iterator[str]:
    """`hgext_zmqhooks.wire` must not load Mercurial, so the package imports nothing of ours."""
    yield from (f"{HG}: imports {one.name}" for one in modules.get(HG, ()) if ours(one.name))


COUNTER_EXAMPLES: list[tuple[Rule, dict[str, str]]] = [
    (rooms, {f"{HG}.wire.events": "from ..journal import format", f"{HG}.journal.format": ""}),
    (rooms, {f"{HG}.journal.append": "from ..service.config import load"}),
    (rooms, {f"{HG}.publish": "from .relay.server import Relay"}),
    (rooms, {f"{HG}.publish": "def late():\n    from .service import config"}),
    (rooms, {f"{HG}.relay.server": "from subscriber.settings import Settings"}),
    (rooms, {"subscriber.intake.client": "from hgext_zmqhooks.journal.follow import Follower"}),
    (rooms, {"subscriber.cli": "from hgext_zmqhooks.relay.server import Relay"}),
    (rooms, {"subscriber.engine.dispatch": "from subscriber.store.sqlite import SqliteStore"}),
    (rooms, {"subscriber.engine.dispatch": "import subscriber.actions.exec"}),
    (rooms, {"subscriber.store.sqlite": "from subscriber.engine import rules"}),
    (rooms, {"subscriber.actions.make": "from subscriber.rule_settings import Rule"}),
    (rooms, {"subscriber.actions.redis": "from subscriber.store.base import Store"}),
    (foreign, {f"{HG}.wire.session": "import zmq"}),
    (foreign, {f"{HG}.wire.session": "import msgspec"}),
    (foreign, {f"{HG}.journal.append": "from mercurial import util"}),
    (foreign, {"subscriber.engine.schedule": "import sqlite3"}),
    (foreign, {"subscriber.cli": "from zmq.utils import z85"}),
    (foreign, {"subscriber.cli": "import requests"}),
    (relative, {f"{HG}.publish": "from hgext_zmqhooks.wire import events"}),
    (
        small_for_hg,
        {
            f"{HG}.extension": "from .keys import files",
            f"{HG}.keys.files": "from ..service.config import load",
            f"{HG}.service.config": "import yaml",
        },
    ),
    (
        no_circles,
        {"subscriber.a": "from . import b", "subscriber.b": "from .c import x"}
        | {"subscriber.c": "def later():\n    import subscriber.a"},
    ),
    (quiet_door, {f"{HG}.__init__": "from .extension import uisetup"}),
]
RULES = list(dict.fromkeys(rule for rule, _ in COUNTER_EXAMPLES))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(graph(project()))) == []


@pytest.mark.parametrize(("rule", "code"), COUNTER_EXAMPLES)
def test_the_rule_bites(rule: Rule, code: dict[str, str]) -> None:
    assert list(rule(graph(code))) != []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_lets_pass_what_is_meant(rule: Rule) -> None:
    meant = {
        f"{HG}.__init__": "import sys",
        f"{HG}.wire.events": "import json\nfrom nacl import bindings\nfrom . import topics",
        f"{HG}.wire.topics": "from .errors import Refused",
        f"{HG}.wire.errors": "",
        f"{HG}.extension": "import mercurial.error\nfrom .journal import append",
        f"{HG}.journal.append": "from ..wire import events",
        "subscriber.daemon": "from hgext_zmqhooks.relay.server import Relay\nimport subscriber.cli",
        "subscriber.engine.dispatch": "from subscriber.store.base import Store",
        "subscriber.store.sqlite": "import sqlite3\nfrom .base import Store",
    }
    assert list(rule(graph(meant))) == []


def test_every_file_is_looked_at() -> None:
    code = project()

    assert {f"{HG}.wire.events", f"{HG}.keys.files", "subscriber.store.base"} <= code.keys()
    assert len(code) > 30
    assert {room_of(name) for name in graph(code)} >= {f"{HG}.wire", f"{HG}.relay", "subscriber"}


def test_every_module_is_short() -> None:
    lines = {name: source.count("\n") for name, source in project().items()}

    assert {name: count for name, count in lines.items() if count >= MAX_LINES} == {}
