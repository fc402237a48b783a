"""A relay on another host: commits here, runs there, and whether all of them came."""

from dataclasses import dataclass

from fault import soak_ledger
from support.site import Repository, Site, rule
from support.waiting import wait_for

BRANCHES = "default,stable,feature"
LARGE = 400
"""Changesets of a transaction whose event takes many pieces on the way."""


def configure(site: Site, served: str, reached: str) -> None:
    """A zmq-relay that serves one address, and a subscriber that reaches it by another."""
    site.configure_relay()
    path = site.folder / "relay.yml"
    path.write_text(path.read_text().replace(site.endpoint("subscribe"), served))
    document = {
        "name": "ci",
        "key": "keys/subscriber.key",
        "trust": ["keys/root.pub"],
        "relays": [{"address": reached, "certificate": "keys/relay.cert"}],
        "store": "sqlite:ci.db",
        "start": "earliest",
        "rules": [rule("build")],
    }
    site.write("ci.yml", document)


@dataclass
class Far:
    """A site whose relay and subscriber have a link between them."""

    site: Site
    app: Repository

    def commit(self) -> None:
        """Small transactions and a large one."""
        self.app.build(6, BRANCHES, "--single")
        self.app.build(LARGE, "default")
        self.app.build(6, BRANCHES, "--single")

    def complete(self) -> None:
        """Every changeset came, once, in the order of its branch."""
        lanes: dict[tuple[str, str], list[str]] = {}
        for branch in BRANCHES.split(","):
            lanes[self.app.name, branch] = self.app.branch_nodes(branch)
        count = sum(map(len, lanes.values()))

        def seen() -> dict[tuple[str, str], list[str]]:
            found: dict[tuple[str, str], list[str]] = {}
            for run in self.site.runs():
                found.setdefault((run.repo, run.branch), []).extend(run.nodes)
            return found

        wait_for(lambda: sum(map(len, seen().values())) >= count, "all changesets", 90)
        verdict = soak_ledger.Verdict()
        verdict.compare("runs", lanes, seen())
        assert not verdict.problems
        (row,) = [row for row in self.site.status() if row["kind"] == "journal"]
        assert (row["behind"], row["stopped"]) == (0, None)
