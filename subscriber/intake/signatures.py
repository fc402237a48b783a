"""The process that verifies signatures beside the intake, and what it is told and answers.

    python -I -c "… signatures.serve(FD)"

FD is the number of a stream socket to the daemon; its end is the end of this process too, so a
daemon that is killed leaves none behind. It has no key, no store and no other socket.

    request   u32 count, u32 bytes, then count times u32 length of the event,
              then count times (public key 32, signature 64, event)           big-endian
    answer    one byte per record, in their order: 1 the signature is good, 0 it is not

What a signature covers, and when it is good, is said by wire/envelope here as everywhere.
"""

import signal
import socket
import struct
from collections.abc import Sequence

from hgext_zmqhooks.wire import envelope
from hgext_zmqhooks.wire.envelope import SIGNATURE_LENGTH

KEY_LENGTH = 32
_HEAD = struct.Struct(">II")

Signed = tuple[bytes, bytes, bytes]
"""Public key, signature, event."""


def request(records: Sequence[Signed]) -> bytes:
    r"""What asks for these signatures.

    >>> request([(b"k" * 32, b"s" * 64, b"{}")])[:12]
    b'\x00\x00\x00\x01\x00\x00\x00b\x00\x00\x00\x02'
    """
    lengths = [len(event) for _, _, event in records]
    body = b"".join([part for record in records for part in record])
    return _HEAD.pack(len(records), len(body)) + struct.pack(f">{len(records)}I", *lengths) + body


def good(key: bytes, signature: bytes, event: bytes) -> bool:
    """Whether this is the key's signature of the event."""
    return envelope.verified(envelope.pae(event), signature, key)


def serve(fd: int) -> None:
    """The life of the process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group; the daemon decides
    answer_all(socket.socket(fileno=fd))


def answer_all(stream: socket.socket) -> None:
    """Answer requests until the stream ends."""
    with stream, stream.makefile("rb") as reader:
        while head := reader.read(_HEAD.size):
            count, size = _HEAD.unpack(head)
            lengths = struct.unpack(f">{count}I", reader.read(4 * count))
            stream.sendall(_answer(lengths, reader.read(size)))


def _answer(lengths: Sequence[int], body: bytes) -> bytes:
    answer, at = bytearray(), 0
    for length in lengths:
        signature = at + KEY_LENGTH
        event = signature + SIGNATURE_LENGTH
        key, at = body[at:signature], event + length
        answer.append(good(key, body[signature:event], body[event:at]))
    return bytes(answer)
