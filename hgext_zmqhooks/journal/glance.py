"""Where an event stands, read from the beginning of its bytes.

Scans look at every event of a file. Only the publisher's own encoder writes them, always in the
same order of keys, so one regular expression on the envelope tells branch, journal and sequence;
anything else is decoded in full.
"""

import json
import re
from typing import NamedTuple

from ..wire import events
from .format import Torn

_TEXT = rb'"(?:[^"\\]|\\.)*"'
_ENVELOPE = re.compile(
    rb'\{"specversion":"1\.0","type":%b,"source":%b,"subject":(%b),"id":"([0-9a-f]{32})/(\d{1,19})",'
    rb'"time":"([^"\\]*)"' % (_TEXT, _TEXT, _TEXT)
)


class Glance(NamedTuple):
    """What scans need of an event."""

    branch: str
    journal: str
    sequence: int
    time: str = ""


def glance(offset: int, event: bytes) -> Glance:
    """Where the event of the record at byte `offset` stands; Torn if it is malformed."""
    found = _ENVELOPE.match(event)
    try:
        if found is None:
            decoded = events.decode(event)
            return Glance(decoded.branch, decoded.journal, decoded.sequence, decoded.time)
        return Glance(json.loads(found[1]), found[2].decode(), int(found[3]), found[4].decode())
    except ValueError as error:
        raise Torn(offset, str(error)) from None
