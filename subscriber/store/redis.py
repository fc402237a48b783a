"""The store of a fleet: Redis or Valkey, which any number of daemons share.

    address = parse_address("redis://db.example.org/0", credentials=Path("db.pass"))
    RedisStore.open(address, "ci")         a daemon of the subscriber ci
    RedisReader.open(address, "ci")        everybody else; needs no right to write

Each method of the contract is one call of a function in Lua, which the server runs as a whole; the
keys are told in redis.lua. What an answer was given to is as safe as the server's settings make it:
see `redis_server`. A lost answer leaves it open whether the step was done: accept, finish and
extend can be asked again, what a lost claim gave comes back when its lease ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Self

from hgext_zmqhooks.service.redis_client import TIMEOUT, RedisAddress

from . import redis_forms as forms
from .base import MAX_CLAIMS, Claim, Finish, Paused, Store, Terms
from .redis_intake import RedisIntake
from .redis_reader import RedisReader, bounded
from .redis_session import Session

__all__ = ["RedisReader", "RedisStore"]


class RedisStore(RedisIntake, Store):
    """The contract, held by one server for many processes."""

    shared = True

    @classmethod
    def open(cls, address: RedisAddress, name: str, *, timeout: float = TIMEOUT) -> Self:
        """The store of the subscriber `name`, made if there is none; StoreError without a server.

        Loads the library of functions where it is missing, if our user may.
        """
        return cls(Session(address, name, writes=True, timeout=timeout))

    def now(self) -> float:
        """See Store."""
        return self._session.clock.now()

    # Engine

    def claim(
        self,
        owner: str,
        lease: float,
        limit: int,
        now: float,
        *,
        terms: Mapping[str, Terms] | None = None,
    ) -> list[Claim]:
        """See Store."""
        found = self._do(
            "claim",
            owner=owner,
            lease_until=now + lease,
            limit=bounded(limit, MAX_CLAIMS),
            now=now,
            terms=_terms(terms),
        )
        return [forms.claim(stored) for stored in found]

    def extend(self, delivery_id: str, fence: int, lease: float, now: float) -> bool:
        """See Store."""
        return bool(self._do("extend", id=delivery_id, fence=fence, lease_until=now + lease))

    def finish(self, delivery_id: str, fence: int, finish: Finish, now: float) -> bool:
        """See Store."""
        return bool(
            self._do(
                "finish",
                forms.outcome(finish.outcome),
                id=delivery_id,
                fence=fence,
                state=finish.state,
                retry_at=finish.retry_at,
                counted=finish.counted,
                lost=finish.outcome.verdict == "lost",
                reason=finish.outcome.reason,
                now=now,
            )
        )

    def next_due(self, *, terms: Mapping[str, Terms] | None = None) -> float | None:
        """See Store."""
        found = self._ask("next_due", terms=_terms(terms))
        return None if found is None else float(found)

    def release_leases(self, now: float, owner: str | None = None) -> int:
        """See Store."""
        count: int = self._do("release_leases", owner=owner, now=now)
        return count

    # What operators do

    def redeliver(self, ids: Sequence[str], now: float) -> list[str]:
        """See Store."""
        return [each.decode() for each in self._do("redeliver", ids=ids, now=now)]

    def bury(self, ids: Sequence[str], reason: str, now: float) -> list[str]:
        """See Store."""
        return [each.decode() for each in self._do("bury", ids=ids, reason=reason, now=now)]

    def pause(self, paused: Paused) -> bool:
        """See Store."""
        return bool(self._do("pause", forms.pack(paused), rule=paused.rule))

    def resume(self, rule: str) -> bool:
        """See Store."""
        return bool(self._do("resume", rule=rule))

    # Upkeep

    def prune(self, before: float, limit: int) -> int:
        """See Store."""
        count: int = self._do("prune", before=before, limit=limit)
        return count


def _terms(terms: Mapping[str, Terms] | None) -> dict[str, dict[str, object]] | None:
    return None if terms is None else {rule: asdict(each) for rule, each in terms.items()}
