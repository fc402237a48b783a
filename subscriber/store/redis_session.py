"""Talking to the server of a store: one library of functions, one call for each step.

The library is loaded where it is missing or older, by whoever may; programs of several versions
can share a store while they are being replaced, because a newer library does what an older
program asks. After an error nothing is repeated here: the next call begins with a new connection,
and asks again what is there.
"""

import re
import threading
import time
from importlib import resources
from typing import Any, cast

import redis

from hgext_zmqhooks.service.clock import boot_clock as ticks
from hgext_zmqhooks.service.redis_client import TIMEOUT, RedisAddress, connect, explain

from . import redis_forms as forms
from .errors import NoStore, StoreError

FILES = ("redis.lua", "redis_intake.lua", "redis_engine.lua", "redis_reader.lua")
PREFIX = "zmqhooks1_"
FORMAT = 1
MEASURE_SECONDS = 60.0
"""After so long the server is asked for its time again."""
MOST_SLEW = 0.05
"""Seconds by which our clock follows the server's each time, unless it is another server."""

AGREES = 1.0
"""Seconds by which two clocks that tell the same time may differ."""

_ABSENT = "Function not found"


def library() -> str:
    """The text that FUNCTION LOAD takes."""
    folder = resources.files(__package__)
    first, *others = (folder.joinpath(name).read_text() for name in FILES)
    engine = others.pop(FILES.index("redis_engine.lua") - 1)
    return "\n".join([first, engine, *others])


def revision(text: str) -> int:
    """The revision that a library says it has."""
    found = re.search(r"^local REVISION = ([0-9]+)", text, re.MULTILINE)
    assert found is not None, "redis.lua names no revision"
    return int(found[1])


def key_prefix(name: str) -> str:
    """How every key of a subscriber's store begins: with its hash tag.

    >>> key_prefix("ci")
    '{zmqhooks:ci}'
    """
    return f"{{zmqhooks:{name}}}"


class Clock:
    """The server's unix seconds, carried on by a clock of ours that nobody can set.

    The server may have its clock set: we follow it only slowly, so that no lease ends by that.
    Another server, or the same one after a restart, is believed at once, and so is one with which
    the host's own clock agrees.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._measured = 0.0

    def now(self) -> float:
        """Seconds; measured before."""
        assert self._offset is not None, "the clock was not measured"
        return self._offset + ticks()

    @property
    def is_due(self) -> bool:
        """Whether the last measurement is long ago."""
        return ticks() - self._measured >= MEASURE_SECONDS

    def measure(self, client: redis.Redis, *, fresh: bool) -> None:
        """Ask the server, and believe the fastest of three answers."""
        _, offset = min(self._ask(client) for _ in range(3))
        if self._offset is not None and not fresh and not self._stood_still(offset):
            offset = self._offset + max(-MOST_SLEW, min(offset - self._offset, MOST_SLEW))
        self._offset, self._measured = offset, ticks()

    def _stood_still(self, offset: float) -> bool:
        """Whether it is ours that is wrong: the wall clock of this host agrees with the server.

        A virtual machine that was paused goes on with ticks that stood still meanwhile.
        """
        assert self._offset is not None
        wall = time.time() - ticks()
        return abs(offset - self._offset) > AGREES and abs(offset - wall) < AGREES

    def _ask(self, client: redis.Redis) -> tuple[float, float]:
        before = ticks()
        seconds, micros = client.time()
        after = ticks()
        return after - before, seconds + micros / 1e6 - (before + after) / 2


class Session:
    """The store of one name on one server, for any number of threads.

    `writes`: it may make the store and load the library.
    """

    def __init__(
        self, address: RedisAddress, name: str, *, writes: bool, timeout: float = TIMEOUT
    ) -> None:
        self.file = str(address)
        self.clock = Clock()
        self._key = key_prefix(name)
        self._writes = writes
        self._client = connect(address, name=f"zmqhooks:{name}", timeout=timeout)
        self._lock = threading.Lock()
        self._ready = self._closed = False
        self._identity: str | None = None
        self._process: str | None = None

    def open(self) -> None:
        """Connect and look; StoreError if the store cannot be used."""
        self._run(lambda: None)

    def do(self, function: str, *blobs: bytes, **given: object) -> Any:
        """One step, which may write."""
        packed = forms.pack({"store": self._identity, **given})
        return self._run(
            lambda: self._client.fcall(PREFIX + function, 1, self._key, packed, *blobs)
        )

    def ask(self, function: str, **given: object) -> Any:
        """One question."""
        packed = forms.pack({"store": self._identity, **given})
        return self._run(lambda: self._client.fcall_ro(PREFIX + function, 1, self._key, packed))

    def identity(self) -> str:
        """The id of the store."""
        assert self._identity is not None, "the session was not opened"
        return self._identity

    def close(self) -> None:
        """End all connections. A second call does nothing."""
        self._closed = True
        self._client.close()

    def _run(self, command: Any) -> Any:
        if self._closed:
            raise StoreError(self.file, "it is closed")
        try:
            if not self._ready or self.clock.is_due:
                with self._lock:
                    self._prepare()
            return command()
        except redis.RedisError as error:
            self._ready = False
            if str(error).startswith("OTHERSTORE"):
                raise self._other(None) from None
            raise StoreError(self.file, *explain(error)) from error

    def _prepare(self) -> None:
        """See what is there, after an error or before the first call."""
        process = self._process
        if not self._ready:
            self._check(*self._look())
            process = str(self._client.info("server").get("run_id"))
        other = process != self._process
        if other or self.clock.is_due:
            self.clock.measure(self._client, fresh=other)
        # An error alone says nothing of the clock: only another process may have another time.
        self._process, self._ready = process, True

    def _look(self) -> tuple[int, bytes | None, int]:
        found = self._hello()
        text = library()
        if self._writes and (found is None or found[0] < revision(text)):
            self._load(text)
            found = self._hello()
        if self._identity is None and (found is None or found[1] is None):
            raise NoStore(self.file)
        return found or (0, None, FORMAT)

    def _hello(self) -> tuple[int, bytes | None, int] | None:
        """Revision of the library, id and format of the store; None without a library."""
        try:
            if self._writes:
                fresh = {} if self._identity else {"identity": forms.new_identity()}
                answer = self._client.fcall(PREFIX + "open", 1, self._key, forms.pack(fresh))
            else:
                answer = self._client.fcall_ro(PREFIX + "peek", 1, self._key, forms.pack({}))
        except redis.ResponseError as error:
            if _ABSENT in str(error):
                return None
            raise
        return cast("tuple[int, bytes | None, int]", answer)

    def _load(self, text: str) -> None:
        try:
            self._client.function_load(text, replace=True)
        except redis.exceptions.NoPermissionError as error:
            hint = (
                "as its administrator: zmq-subscriber init --library"
                " | redis-cli -x FUNCTION LOAD REPLACE"
            )
            reason = "the library of functions is missing or too old, and our user may not load it"
            raise StoreError(self.file, reason, hint) from error

    def _check(self, _: int, identity: bytes | None, found: int) -> None:
        if found > FORMAT:
            raise StoreError(
                self.file,
                f"it has format {found}, this program knows up to {FORMAT}",
                "use the version of zmq-subscriber that wrote it, or a newer one",
            )
        known = (identity or b"").decode()
        if self._identity not in {None, known}:
            raise self._other(known)
        self._identity = known

    def _other(self, known: str | None) -> StoreError:
        return StoreError(
            self.file,
            f"it is another store now: its id was {self._identity}"
            + (f", and is {known}" if known else ""),
            "was the server emptied, or another one put in its place? If so on purpose,"
            " restart the daemon",
        )
