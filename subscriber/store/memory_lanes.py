"""The lanes of the reference store: which delivery of each is next, and when."""

from bisect import insort
from dataclasses import replace

from .base import OPEN, Delivery, Finish, Receipt, State
from .memory_reader import Lane, MemoryReader

WAITING = frozenset({State.PENDING, State.RETRYING})


class MemoryLanes(MemoryReader):
    """What changes a lane. Only lanes with something open in them are kept."""

    def _open(self, item: Delivery) -> None:
        """A delivery that was not open is, at its place."""
        lane = self._lanes.setdefault((item.rule, item.order_key), Lane(item.rule, item.order_key))
        insort(lane.queue, (item.number, item.id))

    def _close(self, item: Delivery) -> None:
        """A delivery is final; its lane is to be settled."""
        self._lanes[item.rule, item.order_key].queue.remove((item.number, item.id))

    def _settle(self, item: Delivery, now: float | None = None) -> None:
        """Take the state of a delivery's lane from what is open in it."""
        lane = self._lanes[item.rule, item.order_key]
        self._supersede(lane, now)
        due, ready = None, False
        if not lane.queue:
            del self._lanes[lane.rule, lane.order_key]
        elif not any(each.state is State.RUNNING for each in self._of(lane)):
            first = self._of(lane)[0]
            due, ready = first.due, first.state is State.PENDING
        lane.due = due
        if not ready:
            lane.turn = None
        elif lane.turn is None:
            self._queue(lane)

    def _of(self, lane: Lane) -> list[Delivery]:
        return [self._deliveries[name] for _, name in lane.queue]

    def _queue(self, lane: Lane) -> None:
        self._turn += 1
        lane.turn, lane.due = self._turn, None

    def _supersede(self, lane: Lane, now: float | None) -> None:
        """Where the newest is `latest`, let only the newest wait."""
        found = self._of(lane)
        waiting = [item for item in found if item.state in WAITING]
        if not waiting or not found[-1].latest:
            return
        newest = waiting[-1]
        ended = newest.created if now is None else now
        for item in waiting[:-1]:
            self._end_as(item, State.SUPERSEDED, f"superseded by {newest.id}", ended)

    def _end_as(self, item: Delivery, state: State, reason: str, now: float) -> None:
        """Without an attempt."""
        self._deliveries[item.id] = replace(item, state=state, reason=reason, due=None, ended=now)
        self._close(item)

    def _end(self, item: Delivery, finish: Finish, now: float) -> None:
        """An attempt is over."""
        receipt = Receipt(
            delivery=item.id,
            fence=item.fence,
            attempt=item.attempts + 1,
            owner=item.owner or "",
            outcome=finish.outcome,
            counted=finish.counted,
        )
        self._receipts.setdefault(item.id, {})[item.fence] = receipt
        self._deliveries[item.id] = replace(
            item,
            state=finish.state,
            attempts=item.attempts + finish.counted,
            lost=item.lost + (finish.outcome.verdict == "lost"),
            reason=finish.outcome.reason,
            owner=None,
            claimed=None,
            lease_until=None,
            lock=None,
            due=finish.retry_at,
            ended=None if finish.state in OPEN else now,
        )
        if finish.state not in OPEN:
            self._close(item)
        self._settle(item, now)
