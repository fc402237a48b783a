"""A TCP proxy between a subscriber and a relay that makes trouble when it is told to.

    with Proxy(("127.0.0.1", 5701)) as proxy:
        connect to ("127.0.0.1", proxy.port)
        proxy.delay = 0.05             each piece of at most PIECE bytes waits up to twice that
        proxy.loss = 0.2               this share of the pieces vanishes, in the midst of the stream
        proxy.stall(UP)                nothing more in this direction; `go_on` ends it
        proxy.cut()                    all connections end, new ones are refused; `mend` ends it
        proxy.hold(2)                  the next two connections wait until a later one was served

`count` tells how often each kind of trouble happened, so that a test can see that there was some.
"""

import contextlib
import random
import socket
import threading
from collections import Counter
from typing import Self

UP, DOWN = "up", "down"
"""To the relay; to the subscriber."""
PIECE = 1400
SERVED = 4096
"""Bytes to the subscriber after which a connection counts as served."""


class Proxy:
    """Threads: one accepts, two for each connection."""

    def __init__(self, target: tuple[str, int], seed: int = 1) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._links: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._gates = {UP: threading.Event(), DOWN: threading.Event()}
        self._served = threading.Event()
        self._over = threading.Event()
        self._whole = True
        self._held = 0
        self.delay = self.loss = 0.0
        self.count: Counter[str] = Counter()
        self.go_on()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.go_on()
        self._served.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    # Trouble

    def stall(self, direction: str) -> None:
        self._gates[direction].clear()

    def go_on(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def cut(self) -> None:
        self._whole = False
        self.count["cut"] += self._close_all()

    def mend(self) -> None:
        self._whole = True

    def hold(self, connections: int) -> None:
        self._served.clear()
        self._held = connections

    # Connections

    def _spawn(self, target, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _close_all(self) -> int:
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        return len(links)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole:
                self.count["refused"] += 1
                near.close()
                continue
            held = self._held > 0
            self._held -= held
            self._spawn(self._link, near, held)

    def _link(self, near: socket.socket, held: bool) -> None:
        if held:
            self.count["held"] += 1
            self._served.wait()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        with self._lock:
            self._links |= {near, far}
        if self._over.is_set() or not self._whole:
            self._close_all()
        self._spawn(self._pump, far, near, DOWN)
        self._pump(near, far, UP)

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        total = 0
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                if not self._gates[direction].is_set():
                    self.count["stalled"] += 1
                    self._gates[direction].wait()
                if self.delay:
                    self.count["delayed"] += 1
                    self._over.wait(self._random.uniform(0, 2 * self.delay))
                if self._random.random() < self.loss:
                    self.count["lost"] += 1
                    continue
                sink.sendall(data)
                total += len(data)
                if direction == DOWN and total > SERVED:
                    self._served.set()
        self._end(source, sink)

    def _end(self, *links: socket.socket) -> None:
        with self._lock:
            self._links -= set(links)
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
