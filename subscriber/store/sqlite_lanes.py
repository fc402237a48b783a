"""The lanes of the SQLite store: which delivery of each is next, and when."""

from .base import OPEN, Delivery, Finish, State
from .sqlite_reader import Row, SqliteReader

WRITE = "BEGIN IMMEDIATE"


class SqliteLanes(SqliteReader):
    """What changes a lane. Only lanes with something open in them have a row."""

    def _settle(self, rule: str, order_key: str, now: float | None = None) -> None:
        """Take the state of a lane from what is open in it, unless something in it runs."""
        leased = self._value("leased", rule=rule, order_key=order_key)
        first = self._first(rule, order_key, now)
        if not leased:
            self._settle_as(rule, order_key, first)

    def _first(self, rule: str, order_key: str, now: float | None) -> Row | None:
        """What is open first in a lane, after what is superseded was ended."""
        rows = self._rows("lane", rule=rule, order_key=order_key)
        if rows and rows[0]["latest"] and self._supersede(rule, order_key, now):
            rows = self._rows("lane", rule=rule, order_key=order_key)
        return rows[0] if rows else None

    def _settle_as(self, rule: str, order_key: str, first: Row | None) -> None:
        if first is None:
            self._run("drop_lane", rule=rule, order_key=order_key)
        elif first["state"] == State.PENDING:
            self._run("queue_lane", rule=rule, order_key=order_key)
        else:
            self._run("still_lane", rule=rule, order_key=order_key, due=first["due"])

    def _supersede(self, rule: str, order_key: str, now: float | None) -> bool:
        """Let only the newest wait; whether others did."""
        waiting = self._rows("waiting", rule=rule, order_key=order_key)
        for item in waiting[:-1]:
            newest = waiting[-1]
            ended = newest["created"] if now is None else now
            reason = f"superseded by {newest['id']}"
            self._end_as(item["number"], State.SUPERSEDED, reason, ended)
        return len(waiting) > 1

    def _end_as(self, number: int, state: State, reason: str, now: float) -> None:
        """Without an attempt."""
        self._run("end_as", number=number, state=state, reason=reason, ended=now)

    def _end(self, item: Delivery, finish: Finish, now: float) -> None:
        """An attempt is over."""
        outcome = finish.outcome
        self._run(
            "add_receipt",
            delivery=item.number,
            fence=item.fence,
            attempt=item.attempts + 1,
            owner=item.owner,
            counted=finish.counted,
            started=outcome.started,
            ended=outcome.ended,
            verdict=outcome.verdict,
            reason=outcome.reason,
            exit_status=outcome.exit_status,
            signal=outcome.signal,
            output=outcome.output,
            truncated=outcome.truncated,
        )
        self._run(
            "end",
            number=item.number,
            state=finish.state,
            counted=finish.counted,
            lost=outcome.verdict == "lost",
            reason=outcome.reason,
            due=finish.retry_at,
            ended=None if finish.state in OPEN else now,
        )
        # A lane runs one at a time: nothing else in it runs.
        first = self._first(item.rule, item.order_key, now)
        self._settle_as(item.rule, item.order_key, first)
