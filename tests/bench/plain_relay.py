"""A zmq-relay with one more socket, for the bench: sessions without CURVE, at an ipc path.

    python -m bench.plain_relay IPC_PATH --config relay.yml

The socket is the one that a subscriber in the same process uses over inproc, bound a second time.
Whoever can connect may read whatever the certificate that he shows allows: for a bench only.
"""

import sys

import zmq

from hgext_zmqhooks.relay import cli
from hgext_zmqhooks.relay.server import Relay


def main(path: str, *words: str) -> int:
    class PlainRelay(Relay):
        def _inproc_router(self) -> "zmq.Socket[bytes]":
            socket = super()._inproc_router()
            socket.bind(path)
            return socket

    cli.Relay = PlainRelay
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
