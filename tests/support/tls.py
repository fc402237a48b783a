"""TLS for servers that have none: a certificate authority, and a relay in front of a port."""

import datetime as dt
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOUR = dt.timedelta(hours=1)


class Authority:
    """An authority of its own with one certificate for 127.0.0.1; `path` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path, self.chain = folder / "ca.pem", folder / "server.pem"
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("authority")
        own = self._signed(name, name, key, key, x509.BasicConstraints(ca=True, path_length=0))
        self.path.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        leaf = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._signed(_name("server"), name, leaf, key, here)
        self.chain.write_bytes(
            leaf.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )

    @staticmethod
    def _signed(subject, issuer, key, signer, extension) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + HOUR)
            .add_extension(extension, critical=True)
        )
        return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@contextmanager
def relay(target: int, authority: Authority) -> Iterator[int]:
    """A port on loopback that speaks TLS, in front of another one that does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                outer = context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, OSError):
                return
            with outer, socket.create_connection(("127.0.0.1", target)) as inner:
                back = threading.Thread(target=_pump, args=(inner, outer), daemon=True)
                back.start()
                _pump(outer, inner)
                back.join()

    class Relay(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Relay(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
