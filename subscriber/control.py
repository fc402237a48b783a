"""The control socket of a running daemon: how verbs that write reach the one who may.

    STORE.control      unix stream socket beside the store, mode 0600

One request per connection: a JSON object on one line, answered by one. Only root and the user that
the daemon runs as are heard; the kernel says who it is (SO_PEERCRED). Requests have at most 64 KiB
and 2 s, answers 16 MiB: one request may release what is held of very many branches.

    -> {"verb":"accept","target":"team/app","branch":null,"journal":null}
    <- {"rows":[…]}      or {"error":"…","hint":"…"}
"""

import contextlib
import json
import logging
import os
import pwd
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, Stop, fields

MAX_LINE = 65_536
MAX_ANSWER = 1 << 24
SECONDS = 2.0
ANSWER_SECONDS = 30.0
"""How long a verb waits for the daemon, which may be waiting for its disk."""

_CREDENTIALS = struct.Struct("3i")

Rows = list[dict[str, object]]
Handle = Callable[[Mapping[str, object], str], Rows]
"""A request and who sent it -> what was done. Raises ServiceError."""

log = logging.getLogger(f"{ROOT}.control")


class Control:
    """The daemon's end. The caller holds the store's lock, so that an old socket is nobody's."""

    def __init__(self, path: Path, handle: Handle) -> None:
        self._path = path
        self._handle = handle
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        try:
            with _folder(path) as name:
                self._socket.bind(name)
            path.chmod(0o600)  # before it listens nobody can connect
            self._socket.listen(8)
        except OSError as error:
            self._socket.close()
            hint = "the folder of the store must be writable for the daemon's user"
            raise ServiceError(f"{path}: {error.strerror}", hint=hint) from None

    def run(self, stop: Stop) -> None:
        """Answer until `stop`."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(stop.fileno(), select.POLLIN)
        while not stop.is_set():
            ready = {fd for fd, _ in poll.poll()}
            if self._socket.fileno() in ready:
                connection, _ = self._socket.accept()
                with connection:
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        uid = _uid(connection)
        if uid not in {0, os.geteuid()}:
            log.warning("control request refused", extra=fields(uid=uid))
            return
        try:
            connection.sendall(self._answer(_line(connection), _user(uid)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            log.warning("control request not answered", extra=fields(reason=str(error)))

    def _answer(self, line: bytes, who: str) -> bytes:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise TypeError("not an object")
        answer: dict[str, object]
        try:
            answer = {"rows": self._handle(request, who)}
        except ServiceError as error:
            answer = {"error": str(error), "hint": error.hint}
        return json.dumps(answer).encode() + b"\n"

    def close(self) -> None:
        """Nobody can ask any more."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def ask(path: Path, request: Mapping[str, object]) -> Rows | None:
    """What the daemon answers; None when none listens. Raises ServiceError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with _folder(path) as name:
                connection.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            hint = "run this as the daemon's user"
            raise ServiceError(f"{path}: {error.strerror or error}", hint=hint) from None
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(connection, MAX_ANSWER))
        except (OSError, ValueError) as error:
            hint = "it hears only its own user and root; see its log"
            raise ServiceError(f"{path}: the daemon did not answer: {error}", hint=hint) from None
    if "error" in answer:
        raise ServiceError(answer["error"], hint=answer.get("hint", ""))
    rows: Rows = answer["rows"]
    return rows


def own_name() -> str:
    """Who runs this process; with sudo, also who that was before."""
    name = _user(os.geteuid())
    before = os.environ.get("SUDO_USER")
    return f"{name} (sudo: {before})" if before else name


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _uid(connection: socket.socket) -> int:
    given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(given)[1]
    return uid


def _line(connection: socket.socket, most: int = MAX_LINE) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        if len(data) >= most:
            raise ValueError(f"longer than {most} bytes")
        received = connection.recv(MAX_LINE)
        if not received:
            raise ValueError("ended in the middle")
        data += received
    return data


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[str]:
    """A name of at most 107 bytes for a socket in a folder with a long one."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
