"""`hg events --resign`: let an event under a valid certificate follow on those under an old one.

A subscriber holds what it sees for the first time when its signer's certificate has expired, until
an event under a valid one follows in the same branch: that one names the digest of the one before,
so it vouches for all of them. Nothing that is written is changed: readers hold positions and
digests of it. So each branch whose newest event is under an expired certificate gets one event
more, of `origin: ping` in a transaction named `resign`, which tells of no change.
"""

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import compat, signer
from .journal.format import CERTIFICATE, EVENT, Record, fingerprint, read_signed
from .journal.glance import glance
from .recorder import Asked
from .wire import certificates
from .wire.errors import Refused


class Newest(NamedTuple):
    """The newest event of a branch, and the end of its certificate (unix seconds)."""

    branch: str
    sequence: int
    exp: int


def run(ui: Any, repo: Any, link: Any) -> int:
    """Append the events and print a line for each; `link`: `extension.Attached`."""
    key, now = link.signer(repo), signer.now()
    _check_time(key, now)
    with repo.lock():
        with link.sound():
            found = expired(link.recorder.writer(repo).stored(), now)
        if not found:
            ui.status(b"nothing to sign again\n")
            return 0
        appended = link.tell(repo, b"resign", _asked(found)).appended
    first = appended.head.sequence - len(found) + 1
    for sequence, newest in enumerate(found, first):
        since = f"event {newest.sequence}, whose certificate expired {signer.day(newest.exp)}"
        ui.status(compat.message(f"{newest.branch}: event {sequence} follows on {since}\n"))
    return 0


def expired(stored: Iterable[Record], now: float) -> list[Newest]:
    """The branches whose newest event is under a certificate that has expired."""
    ends: dict[str, int] = {}
    newest: dict[str, Newest] = {}
    for record in stored:
        if record.kind == CERTIFICATE:
            ends[fingerprint(record.payload)] = _end(record.payload)
        elif record.kind == EVENT:
            found = read_signed(record)
            place = glance(record.offset, found.event)
            end = ends.get(found.certificate, sys.maxsize)
            newest[place.branch] = Newest(place.branch, place.sequence, end)
    return [one for one in newest.values() if one.exp <= now]


def _end(token: bytes) -> int:
    """When a certificate expires; one that cannot be read has none: `--verify` says so."""
    try:
        return certificates.decode(token).exp
    except Refused:
        return sys.maxsize


def _asked(found: list[Newest]) -> Asked:
    return Asked(lambda stamp: [stamp.draft(one.branch, origin="ping") for one in found])


def _check_time(key: signer.KeySigner, now: float) -> None:
    hint = "renew it with `zmq-keys rotate`, or set zmqhooks.key to one that is valid now"
    if now >= key.details.exp:
        raise compat.abort(f"the certificate of '{key.details.sub}' is expired itself", hint)
    if now < key.details.nbf:
        raise compat.abort(f"the certificate of '{key.details.sub}' is not valid yet", hint)
