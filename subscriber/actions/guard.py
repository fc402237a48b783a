"""The runner: a small process between the daemon and one command, so that no command outlives it.

    python -I -S guard.py CONTROL LOCK LIMIT GRACE SETUP COMMAND [ARGUMENT…]

CONTROL is the number of a stream socket to the daemon. Over it comes the command's environment,
`NAME=value` items each followed by NUL, and an empty item; then lines `until SECONDS`: the lease
lasts until then, on the clock of the host (`clock`). The group gets SIGTERM so long before that end
that SIGKILL, after the grace, still comes before it, unless a later end is told: a daemon that was
stopped, or cut off, leaves nothing running beside who has the lease then. The end of the stream
means "stop": the daemon wants it, or is dead. Back go lines:

    locked              another daemon has taken over; nothing was started
    failed ERRNO STEP   it could not be started, at the step limits, user or command; nothing more
                        follows
    started PID         it runs, in a session and process group of its own
    expired | late | stopped
                        the group was told to end, by the time limit, before the end of the lease,
                        or by the end of the stream; `late` alone: nothing was started
    exit N | signal N   how it ended; the last line, sent when nothing of its group is left

LOCK is a file that is share-locked as long as the command may run (empty: none); a new daemon takes
it exclusively before it starts anything. LIMIT and GRACE are seconds. SETUP is what the command
starts with, `NAME=VALUE` with commas between: memory (bytes of address space), cpu (seconds),
files, processes; soft-files, a limit that the command may raise again; user, as UID:GID:GROUP:…
Only the standard library is used, and of that what loads in milliseconds.
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
import warnings  # noqa: F401 - os.execvpe loads it, which the command's user perhaps may not read

_TO_DEFAULT = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
_LOOK_AGAIN = 0.02
_FOR_EVER = float("inf")
_MARGIN = 1.0
"""Seconds between SIGKILL and the end of the lease: for the kernel, and for a busy host."""
_NOTICE = 1.0
"""Seconds after which the clock is looked at again: a poll does not count the sleep of a host."""
_LIMITS = {
    "memory": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}
_BEFORE_KILL = 5
"""Seconds of processor time between SIGXCPU and SIGKILL."""


def clock() -> float:
    """Seconds that the daemon counts too, and that go on while the host sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """Until when the group may be there; for ever as long as nothing was told."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.stop_at = self.kill_at = _FOR_EVER

    def until(self, end: float) -> None:
        """It lasts until `end`. Where it is short, so are grace and margin."""
        span = max(0.0, end - clock())
        self.kill_at = end - min(_MARGIN, span / 10)
        self.stop_at = self.kill_at - min(self.grace, span / 4)

    def over(self) -> bool:
        """Whether it is time to stop."""
        return clock() >= self.stop_at


class Control:
    """The daemon's end of the stream, seen from here. A daemon that is gone is no error.

    `ended`: the command is not wanted any more.
    """

    def __init__(self, fd: int, lease: Lease) -> None:
        self.fd = fd
        self.ended = False
        self._lease = lease
        self._news = b""
        os.set_inheritable(fd, False)  # noqa: FBT003 - its only form

    def environment(self) -> dict[bytes, bytes] | None:
        """What the command shall see; None when the stream ended before it was told."""
        data = b""
        while b"\0\0" not in data:
            chunk = os.read(self.fd, 65536)
            if not chunk:
                return None
            data += chunk
        told, _, self._news = data.partition(b"\0\0")
        pairs = (item.partition(b"=") for item in told.split(b"\0"))
        return {name: value for name, _, value in pairs}

    def tell(self, line: str) -> None:
        """Report one line."""
        with contextlib.suppress(OSError):
            os.write(self.fd, line.encode() + b"\n")

    def listen(self) -> None:
        """Take what was said until now."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while not self.ended and poller.poll(0):
            chunk = b""
            with contextlib.suppress(OSError):
                chunk = os.read(self.fd, 4096)
            self.ended = not chunk
            self._news += chunk
        *lines, self._news = self._news.split(b"\n")
        for line in lines:
            self._lease.until(float(line.split()[1]))


class Group:
    """The command and whatever it left in its process group."""

    def __init__(self, pid: int, lease: Lease) -> None:
        self.pid = pid
        self._lease = lease
        self._kill_at: float | None = None

    def stop(self) -> None:
        """Ask politely now, insist after the grace, or sooner where the lease ends."""
        if self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._kill_at = min(clock() + self._lease.grace, self._lease.kill_at)

    def insist(self) -> float | None:
        """Kill when the grace is over; returns the seconds until then, None when never."""
        if self._kill_at is None:
            return None
        left = self._kill_at - clock()
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
        give_up = time.monotonic() + 2 * self._lease.grace + 1
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


class NotStarted(Exception):  # noqa: N818 - a finding, read as a sentence
    """The command does not run: `ERRNO STEP`."""


def start(command: list[str], environment: dict[bytes, bytes], setup: dict[str, str]) -> int:
    """Start the command on our standard streams; returns its number. Raises NotStarted.

    Forked here: what `setup` says must hold for the command and not for us.
    """
    read, write = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:  # no process is left
        raise NotStarted(f"{error.errno} command") from None
    if pid == 0:
        status = 127
        try:
            status = _become(command, environment, setup, write)
        finally:
            os._exit(status)
    os.close(write)
    trouble = os.read(read, 64)  # empty as soon as the command runs: its end closes at exec
    os.close(read)
    if trouble:
        os.waitpid(pid, 0)
        raise NotStarted(trouble.decode())
    return pid


def _become(
    command: list[str], environment: dict[bytes, bytes], setup: dict[str, str], report: int
) -> int:
    """In the new process: be the command, or report why not and return an exit status."""
    step = "command"
    try:
        os.setsid()
        for number in _TO_DEFAULT:
            signal.signal(number, signal.SIG_DFL)
        step = "limits"
        set_limits(setup)
        step = "user"
        set_user(setup)
        step = "command"
        # Where the search looks is the command's PATH.
        os.execvpe(command[0], command, environment)  # noqa: S606 - as the operator wrote it
    except OSError as error:
        os.write(report, f"{error.errno} {step}".encode())
    except (ValueError, OverflowError):  # setrlimit: a lower hard limit, or no number for it
        os.write(report, f"1 {step}".encode())
    return 127


def set_limits(setup: dict[str, str]) -> None:
    """Limits of this process, never above what it may have at most."""
    for name, kind in _LIMITS.items():
        if name in setup:
            wanted, most = int(setup[name]), resource.getrlimit(kind)[1]
            soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
            above = soft + _BEFORE_KILL if name == "cpu" else soft
            hard = above if most == resource.RLIM_INFINITY else min(above, most)
            resource.setrlimit(kind, (soft, hard))
    if "soft-files" in setup:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(setup["soft-files"]), most))


def set_user(setup: dict[str, str]) -> None:
    """Become the user, with its groups and none of ours."""
    if "user" in setup:
        user, group, *groups = map(int, setup["user"].split(":"))
        os.setgroups(groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)


def watch(control: Control, group: Group, lease: Lease, limit: float, wake: int) -> None:
    """Returns when the command itself ended; until then keeps its limits, obeys the daemon."""
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    poller.register(control.fd, select.POLLIN)
    expires = time.monotonic() + limit
    told = False
    while not group.ended():
        if not told and (reason := _reason(control, lease, expires)):
            told = True
            control.tell(reason)
            group.stop()
        if control.ended:
            with contextlib.suppress(KeyError):
                poller.unregister(control.fd)
        for fd, _ in poller.poll(_wait(group, lease, expires, told=told)):
            if fd == wake:
                os.read(wake, 4096)
            else:
                control.listen()


def _reason(control: Control, lease: Lease, expires: float) -> str:
    """Why the group is to end now; empty when it may go on."""
    if lease.over():
        return "late"
    if time.monotonic() >= expires:
        return "expired"
    return "stopped" if control.ended else ""


def _wait(group: Group, lease: Lease, expires: float, *, told: bool) -> float:
    """Milliseconds until something is to be done though nothing happens."""
    if told:
        return (group.insist() or _LOOK_AGAIN) * 1000 + 1
    left = expires - time.monotonic()
    if lease.stop_at < _FOR_EVER:
        left = min(left, lease.stop_at - clock(), _NOTICE)
    return max(0.0, left) * 1000 + 1


def _release_streams() -> None:
    """Give up our copies of the command's streams, so that their ends are the command's."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def main(arguments: list[str]) -> int:
    """Run one command; returns 0, since what happened was reported."""
    lock, limit, grace, said = arguments[1:5]
    lease = Lease(float(grace))
    control = Control(int(arguments[0]), lease)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides; its end is noticed here
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # Order: lock, then see that the daemon lives and has the lease, then start. A daemon that died
    # before the lock is noticed here; one that dies after it leaves a lock that its successor waits
    # for.
    if not take_lock(lock):
        control.tell("locked")
        return 0
    environment = control.environment()
    control.listen()
    if environment is None or control.ended or lease.over():
        control.tell("late" if lease.over() else "stopped")
        return 0
    setup = dict(item.split("=", 1) for item in said.split(",") if item)
    try:
        group = Group(start(arguments[5:], environment, setup), lease)
    except NotStarted as trouble:
        control.tell(f"failed {trouble}")
        return 0
    control.tell(f"started {group.pid}")
    _release_streams()
    watch(control, group, lease, float(limit), wake)
    control.tell(group.reap())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
