"""How a loop that waits is called, from any thread."""

import contextlib
import os
import select

from hgext_zmqhooks.service.life import Stop


class Wake:
    """A call that a loop waits for; calls before the wait are not lost, many count as one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def call(self) -> None:
        """Wake who waits, or who waits next. From any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"w")

    def wait(self, seconds: float, stop: Stop | None = None) -> None:
        """Until a call, `stop`, or the time is over."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if stop is not None:
            poll.register(stop, select.POLLIN)
        # Rounded up: a wait that ends a little before what it waits for is followed by another.
        poll.poll(max(0, int(seconds * 1000) + 1))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)
