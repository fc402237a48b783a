"""One HTTP exchange that can be broken off at any moment, and that connects only where it may.

A request of httpx cannot be stopped from outside. So it runs in a thread of its own, over
connections that are made here and known here: to break off is to shut them. What is then still
under way (a look-up of a name) finds that it is over, and sends nothing any more.

Each exchange has its own connections: nothing of one delivery is left for another.
"""

import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import httpcore
import httpx

from .reachable import addresses
from .tail import Tail

MOST_READ = 1 << 20
"""Bytes of an answer that are read; what follows is of no use to a receipt."""

_CONNECT = 10.0
"""Seconds for each address of a name."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent. `private`: whether it may go to addresses that are not for everybody."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    private: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `headers` in lower case, and the end of the body."""

    status: int
    phrase: str
    headers: dict[str, str]
    output: bytes
    truncated: bool


class BrokenOff(OSError):  # noqa: N818 - a finding, read as a sentence
    """The exchange is over; nothing more is sent."""


class Exchange:
    """One request and its answer, in a thread of its own.

    with Exchange(request, trust) as exchange:      # fileno() is readable once it has ended
        poll(exchange, …)
        exchange.break_off()                        # or it ended
    exchange.answer, exchange.error                 # at most one of them is set

    An answer counts from its status line on; what its body then does changes nothing.
    """

    def __init__(self, request: Request, trust: ssl.SSLContext) -> None:
        self.answer: Answer | None = None
        self.error: str | None = None
        self._request = request
        self._line = _Line(private=request.private)
        self._trust = trust
        self._ended, self._end = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except RuntimeError as error:  # no thread is left
            os.close(self._end)
            os.close(self._ended)
            raise OSError(errno.EAGAIN, str(error)) from None
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self._ended)

    def fileno(self) -> int:
        """What a poller registers for POLLIN."""
        return self._ended

    def break_off(self, patience: float) -> None:
        """End it now, and wait so many seconds for that; nothing more is sent after this call."""
        self._line.cut()
        self._thread.join(patience)

    def _run(self) -> None:
        try:
            self._send()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, *_OF_HTTPCORE) as error:
            self.error = _explained(error)
        except Exception as error:  # noqa: BLE001 - said in the receipt, as every trouble here
            self.error = f"the request is defective: {error!r}"
        finally:
            os.close(self._end)  # seen as readable at the other end

    def _send(self) -> None:
        given, tail = self._request, Tail()
        # Without httpx's client: that would look into cookies and redirects, and fail by them.
        with _Transport(self._trust, self._line) as transport:
            headers = httpx.Headers(given.headers)
            request = httpx.Request(given.method, given.url, headers=headers, content=given.body)
            response = transport.handle_request(request)
            try:
                self._read(response, tail)
            finally:
                self.answer = Answer(
                    response.status_code,
                    response.reason_phrase,
                    {name.lower(): value for name, value in response.headers.items()},
                    *tail.result(),
                )
                response.close()

    @staticmethod
    def _read(response: httpx.Response, tail: Tail) -> None:
        size = 0
        with contextlib.suppress(OSError, *_OF_HTTPCORE):
            for chunk in response.iter_raw():
                tail.add(chunk)
                size += len(chunk)
                if size >= MOST_READ:
                    tail.truncated = True
                    return


_OF_HTTPCORE = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


def _explained(error: Exception) -> str:
    """What went wrong, with what is behind it: httpcore's own words may be empty."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"{cause}" if cause is not None else type(error).__name__


class _Line(httpcore.NetworkBackend):
    """Makes connections, and can cut them."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._plain = httpcore.SyncBackend()
        self._lock = threading.Lock()
        self._cut = False
        self._open: list[socket.socket] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the whole exchange has a limit
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers and that may be connected to."""
        last: Exception | None = None
        for address in addresses(host, port, private=self._private):
            self._check()
            try:
                stream = self._plain.connect_tcp(
                    address, port, _CONNECT, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                self._keep(stream)
                return stream
        assert last is not None
        raise last

    def _keep(self, stream: httpcore.NetworkStream) -> None:
        """Know the connection by a descriptor of our own: TLS takes the first one over."""
        made: socket.socket = stream.get_extra_info("socket")
        with self._lock:
            self._open.append(made.dup())
        self._check()

    def _check(self) -> None:
        """After each wait: nothing is sent on a line that was cut meanwhile."""
        if self._cut:
            self.cut()
            raise BrokenOff("broken off")

    def cut(self) -> None:
        """Shut all connections; nothing can be sent or received over them any more."""
        with self._lock:
            self._cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give our descriptors back."""
        with self._lock:
            for each in self._open:
                each.close()
            self._open.clear()


class _Transport(httpx.BaseTransport):
    """httpx over a line of ours; no proxy is asked."""

    def __init__(self, trust: ssl.SSLContext, line: _Line) -> None:
        self._line = line
        self._pool = httpcore.ConnectionPool(ssl_context=trust, network_backend=line)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, as httpx passes it on."""
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Stream(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """End all connections."""
        self._pool.close()
        self._line.close()


class _Stream(httpx.SyncByteStream):
    """The body of an answer, as httpcore reads it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        """End reading."""
        self._response.close()
