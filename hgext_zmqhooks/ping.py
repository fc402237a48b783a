"""`hg events --ping`: an event of nothing, and how long each part of its way takes.

    journalled   in a transaction of its own, as every event
    live copy    confirmed by the relay, as after every push
    NAME         when the relay says that this subscriber has acknowledged it

The relay is asked again and again (`wire/question.py`), as long as somebody who is connected has
not acknowledged the event, and for PING_SECONDS at most. Times are those of this process.
"""

import time
from typing import Any

from . import changes, compat, delivery, publish
from .recorder import Asked, Opened
from .wire.question import Answer, Row

PING_SECONDS = 10.0
"""How long subscribers that are connected are waited for."""
ANSWER_SECONDS = 1.0
"""How long one answer of the relay is waited for before it is asked again."""
LOOK_SECONDS = 0.02
"""Between an answer and the next question."""


def run(ui: Any, repo: Any, link: Any, given: bytes, opts: Any) -> int:
    """Make and print it; 1 if the relay or somebody who is connected does not answer.

    `link`: `extension.Attached` of the repository; `given`: the branch, as it was typed.
    """
    branch = _branch(repo, given)
    start = time.monotonic()
    with repo.lock():
        opened = link.tell(repo, b"ping", Asked(lambda stamp: [stamp.draft(branch, origin="ping")]))
        journalled = time.monotonic()
    watch = Watch(opened, journalled)
    if opened.config.relay:
        watch.look()
    with ui.formatter(b"events", opts) as formatter:
        _print(formatter, branch, watch, journalled - start, link.copies)
    return 1 if watch.problem else 0


def _branch(repo: Any, given: bytes) -> str:
    """The name as the changelog has it, of a branch that others can see, or of default."""
    branches = compat.branches(repo.filtered(b"served"))
    found = changes.branch_name(changes.View(repo), given, branches)
    name = compat.stored(given)
    if found is None and name != "default":
        hint = "`hg branches --closed` lists them; of secret changesets nothing is told"
        raise compat.abort(f"no branch {name} that is published", hint)
    return found or name


class Watch:
    """Who has acknowledged the last event of a transaction, and when.

    `rows`: the subscribers that the relay knows; `needed`: who was connected meanwhile; `acked`:
    by name, seconds since the event was journalled; `ending`: of the last question, None where no
    relay is set.
    """

    def __init__(self, opened: Opened, journalled: float) -> None:
        assert opened.appended is not None
        self.head = opened.appended.head
        self.rows: dict[str, Row] = {}
        self.needed: set[str] = set()
        self.acked: dict[str, float] = {}
        self.answer: Answer | None = None
        self.ending: publish.Ending | None = None
        self._config, self._curve = opened.config, opened.curve
        self._start = journalled

    def look(self) -> None:
        """Ask until nobody is missing, nobody listens, or the time is over."""
        asker = publish.Publisher()
        end = time.monotonic() + PING_SECONDS
        while (left := end - time.monotonic()) > 0:
            self.ending, answer = asker.ask(
                self._config.relay, self.head.journal, min(left, ANSWER_SECONDS), self._curve
            )
            if answer is not None:
                self._take(answer)
            if self.ending is publish.Ending.NOBODY or (answer and not self.waits):
                return
            time.sleep(min(LOOK_SECONDS, left))

    def _take(self, answer: Answer) -> None:
        now = time.monotonic() - self._start
        self.answer = answer
        for row in answer.rows:
            self.rows[row.name] = row
            if row.connected:
                self.needed.add(row.name)
            if row.sequence >= self.head.sequence:
                self.acked.setdefault(row.name, now)

    @property
    def unknown(self) -> bool:
        """Somebody is connected to a relay that does not know the journal, of a new one not yet."""
        return self.answer is not None and self.answer.head is None and self.answer.sessions > 0

    @property
    def waits(self) -> bool:
        """Whether somebody who is connected has not acknowledged it."""
        return self.unknown or bool(self.needed - self.acked.keys())

    @property
    def problem(self) -> bool:
        """A relay is set, and it does not answer, or somebody who is connected did not."""
        return self.ending is not None and (self.answer is None or self.waits)

    def copy(self, copies: Any) -> str:
        """How the live copy went."""
        if not self._config.relay:
            return "none, zmqhooks.relay is not set"
        if not copies:
            return "none, zmqhooks.live-timeout leaves no time for it"
        if copies[-1].ending is not publish.Ending.CONFIRMED:
            return str(copies[-1].ending.value)
        return f"confirmed after {_ms(copies[-1].seconds)} ms"

    def state(self, row: Row) -> str:
        """How it is with a subscriber."""
        if row.name in self.acked:
            return f"acknowledged after {_ms(self.acked[row.name])} ms"
        if row.name in self.needed:
            return f"connected, did not acknowledge it within {PING_SECONDS:.0f} s"
        late = delivery.behind(row, self.head.sequence)
        return f"{delivery.whereabouts(row)}, {late} event{'s' if late > 1 else ''} behind"


def _print(formatter: Any, branch: str, watch: Watch, took: float, copies: Any) -> None:
    head = watch.head
    live = copies[-1] if copies else None
    confirmed = live is not None and live.ending is publish.Ending.CONFIRMED
    formatter.startitem()
    formatter.data(
        sequence=head.sequence,
        journal=compat.message(head.journal),
        branch=compat.message(branch),
        journalled=_ms(took),
        live=_ms(live.seconds) if live and confirmed else None,
        relay=compat.message(watch.ending.value) if watch.ending else None,
    )
    lines = [
        (f"ping {head.sequence}", f"of branch {branch}"),
        ("journalled", f"after {_ms(took)} ms"),
        ("live copy", watch.copy(copies)),
    ]
    _plain(formatter, lines)
    nested = formatter.nested(b"subscribers")
    for row in watch.rows.values():
        nested.startitem()
        delivery.item(nested, row, head.sequence)
        after = watch.acked.get(row.name)
        nested.data(after=None if after is None else _ms(after))
        _plain(nested, [(row.name, watch.state(row))])
    nested.end()
    _plain(formatter, [("problem", text) for text in _problems(watch)])


def _problems(watch: Watch) -> list[str]:
    found = []
    if watch.ending is not None and watch.answer is None:
        found.append(f"the relay does not say who has it: {watch.ending.value}")
    if watch.unknown:
        found.append(delivery.UNKNOWN.strip())
    if watch.answer is not None and watch.answer.left_out:
        found.append(delivery.left_out(watch.answer).strip())
    return found


def _plain(formatter: Any, lines: list[tuple[str, str]]) -> None:
    for what, how in lines:
        formatter.plain(compat.message(f"{what + ':':<12} {how}\n"))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
