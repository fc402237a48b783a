"""The clients: clone, commit and push, over ssh-style stdio and over http."""

from collections import Counter
from dataclasses import dataclass, field

from .place import Place

Expected = Counter[tuple[str, str]]
"""How often each (rule, topic) must have run its action."""


@dataclass
class Pushed:
    """What the clients did, for the report to compare with."""

    nodes: dict[str, set[str]] = field(default_factory=dict)
    """By topic, the changesets that its events must hold."""
    expected: Expected = field(default_factory=Counter)


def push_all(place: Place, web: str) -> Pushed:
    """Three pushes: two branches over ssh, a branch with a bookmark over http."""
    pushed = Pushed()
    app = _clone(place, f"ssh://localhost/{place.repository('team/app')}", "app")
    _commit(app, "main.c", "Begin")
    _commit(app, "main.c", "Say hello")
    _push(app, pushed, "hg:team/app:default:", ["build"])
    app.hg("branch", "--quiet", "release-1")
    _commit(app, "NEWS", "Prepare release 1")
    _push(app, pushed, "hg:team/app:release-1:", ["release"], "--new-branch")
    site = _clone(place, web, "site")
    for page in ("index", "about", "contact"):
        _commit(site, f"{page}.html", f"Write page {page}")
    site.hg("bookmark", "live")
    _push(site, pushed, "hg:team/site:default:", ["build", "mark"], "--bookmark", "live")
    return pushed


@dataclass
class _Client:
    place: Place
    name: str
    url: str

    def hg(self, *arguments: str) -> str:
        return self.place.run("hg", *arguments, cwd=self.place.folder / "work" / self.name)


def _clone(place: Place, url: str, name: str) -> _Client:
    place.run("hg", "clone", "--quiet", url, str(place.folder / "work" / name))
    return _Client(place, name, url)


def _commit(client: _Client, file: str, message: str) -> None:
    path = client.place.folder / "work" / client.name / file
    with path.open("a") as stream:
        stream.write(message + "\n")
    client.hg("commit", "--quiet", "--addremove", "--message", message)


def _push(client: _Client, pushed: Pushed, topic: str, rules: list[str], *options: str) -> None:
    nodes = set(client.hg("log", "--rev", "draft()", "--template", "{node}\n").split())
    print(f"hg push of {len(nodes)} changesets to {client.url}")
    client.hg("push", "--quiet", *options)
    pushed.nodes[topic] = nodes
    pushed.expected.update((rule, topic) for rule in rules)
