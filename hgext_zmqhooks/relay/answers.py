"""What a relay answers when hg asks how far the subscribers of a journal are.

Everything is in memory: the positions that `state` keeps, the open sessions, the last look at the
heads. Nothing is scanned, read or written for a question.
"""

from dataclasses import dataclass

from ..wire import question
from ..wire.certificates import Certificate
from ..wire.errors import Refused
from ..wire.question import Question, Row
from .reading import may_read
from .sessions import Sessions
from .shelf import Shelf
from .state import State


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers from these three."""

    shelf: Shelf
    state: State
    sessions: Sessions

    def __call__(self, asked: Question, certificate: Certificate | None) -> bytes:
        """Who ever followed the journal, and who follows it now and has said nothing of it yet.

        `certificate`: of who asks, if it needs one. Refused "not-allowed" for a repository that
        it may not publish.
        """
        info = self.shelf.info(asked.journal)
        if certificate and info and not may_read(certificate.publish, info.repo):
            raise Refused("not-allowed", f"{certificate.sub!r} may not publish {info.repo!r}")
        following = self.sessions.following(info)
        # Of a journal that went away nobody knows here whether who asks might publish it.
        reached = {} if certificate and not info else self.state.reached(asked.journal)
        if info is not None:
            reached = dict.fromkeys(following, info.first - 1) | reached
        rows = [
            Row(name, sequence, int(self.state.heard(name)), name in following)
            for name, sequence in reached.items()
        ]
        head = None if info is None else info.sequence
        key = certificate.curve if certificate else None
        return question.write_answer(asked.nonce, head, len(self.sessions), rows, key)
