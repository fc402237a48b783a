"""Sockets with limits: endpoints, ipc files that only one daemon serves, CURVE, and ZAP.

Measured reasons are in the facts about ZeroMQ; in short:

- A second bind on an ipc path steals it without an error, so a lock file `<path>.lock` is held for
  life. Its first line is the holder's pid, the others the endpoints where it serves subscribers.
- A ZAP handler that dies shuts everyone out, so ours is a thread that no exception ends.
- CURVE without ZAP_ENFORCE_DOMAIN lets anyone in when the handler is absent.
- Only the User-Id that our ZAP answer set may be trusted, and only on a CURVE socket.
"""

import contextlib
import enum
import fcntl
import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import zmq
from zmq.utils import z85

from ..wire.keyfiles import SecretKey
from .access import check_socket_folder, group_id, obstacle, socket_remedy
from .errors import ServiceError
from .life import ROOT, Stop

IPC_PATH_MAX = 107
"""Bytes of a unix socket's path (sun_path less its end mark)."""

HANDSHAKE_IVL = 3000
HEARTBEAT_IVL = 5000
HEARTBEAT_TIMEOUT = 15000
DIRECTORY_MODE = 0o2750
SOCKET_MODE = 0o660
ZAP_DOMAIN = "zmqhooks"
ZAP_ADDRESS = "inproc://zeromq.zap.01"
"""Fixed by RFC 27 of ZeroMQ."""

Policy = Callable[[str, str], "Answer"]
"""(Z85 public key, peer address) -> Answer."""


class Endpoint(str):
    """An address, checked, with its parts: `ipc` with `path`, or `tcp` with `host` and `port`.

    A text itself, so that it can be bound and shown; a type for settings, too.

    >>> Endpoint.parse("tcp://[::1]:5701").host
    '[::1]'
    >>> Endpoint.parse("ipc://run/x")
    Traceback (most recent call last):
    ...
    ValueError: an ipc path is absolute, such as ipc:///run/zmqhooks/publish
    """

    __slots__ = ("host", "path", "port", "transport")

    transport: str
    path: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> "Endpoint":
        """The endpoint; ValueError says what is wrong with it."""
        transport, separator, rest = str(text).partition("://")
        if not isinstance(text, str) or not separator or transport not in {"ipc", "tcp"}:
            raise ValueError("neither ipc:///path nor tcp://host:port")
        endpoint = cls(text)
        endpoint.transport = transport
        endpoint.path, endpoint.host, endpoint.port = "", "", 0
        if transport == "ipc":
            endpoint.path = _ipc_path(rest)
        else:
            endpoint.host, endpoint.port = _tcp_address(rest)
        return endpoint


def check_endpoint(text: str) -> Endpoint:
    """The parts of `ipc:///path` or `tcp://host:port`; ServiceError says what is wrong."""
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise ServiceError(f"{text}: {error}") from None


def _ipc_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise ValueError("an ipc path is absolute, such as ipc:///run/zmqhooks/publish")
    length = len(os.fsencode(path))
    if length > IPC_PATH_MAX:
        raise ValueError(
            f"the path has {length} bytes, and a unix socket takes {IPC_PATH_MAX}: use a shorter"
            " one, such as ipc:///run/zmqhooks/publish"
        )
    return path


def _tcp_address(rest: str) -> tuple[str, int]:
    host, _, port = rest.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ValueError("a tcp endpoint is tcp://host:port")
    return host, int(port)


def limit(socket: "zmq.Socket[bytes]", max_message: int) -> None:
    """Bounds for every socket of a daemon; call it before bind or connect.

    `max_message`: bytes of one frame; a peer that sends more is disconnected. A peer that is
    silent for 15 s, or whose handshake takes 3 s, is too.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_message)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_IVL)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
    socket.setsockopt(zmq.BACKLOG, 1000)
    socket.setsockopt(zmq.IPV6, 1)


def curve_server(socket: "zmq.Socket[bytes]", secret: SecretKey) -> None:
    """Make a socket that binds speak CURVE; needs a running `Zap` on its context."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.curve_secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def curve_client(socket: "zmq.Socket[bytes]", secret: SecretKey, server_key: str) -> None:
    """Make a socket that connects speak CURVE to the holder of `server_key` (Z85) only."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.curve_secret.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, secret.curve_public.encode())


def user_id(frame: zmq.Frame) -> str | None:
    """The Z85 key of the CURVE peer that sent this frame, as our ZAP answer named it."""
    try:
        value = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return str(value) or None


class Answer(enum.Enum):
    """What a policy says to a key that wants to connect."""

    ADMIT = b"200"
    LATER = b"300"
    """Not now; libzmq tries again by itself: unknown or expired, which may change."""
    NEVER = b"400"
    """libzmq gives up until the peer makes a new socket: revoked."""


def admit_any(key: str, address: str) -> Answer:
    """The policy of sessions: HELLO is checked against the key afterwards."""
    del key, address
    return Answer.ADMIT


class Zap(threading.Thread):
    """The ZAP 1.0 handler of one context: CURVE only, User-Id = Z85 public key of the peer.

    Start it before the first CURVE server binds; at most one per context. Whatever the policy
    does, a request is answered (500 when the policy raised) and the thread lives.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", policy: Policy = admit_any):
        super().__init__(name="zap", daemon=True)
        self._policy = policy
        self._stop_asked = Stop()
        self._log = logging.getLogger(f"{ROOT}.zap")
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ZAP_ADDRESS)

    def run(self) -> None:
        """Answer until `close`."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop_asked.fileno(), zmq.POLLIN)
        while not self._stop_asked.is_set():
            poller.poll()
            while self._socket.poll(0):
                self._answer(self._socket.recv_multipart())
        self._shut()

    def _shut(self) -> None:
        # Unbound at once; closing alone frees the address some time later.
        self._socket.unbind(ZAP_ADDRESS)
        self._socket.close()

    def _answer(self, request: list[bytes]) -> None:
        # [route, "", version, request id, domain, address, identity, mechanism, credentials…]
        route, body = request[:2], request[2:]
        try:
            code, user = self._judge(body)
        except Exception:  # noqa: BLE001 - a handler that dies shuts everyone out
            self._log.exception("the policy failed; the peer is not admitted")
            code, user = b"500", b""
        reply = [*route, b"1.0", body[1] if len(body) > 1 else b"", code, b"", user, b""]
        with contextlib.suppress(zmq.ZMQError):  # who asked is gone
            self._socket.send_multipart(reply, zmq.DONTWAIT)

    def _judge(self, body: list[bytes]) -> tuple[bytes, bytes]:
        if len(body) != 7 or body[0] != b"1.0" or body[5] != b"CURVE" or len(body[6]) != 32:
            return b"400", b""
        key = z85.encode(body[6])
        answer = self._policy(key.decode(), body[3].decode("utf-8", "replace"))
        return answer.value, key if answer is Answer.ADMIT else b""

    def close(self) -> None:
        """End the thread; the context may be closed afterwards."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(5)
        elif not self._socket.closed:
            self._shut()


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
        raise _cannot(endpoint, error) from None


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
        raise _cannot(lock.endpoint, error) from None


def bind_tcp(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Bind a tcp endpoint; only CURVE servers may."""
    checked = check_endpoint(endpoint)
    if socket.getsockopt(zmq.MECHANISM) != zmq.CURVE or not socket.getsockopt(zmq.CURVE_SERVER):
        raise ServiceError(
            f"{endpoint}: a tcp endpoint without CURVE would let anyone in",
            hint="give the relay a `key`, or use an ipc endpoint",
        )
    try:
        ipaddress.ip_address(checked.host.strip("[]"))
    except ValueError:
        if checked.host != "*":
            raise ServiceError(
                f"{endpoint}: {checked.host!r} is not an address of this machine",
                hint="write the address in digits, or 0.0.0.0 or [::] for all of them",
            ) from None
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise _cannot(endpoint, error) from None


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


def _cannot(endpoint: str, error: OSError | zmq.ZMQError) -> ServiceError:
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
