"""What hg asks a relay over the publish endpoint: how far the subscribers of a journal are.

    hg's XPUB -> ?subscribers | nonce (16 bytes) | journal id (32 hex digits) | certificate
    hg's XPUB <- "S" + nonce + JSON, together at most 4096 bytes

    {"head":42,"sessions":2,"subscribers":[["ci",42,1795251302,true],…],"left_out":0}

Names in a topic encode `?`, so no live copy begins with it. An answer goes to everybody who is
connected at that moment; the nonce says whose it is. Over tcp everybody who knows the relay's
certificate can connect: there the question brings the certificate of a publisher, whose CURVE key
is the connection's, and the JSON is in a sealed box (libsodium's crypto_box_seal) for that key. On
ipc the certificate is empty and nothing is sealed. `head` is the newest sequence that the relay
knows of the journal, null if it does not know the journal; `sessions`: how many are open, whatever
they follow. Each subscriber: name, acknowledged sequence, when it was last heard (unix seconds),
whether a session is open now. Who does not fit is counted in `left_out`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from .errors import Refused
from .events import dumps
from .keyfiles import z85_decode
from .reader import Reader, parse

MARK = b"?"
"""How a first frame that is a question begins."""
SUBSCRIBERS = b"?subscribers"
ANSWER = b"S"
NONCE_LENGTH = 16
MAX_ANSWER = 4096
"""Bytes of an answer: hg takes no longer message, and one that does not listen costs little."""
MAX_SUBSCRIBERS = 64
"""Subscribers in one answer."""

_JOURNAL = re.compile(rb"[0-9a-f]{32}")
_PREFIX = len(ANSWER) + NONCE_LENGTH


class Question(NamedTuple):
    """`nonce`: random; the answer repeats it. `certificate`: of who asks, over tcp."""

    nonce: bytes
    journal: str
    certificate: bytes = b""

    def frames(self) -> list[bytes]:
        """The four ZeroMQ frames."""
        return [SUBSCRIBERS, self.nonce, self.journal.encode(), self.certificate]


class Row(NamedTuple):
    """One subscriber; everything up to `sequence` is stored by it. `seen`: unix seconds."""

    name: str
    sequence: int
    seen: int
    connected: bool


class Answer(NamedTuple):
    """See the module. `rows`: who is connected first, then who was heard last."""

    head: int | None
    sessions: int
    rows: tuple[Row, ...]
    left_out: int = 0


def read_question(frames: Sequence[bytes]) -> Question:
    """The question in these frames, of which the first begins with "?"; Refused "bad-question"."""
    if frames[0] != SUBSCRIBERS:
        raise Refused("bad-question", f"asked for {frames[0][:40]!r}, known is {SUBSCRIBERS!r}")
    if len(frames) != 4:
        raise Refused("bad-question", f"{len(frames)} frames instead of 4")
    if len(frames[1]) != NONCE_LENGTH:
        raise Refused("bad-question", f"a nonce of {len(frames[1])} bytes, not {NONCE_LENGTH}")
    if not _JOURNAL.fullmatch(frames[2]):
        raise Refused("bad-question", "no journal id of 32 hex digits")
    return Question(frames[1], frames[2].decode(), frames[3])


def write_answer(
    nonce: bytes, head: int | None, sessions: int, rows: Iterable[Row], key: str | None = None
) -> bytes:
    """The answer with as many subscribers as fit; `key` (Z85): for this CURVE key only."""
    ordered = sorted(rows, key=lambda row: (not row.connected, -row.seen, row.name))
    document: dict[str, object] = {"head": head, "sessions": sessions, "subscribers": []}
    room = (
        MAX_ANSWER
        - _PREFIX
        - bindings.crypto_box_SEALBYTES
        - len(dumps(document | {"left_out": len(ordered)}))
    )
    fitting = []
    for row in ordered[:MAX_SUBSCRIBERS]:
        room -= len(dumps(row)) + 1
        if room < 0:
            break
        fitting.append(row)
    document |= {"subscribers": fitting, "left_out": len(ordered) - len(fitting)}
    body = dumps(document)
    if key is not None:
        body = bindings.crypto_box_seal(body, z85_decode(key))
    return ANSWER + nonce + body


def read_answer(nonce: bytes, frame: bytes, keys: tuple[str, str] | None = None) -> Answer | None:
    """The answer to the question with this nonce, None if it is another message; Refused.

    `keys`: our public and secret CURVE key (Z85), where the answer is sealed.
    """
    if frame[:_PREFIX] != ANSWER + nonce:
        return None
    body = frame[_PREFIX:]
    try:
        if keys is not None:
            body = bindings.crypto_box_seal_open(body, *map(z85_decode, keys))
        document = Reader(parse(body), "bad-answer")
    except (ValueError, TypeError, CryptoError) as error:
        raise Refused("bad-answer", str(error)) from None
    return Answer(
        head=None if document.get("head") is None else document.number("head"),
        sessions=document.number("sessions"),
        rows=tuple([_row(item) for item in document.items("subscribers")]),
        left_out=document.number("left_out"),
    )


def _row(item: object) -> Row:
    if not isinstance(item, list) or [type(value) for value in item] != [str, int, int, bool]:
        raise Refused("bad-answer", "a subscriber is not [name, sequence, seen, connected]")
    return Row(*item)
