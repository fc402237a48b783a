"""What a relay answers when hg asks how far the subscribers of a journal are.

Everything is in memory: the positions that `state` keeps, the open sessions, the last look at the
heads. Nothing is scanned, read or written for a question.
"""

from dataclasses import dataclass

from ..wire import question
from ..wire.question import Question, Row
from .sessions import Sessions
from .shelf import Shelf
from .state import State


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers from these three."""

    shelf: Shelf
    state: State
    sessions: Sessions

    def __call__(self, asked: Question) -> bytes:
        """Who ever followed the journal, and who follows it now and has said nothing of it yet."""
        info = self.shelf.info(asked.journal)
        following = self.sessions.following(info)
        reached = self.state.reached(asked.journal)
        if info is not None:
            reached = dict.fromkeys(following, info.first - 1) | reached
        rows = [
            Row(name, sequence, int(self.state.heard(name)), name in following)
            for name, sequence in reached.items()
        ]
        head = None if info is None else info.sequence
        return question.write_answer(asked.nonce, head, len(self.sessions), rows)
