"""The engine's part of the SQLite store: claims, leases and what becomes of attempts."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from .base import MAX_CLAIMS, Claim, Delivery, Finish, State, Terms
from .sqlite_lanes import WRITE, SqliteLanes
from .sqlite_reader import Row, bounded, delivery, receipt
from .turns import Turns
from .values import lost


class SqliteClaims(SqliteLanes):
    """What the engine does; see Store."""

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
        with self._step(WRITE):
            self._lose(self._rows("expired", now=now), now)
            turns = _turns(terms, self._rows("leases"))
            self._line_up(turns, now)
            claims = [
                _leased(item, owner, lease, now)
                for item in self._choose(turns, bounded(limit, MAX_CLAIMS), now)
            ]
            self._keep(claims)
            return claims

    def _lose(self, gone: Iterable[Row], now: float) -> None:
        for item in map(delivery, gone):
            self._end(item, lost(item, now), now)

    def _line_up(self, turns: Turns, now: float) -> None:
        """The rules that have something ready; what waited for a time that has come is so now."""
        for row in self._rows("candidates"):
            rule = row["rule"]
            if not turns.may_run(rule):
                continue
            due = row["due"] is not None and row["due"] <= now
            if due:
                self._wake(rule, now)
            if due or row["ready"]:
                turns.add(rule, row["turn"])

    def _wake(self, rule: str, now: float) -> None:
        rows = self._run("due_lanes", rule=rule, now=now, limit=MAX_CLAIMS).fetchall()
        for (order_key,) in rows:
            self._run("queue_lane", rule=rule, order_key=order_key)

    def _choose(self, turns: Turns, count: int, now: float) -> Iterator[Delivery]:
        """Up to `count` deliveries, each with its fence and its lock. Nothing is written here."""
        fence = int(self._value("fence"))
        page = 1 + count // max(1, len(turns))
        lines: dict[str, Iterator[Row]] = {}
        while count > 0 and (rule := turns.next()) is not None:
            row = next(lines.setdefault(rule, self._line(rule, page)), None)
            if row is not None:
                fence = max(fence + 1, math.floor(now * 1e6))
                yield replace(delivery(row), fence=fence, lock=turns.terms(rule).lock)
                turns.took(rule, fence)
                count -= 1

    def _line(self, rule: str, page: int) -> Iterator[Row]:
        """The first open delivery of each ready lane of a rule, in the order of their turns."""
        offset = 0
        while rows := self._rows("ready", rule=rule, limit=page, offset=offset):
            yield from rows
            offset += page

    def _keep(self, claims: list[Claim]) -> None:
        if not claims:
            return
        items = [claim.delivery for claim in claims]
        leases: Iterable[Row] = (
            {
                "number": item.number,
                "fence": item.fence,
                "owner": item.owner,
                "claimed": item.claimed,
                "lease_until": item.lease_until,
                "lock": item.lock,
            }
            for item in items
        )
        self._run_many("lease", leases)
        for item in items:
            self._run("still_lane", rule=item.rule, order_key=item.order_key, due=None)
        for rule, turn in {item.rule: item.fence for item in items}.items():
            self._run("set_turn", rule=rule, turn=turn)

    def extend(self, delivery_id: str, fence: int, lease: float, now: float) -> bool:
        """See Store."""
        with self._step(WRITE):
            return self._run("extend", id=delivery_id, fence=fence, until=now + lease).rowcount == 1

    def finish(self, delivery_id: str, fence: int, finish: Finish, now: float) -> bool:
        """See Store."""
        with self._step(WRITE):
            rows = self._rows("held_by", id=delivery_id, fence=fence)
            if not rows:
                return self._was_finished(delivery_id, fence, finish)
            self._end(delivery(rows[0]), finish, now)
            return True

    def _was_finished(self, delivery_id: str, fence: int, finish: Finish) -> bool:
        rows = self._rows("receipt", id=delivery_id, fence=fence)
        return bool(rows) and receipt(delivery_id, rows[0]).outcome == finish.outcome

    def next_due(self, *, terms: Mapping[str, Terms] | None = None) -> float | None:
        """See Store."""
        with self._step():
            leases = self._rows("leases")
            rows = self._rows("candidates")
        turns = _turns(terms, leases)
        rows = [row for row in rows if turns.may_run(row["rule"])]
        if any(row["ready"] for row in rows):
            return 0.0
        ends = [row["due"] for row in rows if row["due"] is not None]
        ends += [row["until"] for row in leases if turns.concerns(row["rule"], row["lock"])]
        return min(ends, default=None)

    def release_leases(self, now: float, owner: str | None = None) -> int:
        """See Store."""
        with self._step(WRITE):
            gone = self._rows("running", owner=owner)
            self._lose(gone, now)
            return len(gone)


def _turns(terms: Mapping[str, Terms] | None, leases: Iterable[Row]) -> Turns:
    return Turns(terms, [(row["rule"], row["lock"]) for row in leases])


def _leased(item: Delivery, owner: str, lease: float, now: float) -> Claim:
    """The claim of a delivery that was chosen."""
    taken = replace(
        item, state=State.RUNNING, owner=owner, claimed=now, lease_until=now + lease, due=None
    )
    return Claim(taken, taken.fence, taken.attempts + 1)
