"""A receiver of webhooks: a real HTTP server, over TLS where asked for, that keeps what it got.

with Receiver() as receiver:                       # answers 200
    receiver.answers.append((503, {"retry-after": "7"}, b"later"))
    …
    receiver.requests[0].body

with Receiver(tls=Authority(tmp_path)) as receiver:     # https, for localhost
"""

import datetime as dt
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return fields(self.target.partition("?")[2])

    @property
    def form(self) -> dict[str, str]:
        return fields(self.body.decode())


def fields(text: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))


class Authority:
    """A certificate authority of its own, and a server's certificate for localhost."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.server = folder / "ca.pem", folder / "server.pem"
        root = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        issued = self._build(name, name, root.public_key(), authority=True).sign(
            root, hashes.SHA256()
        )
        self.ca.write_bytes(issued.public_bytes(serialization.Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        own = self._build(subject, name, key.public_key(), authority=False).sign(
            root, hashes.SHA256()
        )
        self.server.write_bytes(
            own.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @staticmethod
    def _build(
        subject: x509.Name, issuer: x509.Name, public: Any, *, authority: bool
    ) -> x509.CertificateBuilder:
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        names = [x509.DNSName("localhost")]
        return made if authority else made.add_extension(x509.SubjectAlternativeName(names), False)


class Receiver:
    """Listens on 127.0.0.1. `answers` are used up one by one; then it answers 200."""

    def __init__(self, tls: Authority | None = None) -> None:
        self.requests: list[Seen] = []
        self.answers: list[Answer] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def handle_all(self) -> None:
                receiver._take(self)

            do_GET = do_POST = do_PUT = do_PATCH = handle_all  # noqa: N815 - names of the library

            def log_message(self, *_words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.tls = tls
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.server)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Seen(handler.command, handler.path, headers, body))
        answer = self.answers.pop(0) if self.answers else (200, {}, b"")
        if callable(answer):
            answer(handler)
            return
        status, given, output = answer
        handler.send_response(status)
        for name, value in given.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(output)))
        handler.end_headers()
        handler.wfile.write(output)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
