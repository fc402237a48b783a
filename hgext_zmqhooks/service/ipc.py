"""Sockets on ipc paths: files that only one daemon serves, and that one group may use.

A second bind on an ipc path steals it without an error, so a lock file `<path>.lock` is held for
life. Its first line is the holder's pid, the others the endpoints where it serves subscribers.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import zmq

from .access import check_socket_folder, group_id, obstacle, socket_remedy
from .endpoints import Endpoint, check_endpoint
from .errors import ServiceError

DIRECTORY_MODE = 0o2750
SOCKET_MODE = 0o660


class AlreadyServed(ServiceError):  # noqa: N818 - a finding, read as a sentence
    """Another daemon serves this ipc path."""

    def __init__(self, path: str, pid: str, serves: Sequence[str]) -> None:
        if serves:
            hint = "to receive events from it, have these lines instead of `relay:`\n"
        else:
            hint = (
                "it has no subscribe endpoint. Add one to its configuration (`subscribe: "
                f"[ipc://{Path(path).with_name('subscribe')}]`), then have these lines here "
                "instead of `relay:`\n"
            )
        address = serves[0] if serves else f"ipc://{Path(path).with_name('subscribe')}"
        super().__init__(
            f"ipc://{path} is already served by pid {pid}",
            hint=f"{hint}relays:\n  - {{address: {address}}}",
        )
        self.path = path
        self.pid = pid


class IpcLock:
    """`<path>.lock`, held from before the bind to after the socket is gone: see `lock_ipc`.

    The file stays when the daemon ends: removing it would let two daemons lock two files of the
    same name.
    """

    def __init__(self, endpoint: Endpoint, gid: int | None, serves: Sequence[str]) -> None:
        self.endpoint = endpoint
        self.gid = gid
        path = endpoint.path
        self._fd = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lines = os.pread(self._fd, 4096, 0).decode("utf-8", "replace").splitlines()
            os.close(self._fd)
            raise AlreadyServed(path, lines[0] if lines else "unknown", lines[1:]) from None
        # Who may open it, if only for reading, could hold the lock and keep every daemon away.
        os.fchmod(self._fd, 0o600)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, "".join(f"{line}\n" for line in [os.getpid(), *serves]).encode(), 0)

    def close(self) -> None:
        """Take the socket's file away, which libzmq leaves, and let another daemon serve the path.

        From the first on, who connects is told at once that nobody listens.
        """
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.endpoint.path)  # noqa: PTH108
            os.close(self._fd)
            self._fd = -1


def lock_ipc(
    endpoint: Endpoint, *, group: str | None = None, serves: Sequence[str] = ()
) -> IpcLock:
    """Become the only server of an ipc path; without the lock it cannot be bound.

    Its directory is made 2750 with `group`; one that everyone may write is refused, and one that
    is closed to `group`. `serves`: where
    a second subscriber on this machine may connect, for the hint of AlreadyServed. ServiceError
    for all that can be wrong.
    """
    gid = group_id(endpoint, group)
    try:
        _prepare_directory(os.path.dirname(endpoint.path), gid)  # noqa: PTH120 - kept as given
        return IpcLock(endpoint, gid, serves)
    except OSError as error:
        raise cannot_serve(endpoint, error) from None


def check_ipc(endpoint: Endpoint, group: str | None = None) -> None:
    """What `lock_ipc` would say, as far as it can be said without making anything. ServiceError."""
    gid = group_id(endpoint, group)
    folder = Path(endpoint.path).parent
    there = os.path.isdir(folder)  # noqa: PTH112 - Path.is_dir raises where a folder is closed
    if there:
        check_socket_folder(str(folder), gid)
    closed = obstacle(endpoint.path + ".lock" if there else folder, os.W_OK, make=True)
    if closed:
        raise ServiceError(f"{endpoint}: cannot be served: {closed}", hint=socket_remedy(closed))


def bind_ipc(socket: "zmq.Socket[bytes]", lock: IpcLock) -> None:
    """Bind the path of a lock: mode 0660 from its first moment, so its group may connect."""
    try:
        with _umask(0o777 & ~SOCKET_MODE):
            socket.bind(lock.endpoint)
        if lock.gid is not None:
            os.chown(lock.endpoint.path, -1, lock.gid)
    except (OSError, zmq.ZMQError) as error:
        raise cannot_serve(lock.endpoint, error) from None


def publish_certificate(endpoint: str, token: bytes) -> None:
    """Leave the server's certificate beside its ipc socket, where clients look for it."""
    path = Path(check_endpoint(endpoint).path + ".cert")
    part = path.with_name(path.name + ".new")
    with _umask(0o027):
        part.write_bytes(token + b"\n")
    part.replace(path)


def read_certificate(endpoint: str) -> bytes | None:
    """The certificate beside an ipc socket, not yet checked; None while there is none."""
    try:
        with open(check_endpoint(endpoint).path + ".cert", "rb") as stream:  # noqa: PTH123
            return stream.read(65536).strip()
    except OSError:
        return None


def _prepare_directory(directory: str, gid: int | None) -> None:
    try:
        os.mkdir(directory, 0o700)  # noqa: PTH102 - the parent must be there
    except FileExistsError:
        check_socket_folder(directory, gid)
        return
    if gid is not None:
        os.chown(directory, -1, gid)
    os.chmod(directory, DIRECTORY_MODE)  # noqa: PTH101


def cannot_serve(endpoint: str, error: OSError | zmq.ZMQError) -> ServiceError:
    """What is said when an endpoint cannot be bound, with a hint."""
    reason = error.strerror or str(error)
    hint = "is it another daemon's?" if error.errno == zmq.EADDRINUSE else ""
    if isinstance(error, PermissionError | FileNotFoundError):
        path = error.filename or check_endpoint(endpoint).path
        reason = obstacle(path, os.W_OK, make=True) or f"{path}: {reason}"
        hint = socket_remedy(reason)
    return ServiceError(f"{endpoint}: cannot be served: {reason}", hint=hint)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    # libzmq makes the socket's file inside bind, in this thread; there is no option for its mode.
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
