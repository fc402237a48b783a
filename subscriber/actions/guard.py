"""The runner: a small process between the daemon and one command, so that no command outlives it.

    python -I -S guard.py CONTROL LOCK LIMIT GRACE FILES COMMAND [ARGUMENT…]

CONTROL is the number of a stream socket to the daemon. Over it comes the command's environment,
`NAME=value` items each followed by NUL, and an empty item. The end of the stream then means "stop":
the daemon wants it, or is dead. Back go lines:

    locked              another daemon has taken over; nothing was started
    failed ERRNO        it could not be started; nothing more follows
    started PID         it runs, in a session and process group of its own
    expired | stopped   the group was told to end, by the time limit or by the end of the stream
    exit N | signal N   how it ended; the last line, sent when nothing of its group is left

LOCK is a file that is share-locked as long as the command may run (empty: none); a new daemon takes
it exclusively before it starts anything. LIMIT and GRACE are seconds. FILES is how many files the
command may have open (empty: as many as we). Only the standard library is used, and of that what
loads in milliseconds.
"""
# pathlib takes longer to load than everything else here together.
# ruff: noqa: PTH110, PTH123, PTH208

import contextlib
import fcntl
import os
import resource
import select
import signal
import sys
import time

_TO_DEFAULT = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
_LOOK_AGAIN = 0.02


class Control:
    """The daemon's end of the stream, seen from here. A daemon that is gone is no error."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_inheritable(fd, False)  # noqa: FBT003 - its only form

    def environment(self) -> dict[bytes, bytes] | None:
        """What the command shall see; None when the stream ended before it was told."""
        data = b""
        while not data.endswith(b"\0\0"):
            chunk = os.read(self.fd, 65536)
            if not chunk:
                return None
            data += chunk
        pairs = (item.partition(b"=") for item in data[:-2].split(b"\0"))
        return {name: value for name, _, value in pairs}

    def tell(self, line: str) -> None:
        """Report one line."""
        with contextlib.suppress(OSError):
            os.write(self.fd, line.encode() + b"\n")

    def ended(self) -> bool:
        """Whether the command is not wanted any more."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(0))


class Group:
    """The command and whatever it left in its process group."""

    def __init__(self, pid: int, grace: float) -> None:
        self.pid = pid
        self._grace = grace
        self._kill_at: float | None = None

    def stop(self) -> None:
        """Ask politely now, insist after the grace."""
        if self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + self._grace

    def insist(self) -> float | None:
        """Kill when the grace is over; returns the seconds until then, None when never."""
        if self._kill_at is None:
            return None
        left = self._kill_at - time.monotonic()
        if left <= 0:
            self._signal(signal.SIGKILL)
            return _LOOK_AGAIN
        return left

    def ended(self) -> bool:
        """Whether the command itself ended; it stays unreaped, so that its number stays its own."""
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, how) is not None

    def reap(self) -> str:
        """The command's end as a report, after what is left of its group was ended too.

        What even SIGKILL does not remove in another grace (a process in the kernel's hands) is left
        behind.
        """
        self.stop()
        _, status = os.waitpid(self.pid, 0)
        give_up = time.monotonic() + 2 * self._grace + 1
        while self._signal(0) and not self._dead() and time.monotonic() < give_up:
            self.insist()
            time.sleep(_LOOK_AGAIN)
        if os.WIFSIGNALED(status):
            return f"signal {os.WTERMSIG(status)}"
        return f"exit {os.WEXITSTATUS(status)}"

    def _dead(self) -> bool:
        """Whether the group is all zombies, which a container without an init process keeps.

        /proc/PID/stat: `PID (name) state parent group …`; without /proc the answer is no.
        """
        if not os.path.exists("/proc/self/stat"):
            return False
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                state, _, group = file.read().rpartition(b")")[2].split()[:3]
                if int(group) == self.pid and state not in {b"Z", b"X"}:
                    return False
        return True

    def _signal(self, number: int) -> bool:
        """Send to the whole group; False when there is none any more."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # what is left changed its user, or is a zombie (Darwin)
            return number != 0
        return True


def take_lock(path: str) -> bool:
    """Share-lock the file for as long as this process lives.

    False: another daemon has it exclusively. Then ours is dead, and nothing may be started.
    """
    if not path:
        return True
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(command: list[str], environment: dict[bytes, bytes]) -> int:
    """Start the command on our standard streams; raises OSError as exec did."""
    path = environment.get(b"PATH")
    if path is not None:
        os.environb[b"PATH"] = path  # where the search looks is our own environment
    return os.posix_spawnp(
        command[0], command, environment, setsid=True, setsigmask=[], setsigdef=_TO_DEFAULT
    )


def watch(control: Control, group: Group, limit: float, wake: int) -> None:
    """Returns when the command itself ended; meanwhile keeps the time limit, obeys the daemon."""
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    poller.register(control.fd, select.POLLIN)
    expires: float | None = time.monotonic() + limit
    while not group.ended():
        left = None if expires is None else expires - time.monotonic()
        if left is not None and left <= 0:
            control.tell("expired")
            group.stop()
            expires, left = None, None
        waits = [each for each in (left, group.insist()) if each is not None]
        for fd, _ in poller.poll(min(waits) * 1000 + 1 if waits else None):
            if fd == wake:
                os.read(wake, 4096)
            else:
                poller.unregister(fd)
                control.tell("stopped")
                group.stop()


def _release_streams() -> None:
    """Give up our copies of the command's streams, so that their ends are the command's."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def main(arguments: list[str]) -> int:
    """Run one command; returns 0, since what happened was reported."""
    control = Control(int(arguments[0]))
    lock, limit, grace, files = arguments[1:5]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides; its end is noticed here
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # Order: lock, then see that the daemon lives, then start. A daemon that died before the lock is
    # noticed here; one that dies after it leaves a lock that its successor waits for.
    if not take_lock(lock):
        control.tell("locked")
        return 0
    environment = control.environment()
    if environment is None or control.ended():
        control.tell("stopped")
        return 0
    if files:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), hard))
    try:
        group = Group(start(arguments[5:], environment), float(grace))
    except OSError as error:
        control.tell(f"failed {error.errno}")
        return 0
    control.tell(f"started {group.pid}")
    _release_streams()
    watch(control, group, float(limit), wake)
    control.tell(group.reap())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
