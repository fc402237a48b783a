"""The signatures of a batch, verified by another process while the intake has other work.

    begin(batch n + 1)      the process verifies it meanwhile
    judge and store batch n
    answers(batch n + 1)    by now they are there, most of them

A process and not a thread: all threads of a Python process share one interpreter, and a thread that
verifies has to win it back after each signature, from the intake that is busy judging.

The process is a help and no more. It is started when the first batch comes that is worth it. What
it does not answer, because it was killed or hangs, the intake verifies itself: nothing is taken
unverified, and no batch waits for ever. Only signatures are looked at here; what a bad one means is
said in `admit`, when it is the record's turn.
"""

import contextlib
import hashlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hgext_zmqhooks.service.life import ROOT, fields
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.session import Events
from subscriber.intake import signatures
from subscriber.intake.signatures import Signed

WORKERS = 1
"""Processes that verify: one does it in less time than the intake needs to judge and store."""
FEW = 25
"""Records that the intake verifies itself: an event of a moment ago need not go out and back."""
PATIENCE = 5.0
"""Seconds that the process may take for a batch, a third of the silence that ends a session."""
PAUSE = 30.0
"""Seconds without a process after one was lost, so that one that cannot live is not a burden."""
BUFFER = 2_097_152
"""Bytes that may wait for the process, as far as the system allows: a batch, if it can be."""

_TOP = str(Path(__file__).parents[2])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from subscriber.intake.signatures import serve; serve(int(sys.argv[2]))"
)


class Pending:
    """Signatures of a batch that were asked for; `answer` is there when the process gave it."""

    def __init__(self, sequences: Sequence[int], records: Sequence[Signed]) -> None:
        self.sequences = sequences
        self.records = records
        self.answer: bytes | None = None
        self.worker: Worker | None = None


class Worker:
    """One verifying process. OSError from any method means that it is lost."""

    def __init__(self) -> None:
        self._stream, theirs = socket.socketpair()
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._stream.settimeout(PATIENCE)
        with theirs:
            try:
                self._process = _start(theirs.fileno())
            except OSError:
                self._stream.close()
                raise
        self._asked: deque[Pending] = deque()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, pending: Pending) -> None:
        """Send a batch; the answers come in the order of the questions."""
        self._stream.sendall(signatures.request(pending.records))
        self._asked.append(pending)

    def wait(self, pending: Pending) -> None:
        """Read answers until this one is there."""
        while pending.answer is None:
            first = self._asked[0]
            first.answer = self._read(len(first.records))
            self._asked.popleft()

    def _read(self, count: int) -> bytes:
        answer = b""
        while len(answer) < count:
            some = self._stream.recv(count - len(answer))
            if not some:
                raise ConnectionResetError("it has ended")
            answer += some
        return answer

    def end(self, grace: float = 0.0) -> None:
        """Close the stream, which ends the process; kill it if it has not ended in time."""
        self._stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
            return
        self._process.kill()
        self._process.wait()


def _start(fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _PROGRAM, _TOP, str(fd)],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


class Verifier:
    """The verifying process, shared by all intakes of a daemon."""

    def __init__(self, tick: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._not_before = tick()
        self._log = logging.getLogger(f"{ROOT}.intake")

    def begin(self, batch: Events, keyring: Keyring) -> Pending:
        """Ask for the signatures of a batch and do not wait.

        Left out are records whose certificate is not in the batch, or not to be trusted.
        """
        keys = _keys(batch.certificates, keyring)
        records = [record for record in batch.records if record.certificate in keys]
        pending = Pending(
            [record.sequence for record in records],
            [(keys[record.certificate], record.signature, record.event) for record in records],
        )
        if len(records) > FEW:
            with self._lock:
                self._ask(pending)
        return pending

    def answers(self, pending: Pending) -> Mapping[int, bool]:
        """Whether the signatures are good, by sequence."""
        with self._lock:
            self._await(pending)
        answer = pending.answer
        if answer is None:
            answer = bytes([signatures.good(*record) for record in pending.records])
        return {sequence: one == 1 for sequence, one in zip(pending.sequences, answer, strict=True)}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.end(PATIENCE)

    def _ask(self, pending: Pending) -> None:
        try:
            if self._worker is None:
                if self._tick() < self._not_before:
                    return
                self._worker = Worker()
            self._worker.ask(pending)
            pending.worker = self._worker
        except OSError as error:
            self._lost(error)

    def _await(self, pending: Pending) -> None:
        if pending.answer is None and pending.worker is not None and pending.worker is self._worker:
            try:
                pending.worker.wait(pending)
            except OSError as error:
                self._lost(error)

    def _lost(self, error: OSError) -> None:
        """Go on without it for a while; what it was asked and did not answer is verified here."""
        worker, self._worker = self._worker, None
        self._not_before = self._tick() + PAUSE
        said = fields(pid=worker.pid if worker else None, reason=error, retry=f"{PAUSE:g}s")
        self._log.warning("the process that verifies signatures is lost", extra=said)
        if worker is not None:
            worker.end()


def _keys(tokens: Sequence[bytes], keyring: Keyring) -> dict[str, bytes]:
    """The public keys in the certificates of a batch, by the SHA-256 of their tokens."""
    keys = {}
    for token in tokens:
        try:
            keys[hashlib.sha256(token).hexdigest()] = keyring.certificate(token).public
        except Refused:
            continue
    return keys
