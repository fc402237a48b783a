"""The fold: what a reader of all events of a repository must believe exists.

A view of a repository is closed under ancestors, and so is what was announced. So a fold need not
know every changeset: a baseline names the heads of a branch and stands for all their ancestors.
`live` holds the nodes that events named and did not take back; with their ancestors they are the
served changesets.
"""

from collections.abc import Iterable

from .events import Event


class Fold:
    """Takes events in journal order.

    `live`: node -> branch whose event named it. `heads`: branch -> its heads, as the events say.
    """

    def __init__(self) -> None:
        self.live: dict[str, str] = {}
        self.heads: dict[str, set[str]] = {}

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Fold":
        """The fold of a whole journal."""
        fold = cls()
        for event in events:
            fold.add(event)
        return fold

    def begin(self, branch: str, live: Iterable[str], heads: Iterable[str]) -> None:
        """What events of a branch told that are not kept any more."""
        self._stand(branch, live)
        self.heads.setdefault(branch, set()).update(heads)

    def add(self, event: Event) -> None:
        """What one event says: first what came, then what went, then how the branch stands.

        A ping says nothing.
        """
        if event.origin == "ping":
            return
        for changeset in event.changesets:
            self.live[changeset.node] = event.branch
        for node in _gone(event):
            self.live.pop(node, None)
        heads = self.heads.setdefault(event.branch, set())
        if event.summary:
            if event.transaction.part == 1:
                heads.clear()
            heads.update(event.summary.heads)
            self._stand(event.branch, event.summary.heads)
        if event.heads:
            heads.difference_update(event.heads.removed, event.removed)
            heads.update(event.heads.added)
            self._stand(event.branch, event.heads.added)
            if event.heads.tip:
                self._stand(event.branch, [event.heads.tip])

    def _stand(self, branch: str, nodes: Iterable[str]) -> None:
        for node in nodes:
            self.live.setdefault(node, branch)


def _gone(event: Event) -> Iterable[str]:
    """Nodes that left: removed, replaced, or turned secret."""
    yield from event.removed
    yield from (item.node for item in event.obsoleted)
    yield from (item.node for item in event.phases if item.new == "secret")
