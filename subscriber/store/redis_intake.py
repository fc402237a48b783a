"""What the intake does with a store on Redis or Valkey; see Store."""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import Any

from . import redis_forms as forms
from .base import Accepted, Batch, Conflict, Decision, Fork, OtherScope, Standing, StoreError
from .redis_reader import RedisReader

MOST = 2**53 - 1
"""The server counts in floating point; no journal comes near that, but a relay may say so."""


class RedisIntake(RedisReader):
    """Journals, positions, events, and what they make."""

    def learn(self, relay: str, journals: Iterable[Standing], now: float) -> bool:
        """See Store."""
        return bool(self._do("learn", relay=relay, heads=_heads(journals), now=now))

    def follow(self, scope: str) -> bool:
        """See Store."""
        return bool(self._do("follow", scope=scope))

    def note_heads(self, relay: str, heads: Iterable[Standing], now: float) -> None:
        """See Store."""
        self._do("note_heads", relay=relay, heads=_heads(heads), now=now)

    def stop_journal(self, journal: str, reason: str | None) -> None:
        """See Store."""
        if not self._do("stop_journal", journal=journal, reason=reason):
            raise StoreError(self._file, f"journal {journal} is not known")

    def heard(self, relay: str, now: float) -> None:
        """See Store."""
        self._do("heard", relay=relay, now=now)

    def failed(self, relay: str, error: str, now: float) -> None:
        """See Store."""
        self._do("failed", relay=relay, error=error, now=now)

    def decide(self, decision: Decision) -> int:
        """See Store."""
        freed: int = self._do(
            "decide",
            forms.pack(decision),
            journal=decision.journal,
            verb=decision.verb,
            branch=decision.branch or "",
            sequence=decision.sequence,
        )
        if freed < 0:
            raise StoreError(self._file, f"journal {decision.journal} is not known")
        return freed

    def release(self, journal: str, branch: str, up_to: int) -> int:
        """See Store."""
        freed: int = self._do("release", journal=journal, branch=branch, up_to=up_to)
        return freed

    def accept(self, batch: Batch) -> Accepted:
        """See Store."""
        if batch.scanned > MOST:
            raise StoreError(self._file, f"{batch.scanned} is no sequence that can be kept")
        blobs = [*map(forms.record, batch.records), *map(forms.work, batch.deliveries)]
        word, *found = self._do(
            "accept",
            *blobs,
            journal=batch.journal,
            repo=batch.repo,
            relay=batch.relay,
            scope=batch.scope,
            scanned=batch.scanned,
            expected=batch.expected,
            origin=_capped(batch.origin),
            seen=min((record.received for record in batch.records), default=0.0),
            records=len(batch.records),
            heads={name: (link.sequence, link.sha256) for name, link in batch.heads.items()},
            continues={
                name: (before.journal, before.sequence) for name, before in batch.continues.items()
            },
            release=batch.release,
            certificates={name: forms.text(token) for name, token in batch.certificates.items()},
        )
        return self._accepted(batch, word.decode(), found)

    def _accepted(self, batch: Batch, word: str, found: list[Any]) -> Accepted:
        if word == "fork":
            sequence, stored, received = (each.decode() for each in found)
            raise Fork(self._file, batch.journal, int(sequence), stored, received)
        if word == "scope":
            raise OtherScope(self._file)
        if word == "conflict":
            position = None if found[0] is None else int(found[0])
            raise Conflict(self._file, batch.journal, batch.expected, position)
        if word == "certificate":
            reason = f"certificate {found[0].decode()} is not in the batch"
            raise StoreError(self._file, reason)
        return Accepted(found[0], len(batch.records) - found[0])

    def lease_journals(
        self,
        instance: str,
        journals: Collection[str],
        lease: float,
        now: float,
        scope: str | None = None,
    ) -> frozenset[str]:
        """See Store."""
        found = self._do(
            "lease_journals",
            instance=instance,
            journals=sorted(journals),
            till=now + lease,
            now=now,
            scope=scope,
        )
        return frozenset(journal.decode() for journal in found)

    def yield_journals(self, instance: str) -> None:
        """See Store."""
        self._do("yield_journals", instance=instance)


def _heads(journals: Iterable[Standing]) -> list[dict[str, Any]]:
    return [
        {**asdict(each), "head": _capped(each.head), "scanned": _capped(each.scanned)}
        for each in journals
    ]


def _capped(sequence: int | None) -> int | None:
    return None if sequence is None else min(sequence, MOST)
