"""What one transaction appends: the certificate if it changed, the events, the mark.

Drafts become events part by part, each written before the next is made, so that memory does not
grow with the transaction. Links to the event before go through what this batch has written and,
behind that, through the index.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO, Protocol

from ..wire import events, split, topics
from ..wire.values import Continued, Draft, Link, Place
from .format import CERTIFICATE, EVENT, MARK, Mark, fingerprint, frame, signed
from .heads import Head
from .index import Index, Last, key
from .index import Place as Slot

LIVE_RECORDS = 64
"""Events of one transaction that `Writer.frames` gives at most."""
LIVE_BYTES = 1 << 20
"""Bytes of events of one transaction that `Writer.frames` gives at most."""


class Signer(Protocol):
    """Who signs: `certificate` is the token, `sign` gives the 64 bytes over an event's PAE."""

    @property
    def certificate(self) -> bytes:
        """The compact JWS."""
        ...

    def sign(self, event: bytes) -> bytes:
        """The signature of an event's exact bytes."""
        ...


class Batch:
    """One transaction's records, written to `out` from byte `offset` of the events file on.

    `count`: events written; `live`: (offset of the record, topic) of the first ones.
    """

    def __init__(
        self, out: BinaryIO, offset: int, signer: Signer, limit: int, index: Index
    ) -> None:
        self.offset = offset
        self.count = 0
        self.live: list[tuple[int, bytes]] = []
        self._out = out
        self._signer = signer
        self._limit = limit
        self._index = index
        self._live_bytes = 0
        self._last: dict[str, tuple[Last, Slot]] = {}

    def mark(self, mark: Mark) -> None:
        """Write the changelog's state after the transaction: its last record."""
        self._record(MARK, mark.encode())

    def _record(self, kind: int, payload: bytes) -> None:
        data = frame(kind, payload)
        self._out.write(data)
        self.offset += len(data)

    def events(self, head: Head, first: Draft, following: Iterable[Draft]) -> Head:
        """Write all events of all drafts; the head after them, but for its size."""
        token = self._signer.certificate
        certificate = fingerprint(token)
        if certificate != head.certificate:
            self._record(CERTIFICATE, token)
        sequence = head.sequence
        for draft in _chain(first, following):
            for part in split.drafts(draft, head.repo, self._limit):
                sequence += 1
                self._event(head, part, sequence, certificate)
        return replace(head, sequence=sequence, certificate=certificate)

    def _event(self, head: Head, draft: Draft, sequence: int, certificate: str) -> None:
        data = events.assemble(draft, self._place(head, draft.branch, sequence))
        offset = self.offset
        self._record(EVENT, signed(certificate, self._signer.sign(data), data))
        last = Last(head.journal, sequence, events.digest(data))
        self._last[draft.branch] = last, Slot(offset, sequence)
        self.count += 1
        self._live_bytes += len(data)
        if self.count <= LIVE_RECORDS and self._live_bytes <= LIVE_BYTES:
            topic = topics.topic(topics.source("hg", head.repo), draft.branch)
            self.live.append((offset, topic.encode()))

    def _place(self, head: Head, branch: str, sequence: int) -> Place:
        written = self._last.get(branch)
        last = written[0] if written else self._index.last(branch)
        here = last is not None and last.journal == head.journal
        return Place(
            repo=head.repo,
            journal=head.journal,
            sequence=sequence,
            previous=Link(last.sequence, last.sha256) if last and here else None,
            continuing=head.continuing,
            continues=Continued(*last) if last and not here else None,
        )

    def branches(self) -> dict[bytes, Slot]:
        """The last event of each branch written, for the index."""
        return {key(branch): slot for branch, (_last, slot) in self._last.items()}


def _chain(first: Draft, following: Iterable[Draft]) -> Iterator[Draft]:
    yield first
    yield from following
