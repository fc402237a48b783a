"""Whether a journal is what it must be: checksums, signatures, chain; problems by name and place.

Reads the events file once, in bounded memory, and folds it for the comparison with the changelog.
Nothing behind a torn record is looked at: what stands there cannot be told apart.
"""

from typing import NamedTuple

from .journal.format import (
    BRANCH,
    CERTIFICATE,
    EVENT,
    MARK,
    Mark,
    Record,
    Torn,
    read_mark,
    read_signed,
)
from .journal.origin import Branch, EventsFile, read_branch
from .journal.reading import records
from .wire import certificates, envelope, events
from .wire.certificates import Certificate
from .wire.errors import Refused
from .wire.events import Continued, Event, Link
from .wire.fold import Fold
from .wire.topics import matches_any


class Problem(NamedTuple):
    """`sequence` is None where no event is concerned, `offset` where no byte of the file is."""

    sequence: int | None
    offset: int | None
    text: str

    def __str__(self) -> str:
        place = [
            f"sequence {self.sequence}" if self.sequence is not None else "",
            f"byte {self.offset}" if self.offset is not None else "",
        ]
        where = ", ".join(part for part in place if part)
        return f"{where}: {self.text}" if where else self.text


class Check:
    """The state of reading: feed it a file, then look at `problems`, `fold` and the counts.

    `torn`: reading ended at a torn record.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.fold = Fold()
        self.torn = False
        self.events = 0
        self.journals: list[str] = []
        self.mark: Mark | None = None
        self._certificates: dict[str, Certificate | None] = {}
        self._last: dict[str, Continued] = {}
        self._sequence = 0

    def read(self, source: EventsFile, end: int) -> None:
        """All records up to byte `end`, from the first one that is kept."""
        kept = source.origin.head
        if kept.journal:
            self.journals.append(kept.journal)
            self._sequence = kept.sequence
        try:
            for record in records(source, source.base, end):
                self._record(record)
        except Torn as torn:
            self.torn = True
            self.problems.append(Problem(None, torn.offset, f"torn record: {torn.reason}"))

    def _record(self, record: Record) -> None:
        if record.kind == CERTIFICATE:
            self._certificate(record)
        elif record.kind == MARK:
            self.mark = read_mark(record)
        elif record.kind == EVENT:
            self._event(record)
        elif record.kind == BRANCH:
            self._dropped(read_branch(record))

    def _dropped(self, told: Branch) -> None:
        """What stands for the events of a branch that retention dropped."""
        self.fold.begin(told.branch, told.live, told.heads)
        self._last[told.branch] = Continued(told.journal, told.sequence, told.sha256)

    def _certificate(self, record: Record) -> None:
        digest = events.digest(record.payload)
        try:
            self._certificates[digest] = certificates.decode(record.payload)
        except Refused as refused:
            self._certificates[digest] = None
            self.problems.append(Problem(None, record.offset, str(refused)))

    def _event(self, record: Record) -> None:
        self.events += 1
        signed = read_signed(record)
        try:
            event = events.decode(signed.event)
        except Refused as refused:
            self.problems.append(Problem(None, record.offset, str(refused)))
            return
        for text in (
            *self._signature(event, signed.certificate, signed.signature, signed.event),
            *self._chain(event),
        ):
            self.problems.append(Problem(event.sequence, record.offset, text))
        digest = events.digest(signed.event)
        self._last[event.branch] = Continued(event.journal, event.sequence, digest)
        self._sequence = event.sequence
        self.fold.add(event)

    def _signature(
        self, event: Event, digest: str, signature: bytes, data: bytes
    ) -> tuple[str, ...]:
        certificate = self._certificates.get(digest)
        if certificate is None:
            return (f"its certificate {digest[:12]} is not in the journal",)
        if not envelope.verified(envelope.pae(data), signature, certificate.public):
            return (f"not signed by the key of '{certificate.sub}'",)
        if not matches_any(certificate.publish, event.topic):
            return (f"'{certificate.sub}' may not publish {event.topic}",)
        return ()

    def _chain(self, event: Event) -> tuple[str, ...]:
        if not self.journals or event.journal != self.journals[-1]:
            self.journals.append(event.journal)
        elif event.sequence != self._sequence + 1:
            return (f"sequence {event.sequence} stands behind {self._sequence}",)
        last = self._last.get(event.branch)
        here = last is not None and last.journal == event.journal
        expected = Link(last.sequence, last.sha256) if last and here else None
        if event.previous != expected:
            return (f"previous is {_shown(event.previous)}, must be {_shown(expected)}",)
        if event.previous is None and event.continuing and last and event.continues != last:
            return (f"continues {_shown(event.continues)}, must be {_shown(last)}",)
        return ()


def _shown(link: Link | Continued | None) -> str:
    return "nothing" if link is None else f"{link.sequence} with SHA-256 {link.sha256[:12]}"
