"""Which records of a batch may enter the store, and why the rest may not. No I/O, no clock.

A batch is taken from its beginning up to the first record that is not in order; that one stops its
journal, and nothing behind it is looked at:

    bad-signature, bad-certificate, unknown-root, not-allowed, malformed-event    see wire/keyring
    unknown-certificate   the batch does not bring the certificate that a record names
    not-yet               the signer's certificate begins in the future
    revoked               the signer's certificate is revoked, and the event not stored yet
    wrong-place           the event says another journal or sequence than its record
    wrong-repo            the journal is another repository's
    gap, fork             the chain of its branch does not fit what is stored (wire/sequence), in
                          this journal or from the one that it continues
    unfit-journal         a further journal of a known repository that does not continue it

A good signature under an expired certificate stops nothing: the event is stored as held, until an
event under a valid one chains over it, in the same journal or in one that continues it.

An event at or before the position that is not stored, though we asked for it, was left out then.
When it comes, it is taken, if it is the next one of its branch.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hgext_zmqhooks.wire import sequence
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.events import digest
from hgext_zmqhooks.wire.keyring import Authentic, Keyring, Standing
from hgext_zmqhooks.wire.sequence import JournalState
from hgext_zmqhooks.wire.session import Events, Record
from hgext_zmqhooks.wire.topics import Pattern, matches_any
from hgext_zmqhooks.wire.values import Continued, Event, Link
from subscriber.store.values import Incoming


@dataclass(frozen=True, slots=True)
class Earlier:
    """How far another journal of the repository was read, and behind which sequence that began.

    `pruned`: up to which sequence its events were forgotten since.
    """

    scanned: int
    origin: int
    pruned: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What the reader knows of a journal before a batch.

    `repo`: whose it is, None until an event says it. `others`: further journals of that
    repository, known before it; `earlier(journal)`: how far one of that repository, whenever it
    became known, was read, None for any other. `digest(journal, sequence)`, `token(sha256)` and
    `chain(journal)`, which has what was forgotten too, ask the store. `admitted`: the sequences
    that a person lets pass although they do not fit what is stored; `vouched`: up to which one a
    person answers for events under a revoked certificate.
    """

    journal: str
    repo: str | None
    state: JournalState
    others: frozenset[str] = frozenset()
    admitted: frozenset[int] = frozenset()
    vouched: int = 0
    digest: Callable[[str, int], str | None] = field(default=lambda _journal, _sequence: None)
    token: Callable[[str], bytes | None] = field(default=lambda _sha256: None)
    earlier: Callable[[str], Earlier | None] = field(default=lambda _journal: None)
    chain: Callable[[str], Mapping[str, Link]] = field(default=lambda _journal: {})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a journal goes no further than before `sequence`.

    `missing`: the journal and sequence of an event that has to come first, where that is known.
    """

    kind: str
    detail: str
    sequence: int
    branch: str | None = None
    missing: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The part of a batch that may be stored.

    `records` and `events` belong together, in order. `heads`: the chain after them, of the branches
    they touch. `continues`: by branch, the event of another journal that the first one here stands
    behind. `release`: what a valid event frees, as (branch, up to sequence). `duplicates` had been
    handled before; `unasked` fit none of our patterns.
    """

    scanned: int
    records: tuple[Incoming, ...]
    events: tuple[Event, ...]
    heads: Mapping[str, Link]
    continues: Mapping[str, Continued]
    release: tuple[tuple[str, int], ...]
    certificates: Mapping[str, bytes]
    duplicates: int
    unasked: int
    stop: Stop | None


def admit(
    batch: Events,
    known: Known,
    patterns: Sequence[Pattern],
    keyring: Keyring,
    now: float,
    *,
    whole: bool = False,
    signed: Mapping[int, bool] | None = None,
) -> Admitted:
    """Judge a batch of one journal; `now` is in unix seconds.

    `signed`: whether the signatures of some records, by sequence, are good; the others are looked
    at here.
    `whole`: the reader gets every event of the repository, so that none may be left out.
    """
    tokens = batch.certificates
    gate = _Gate(known, patterns, keyring, now, tokens, whole=whole, signed=signed or {})
    stop = None
    for record in batch.records:
        try:
            gate.take(record)
        except Refused as error:
            stop = Stop(error.kind, error.detail, record.sequence, gate.branch, gate.missing)
            break
    if stop is None:
        stop = gate.left_out(batch.scanned)
    # Never past what did not come: it is to be asked for again.
    reached = batch.scanned if stop is None else gate.reached
    return gate.result(max(reached, known.state.scanned), stop)


class _Gate:
    """Judges one record after another and keeps what was admitted so far."""

    def __init__(
        self,
        known: Known,
        patterns: Sequence[Pattern],
        keyring: Keyring,
        now: float,
        tokens: Sequence[bytes],
        *,
        whole: bool,
        signed: Mapping[int, bool],
    ) -> None:
        self._known = known
        self._signed = signed
        self._whole = whole
        self._patterns = patterns
        self._keyring = keyring
        self._now = now
        self._tokens = {hashlib.sha256(token).hexdigest(): token for token in tokens}
        self._repo = known.repo
        self._branches = dict(known.state.branches)
        self._here = JournalState(known.state.scanned, self._branches, known.state.origin)
        self._heads: dict[str, Link] = {}
        self._continues: dict[str, Continued] = {}
        self._admitted: list[tuple[Record, Authentic, str]] = []
        self._trusted: dict[str, Event] = {}
        self._used: dict[str, bytes] = {}
        self._duplicates = 0
        self._unasked = 0
        self.reached = known.state.scanned
        """Sequence of the last record that was in order."""
        self.branch: str | None = None
        """Branch of the record in hand, as far as it could be read."""
        self.missing: tuple[str, int] | None = None
        """Journal and sequence of what has to come before the record in hand."""

    def take(self, record: Record) -> None:
        """Admit a record or drop it; Refused says why it stops its journal."""
        self.branch = None
        missing = self.left_out(record.sequence - 1)
        if missing is not None:
            raise Refused(missing.kind, missing.detail)
        self._take(record)
        self.reached = max(self.reached, record.sequence)

    def left_out(self, up_to: int) -> Stop | None:
        """Sequences are dense: a reader of the whole repository misses none up to here."""
        first = max(self.reached, self._known.state.origin) + 1
        passed = self._known.admitted & {first, up_to + 1}
        if not self._whole or up_to < first or passed:
            return None
        return Stop("gap", f"sequences {first} to {up_to} were left out", first)

    def _take(self, record: Record) -> None:
        token = self._token(record.certificate)
        signed = self._signed.get(record.sequence)
        # Whether it is revoked is asked below: what is stored already stays a duplicate.
        authentic = self._keyring.attest(
            record.event, record.signature, token, self._now, signed=signed, vouched=True
        )
        event = authentic.event
        self.branch = event.branch
        self._check_place(event, record)
        if not matches_any(self._patterns, authentic.topic):
            self._unasked += 1
            return
        sha256 = digest(record.event)
        if self._is_duplicate(event, sha256):
            self._duplicates += 1
            return
        if event.sequence > self._known.vouched:
            self._keyring.certificate(token)
        if authentic.standing is Standing.NOT_YET:
            name = authentic.certificate.sub
            raise Refused(
                "not-yet", f"the certificate of {name!r} is not valid yet; clocks differ?"
            )
        self._repo = event.repo
        self._link(event)
        self._branches[event.branch] = self._heads[event.branch] = Link(event.sequence, sha256)
        self._used[record.certificate] = token
        if authentic.standing is Standing.VALID:
            self._trusted[event.branch] = event
        self._admitted.append((record, authentic, sha256))

    def _token(self, sha256: str) -> bytes:
        token = self._tokens.get(sha256) or self._known.token(sha256)
        if token is None:
            raise Refused("unknown-certificate", f"nothing is known of certificate {sha256}")
        return token

    def _check_place(self, event: Event, record: Record) -> None:
        if (event.journal, event.sequence) != (self._known.journal, record.sequence):
            place = f"{self._known.journal}/{record.sequence}"
            raise Refused("wrong-place", f"event {event.id} came as {place}")
        if self._repo is not None and event.repo != self._repo:
            raise Refused(
                "wrong-repo", f"an event of {event.repo!r} in a journal of {self._repo!r}"
            )

    def _is_duplicate(self, event: Event, sha256: str) -> bool:
        """Whether the event was handled before; Refused if it does not fit what is stored."""
        state, stored = self._known.state, None
        if event.sequence <= state.scanned:
            stored = self._known.digest(event.journal, event.sequence)
            if stored is None and not self._was_left_out(event):  # looked at, and not wanted then
                return True
        verdict = sequence.judge(event, sha256, self._here, stored)
        if verdict.outcome is sequence.Outcome.DUPLICATE:
            return True
        if event.sequence in self._known.admitted and stored is None:
            return False
        if verdict.outcome is not sequence.Outcome.NEXT:
            if verdict.outcome is sequence.Outcome.GAP and event.previous is not None:
                self.missing = (event.journal, event.previous.sequence)
            raise Refused(verdict.outcome.value, verdict.detail)
        if event.previous is None:
            self._check_continues(event)
        return False

    def _was_left_out(self, event: Event) -> bool:
        """Whether we asked for it, and nothing behind it on its branch is stored."""
        last = self._branches.get(event.branch)
        behind = last is None or last.sequence < event.sequence
        return behind and event.sequence > self._known.state.origin

    def _check_continues(self, event: Event) -> None:
        """The first event of a branch in a further journal must take up what is known."""
        before = event.continues
        if before is None:
            if self._known.others and not event.continuing:
                raise Refused(
                    "unfit-journal",
                    f"it does not continue the journals known of {event.repo!r}",
                )
            return
        if not self._known.others and self._known.earlier(before.journal) is None:
            return
        place = f"{before.journal}/{before.sequence}"
        stored = self._continued(before, event.branch)
        if stored is None:
            self._check_had(before, place)
        elif stored != before.sha256:
            raise Refused(
                "fork",
                f"it continues {place} with SHA-256 {before.sha256}, stored is {stored}",
            )

    def _continued(self, before: Continued, branch: str) -> str | None:
        """The digest of what is continued, which is kept though the event itself was forgotten."""
        stored = self._known.digest(before.journal, before.sequence)
        head = self._known.chain(before.journal).get(branch) if stored is None else None
        return head.sha256 if head and head.sequence == before.sequence else stored

    def _check_had(self, before: Continued, place: str) -> None:
        """What is continued and not stored: we never asked for it, or have forgotten it."""
        earlier = self._known.earlier(before.journal)
        if earlier is None or before.sequence <= max(earlier.origin, earlier.pruned):
            return
        self.missing = (before.journal, before.sequence)
        first = max(earlier.scanned, earlier.origin) + 1
        if first <= before.sequence:
            what = f"sequences {first} to {before.sequence} of that journal did not come"
        else:
            what = f"that event did not come, though the relay looked up to {earlier.scanned}"
        raise Refused("gap", f"it continues {place}; {what}")

    def _link(self, event: Event) -> None:
        """Remember what the branch stands behind, where that was stored, of this repository."""
        before = event.continues
        if before is None or self._known.earlier(before.journal) is None:
            return
        if self._continued(before, event.branch) == before.sha256:
            self._continues[event.branch] = before

    def result(self, scanned: int, stop: Stop | None) -> Admitted:
        """What was admitted; events under an expired certificate are held unless freed here."""
        records = tuple(self._incoming(*each) for each in self._admitted)
        return Admitted(
            scanned=scanned,
            records=records,
            events=tuple(authentic.event for _, authentic, _ in self._admitted),
            heads=self._heads,
            continues=self._continues,
            release=tuple(
                (branch, event.previous.sequence if event.previous else 0)
                for branch, event in self._trusted.items()
                if branch in self._known.state.branches or branch in self._continues
            ),
            certificates=self._used,
            duplicates=self._duplicates,
            unasked=self._unasked,
            stop=stop,
        )

    def _incoming(self, record: Record, authentic: Authentic, sha256: str) -> Incoming:
        event = authentic.event
        trusted = self._trusted.get(event.branch)
        held = authentic.standing is not Standing.VALID and (
            trusted is None or trusted.sequence < event.sequence
        )
        return Incoming(
            journal=event.journal,
            sequence=event.sequence,
            sha256=sha256,
            repo=event.repo,
            branch=event.branch,
            topic=authentic.topic,
            event_id=event.id,
            type=event.type,
            transaction=event.transaction.id,
            part=event.transaction.part,
            parts=event.transaction.parts,
            event=record.event,
            signature=record.signature,
            certificate=record.certificate,
            received=self._now,
            held=held,
            nodes=_nodes(event),
        )


def _nodes(event: Event) -> tuple[str, ...]:
    """The changesets that the event tells of, by which it can be found."""
    return tuple(changeset.node for changeset in event.changesets)
