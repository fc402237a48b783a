"""A relay that serves public and secret repositories, and somebody who may read one of them.

The spy may read `hg:team/a:*:`. That is one repository, of which a branch with a "/" in its name is
still closed to him. Every event that he may not read carries `MARK`:

    team/a         its own journal, with a closed branch; before it a journal of another name
    team/ab, team/a/sub, other/vault        closed
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import relaykit

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.wire import events, messages
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Beat, Events, Welcome
from hgext_zmqhooks.wire.topics import Pattern

MINE = "team/a"
READ = "hg:team/a:*:"
OPEN, CLOSED = "default", "feature/closed"
FORMER = "former/name"
SECRET = ("team/ab", "team/a/sub", "other/vault")
MARK = "zqmarkzq"


class Secrets:
    """The repositories below `folder`; `journals`: the id of each one's present journal."""

    def __init__(self, folder: Path, publisher: SecretKey) -> None:
        self.repos = {name: relaykit.Repo(folder, name, publisher) for name in (MINE, *SECRET)}
        mine = self.repos[MINE]
        present, mine.writer = mine.writer, Writer(Directory(mine.store), FORMER)
        self.commit(MINE, CLOSED)
        self.former = mine.head().journal
        mine.writer = present
        for name in self.repos:
            for branch in (OPEN, CLOSED, OPEN):
                self.commit(name, branch)
        self.journals = {name: repo.head().journal for name, repo in self.repos.items()}

    def commit(self, name: str, branch: str) -> None:
        """One more event, with the mark if the spy may not read it."""
        is_open = name == MINE and branch == OPEN
        self.repos[name].commit(relaykit.draft(branch, name="commit" if is_open else MARK))

    def needles(self) -> list[bytes]:
        """What the spy must not see anywhere: marks, names, ids of journals."""
        ids = [self.former, *(self.journals[name] for name in SECRET)]
        return [text.encode() for text in (MARK, CLOSED, FORMER, *SECRET, *ids)]

    def check(self, frames: Sequence[bytes], said: Iterable[bytes] = ()) -> None:
        """AssertionError unless the spy may have these frames, who has said `said` himself."""
        message = messages.decode(frames)
        mine = self.journals[MINE]
        if isinstance(message, Welcome | Beat):
            infos = message.journals if isinstance(message, Welcome) else message.heads
            assert all((info.repo, info.journal) == (MINE, mine) for info in infos), infos
        elif isinstance(message, Events):
            assert message.journal == mine
            topics = [events.decode(record.event).topic for record in message.records]
            assert all(Pattern.parse(READ).matches(topic) for topic in topics), topics
        own = b"\n".join(said)
        sent = b"\n".join(frames)
        for needle in self.needles():
            assert needle not in sent or needle in own, (needle, message)
