"""The lanes of the SQLite store: which delivery of each is next, and when."""

from .base import OPEN, Delivery, Finish, State
from .sqlite_reader import SqliteReader

WRITE = "BEGIN IMMEDIATE"


class SqliteLanes(SqliteReader):
    """What changes a lane. Only lanes with something open in them have a row."""

    def _settle(self, rule: str, order_key: str, now: float | None = None) -> None:
        """Take the state of a lane from what is open in it."""
        rows = self._rows("lane", rule=rule, order_key=order_key)
        if rows and rows[0]["latest"] and self._supersede(rule, order_key, now):
            rows = self._rows("lane", rule=rule, order_key=order_key)
        if not rows:
            self._run("drop_lane", rule=rule, order_key=order_key)
        elif rows[0]["state"] == State.PENDING and not rows[0]["leased"]:
            self._run("queue_lane", rule=rule, order_key=order_key)
        else:
            due = None if rows[0]["leased"] else rows[0]["due"]
            self._run("still_lane", rule=rule, order_key=order_key, due=due)

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
        self._settle(item.rule, item.order_key, now)
