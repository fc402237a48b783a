"""Daemons that are killed, stopped, and have their clock set, while they work; and what came of it.

The k-th of n faults comes when k/(n+1) of the deliveries had their effect: so faults are spread
over the work, however fast the machine is. What ended is started again at once, as systemd would.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from support.daemons import Daemon
from support.waiting import wait_for

DAY = 86_400
JUMPS = (DAY, -DAY, 3600, -3600)
JUMPED = 1.5
"""Seconds for which the clock is wrong: a daemon that starts meanwhile may refuse its own key."""


@dataclass(frozen=True)
class Plan:
    """How often each fault comes. `stopped`: seconds that a SIGSTOP lasts."""

    kills: int
    stops: int
    stopped: float
    jumps: int = 0
    outages: int = 0
    seed: int = 20_261_121

    def limited(self, most: int) -> "Plan":
        """No more than so many of each kind."""
        kinds = ("kills", "stops", "jumps", "outages")
        return replace(self, **{kind: min(most, getattr(self, kind)) for kind in kinds})

    def faults(self) -> list[str]:
        """Their names, in the order in which they come."""
        named = {"kill": self.kills, "stop": self.stops, "jump": self.jumps, "outage": self.outages}
        found = [name for name, count in named.items() for _ in range(count)]
        random.Random(self.seed).shuffle(found)
        return found


@dataclass
class Member:
    """A daemon and how it is started; `thaw_at`: when it goes on (monotonic), if it is stopped."""

    start: Callable[[], Daemon]
    thaw_at: float | None = None
    ends: list[int] = field(default_factory=list)
    """With what status it ended each time that it was started again."""

    def __post_init__(self) -> None:
        self.daemon = self.start()

    def supervise(self, now: float) -> None:
        """Let it go on when its time has come, and start it again if it has ended."""
        if self.thaw_at is not None:
            if now >= self.thaw_at:
                self.thaw_at = None
                self.daemon.thaw()
        elif (status := self.daemon.process.poll()) is not None:
            self.ends.append(status)
            self.daemon = self.start()


class Storm:
    """Faults for `members` by a plan.

    `progress`: what share of the work is done. `jump`: sets their clock to so many seconds from the
    true time. `outage`: kills the store's server and starts it again.
    """

    def __init__(
        self,
        plan: Plan,
        members: list[Member],
        progress: Callable[[], float],
        *,
        jump: Callable[[int], None] = lambda _seconds: None,
        outage: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan, self._members, self._progress = plan, members, progress
        self._jump, self._outage = jump, outage
        self._random = random.Random(plan.seed)
        self._faults = plan.faults()
        self._right_at: float | None = None
        self.count: Counter[str] = Counter()

    def run(self, seconds: float) -> float:
        """Until all faults came and all work is done; seconds, at most and as they were."""
        begin = time.monotonic()
        wait_for(self._turn, "all faults came, and all work is done", seconds)
        return time.monotonic() - begin

    def _turn(self) -> bool:
        now, done = time.monotonic(), self._progress()
        for member in self._members:
            member.supervise(now)
        if self._right_at is not None and now >= self._right_at:
            self._right_at = None
            self._jump(0)
        came = self.count.total()
        if came < len(self._faults) and done >= (came + 1) / (len(self._faults) + 1):
            self._hit(self._faults[came], now)
        return self.count.total() == len(self._faults) and done >= 1 and self._calm()

    def _calm(self) -> bool:
        """Whether nothing is as a fault left it."""
        return self._right_at is None and all(member.thaw_at is None for member in self._members)

    def _hit(self, fault: str, now: float) -> None:
        """Do it now; a kill or a stop waits for a daemon that is not stopped."""
        awake = list(self._awake())
        match fault:
            case "jump":
                self._jump(self._random.choice(JUMPS))
                self._right_at = now + JUMPED
            case "outage":
                self._outage()
            case "kill" if awake:
                self._random.choice(awake).daemon.kill()
            case "stop" if awake:
                chosen = self._random.choice(awake)
                os.kill(chosen.daemon.pid, signal.SIGSTOP)
                chosen.thaw_at = now + self._plan.stopped
            case _:
                return
        self.count[fault] += 1

    def _awake(self) -> Iterator[Member]:
        for member in self._members:
            if member.thaw_at is None and member.daemon.process.poll() is None:
                yield member
