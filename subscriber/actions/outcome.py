"""What was seen of one run of a command, and what it means for the delivery. Pure."""

import errno
import os
import signal
from dataclasses import dataclass

from .base import LEASE_OVER, SHORT_OF_RESOURCES, Kind, Verdict

_EX_DATAERR = 65
_EX_TEMPFAIL = 75


@dataclass(slots=True)
class Outcome:
    """What was seen of one attempt; `report` lines as in guard.py, `lost` when they broke off."""

    exit_status: int | None = None
    signal: int | None = None
    failed: int | None = None
    step: str = ""
    expired: bool = False
    late: bool = False
    stopped: bool = False
    locked: bool = False
    pid: int | None = None
    lost: str = ""
    output: bytes = b""
    truncated: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        known = (self.exit_status, self.signal, self.failed)
        return self.locked or any(each is not None for each in known)

    def learn(self, line: str) -> None:
        """Take one line of the runner's report."""
        word, _, rest = line.partition(" ")
        number, _, step = rest.partition(" ")
        match word:
            case "exit":
                self.exit_status = int(number)
            case "signal":
                self.signal = int(number)
            case "failed":
                self.failed, self.step = int(number), step
            case "started":
                self.pid = int(number)
            case "expired":
                self.expired = True
            case "late":
                self.late = True
            case "stopped":
                self.stopped = True
            case "locked":
                self.locked = True


def judge(
    outcome: Outcome,
    *,
    where: str,
    cancelled: str | None,
    limit: float,
    started: float,
    ended: float,
) -> Verdict:
    """What an attempt means for its delivery (pure).

    Exit 0 is done, 65 dead at once, 75 a wish for another try; everything else is a failure. Being
    stopped by us is neither: it does not count.
    """
    kind, reason, patient, interrupted = Kind.RETRY, "", False, False
    if outcome.expired:
        reason = f"the time limit of {limit:g} s was reached; {_end(outcome)}"
    elif outcome.late:
        reason, interrupted = LEASE_OVER, True
    elif outcome.stopped:
        reason, interrupted = f"stopped: {cancelled or 'the daemon ends'}", True
    elif outcome.locked:
        reason, interrupted = "another daemon has taken over", True
    elif outcome.failed is not None:
        reason = f"cannot start {where}: {_why(outcome.failed, outcome.step)}"
        interrupted = outcome.failed in SHORT_OF_RESOURCES
    elif outcome.lost:
        reason, interrupted = outcome.lost, True
    else:
        reason = _end(outcome)
        patient = outcome.exit_status == _EX_TEMPFAIL
        if outcome.exit_status == 0:
            kind = Kind.DONE
        elif outcome.exit_status == _EX_DATAERR:
            kind = Kind.DEAD
    return Verdict(
        kind=kind,
        reason=reason,
        started=started,
        ended=ended,
        exit_status=outcome.exit_status,
        signal=outcome.signal,
        output=outcome.output,
        truncated=outcome.truncated,
        patient=patient,
        interrupted=interrupted,
    )


def _end(outcome: Outcome) -> str:
    if outcome.signal is not None:
        try:
            name = signal.Signals(outcome.signal).name
        except ValueError:  # a real-time signal has no name
            name = str(outcome.signal)
        return f"ended by signal {name}"
    if outcome.exit_status is not None:
        return f"exit status {outcome.exit_status}"
    return outcome.lost or "its end was not seen"


def _why(number: int, step: str) -> str:
    if step != "command":
        return f"its {step} cannot be set: {os.strerror(number)}"
    hints = {
        errno.ENOENT: "it, or the interpreter in its first line, does not exist",
        errno.EACCES: "it is not executable (chmod +x)",
        errno.ENOEXEC: "it is no program, and has no #! line",
    }
    hint = hints.get(number)
    return f"{os.strerror(number)}" + (f" ({hint})" if hint else "")
