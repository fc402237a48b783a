"""`hg events --subscribers`: how far each subscriber of this repository is, as the relay knows.

The relay is asked over the address that live copies go to. Writes nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import compat, publish, settings, signer
from .journal.heads import Head
from .service.words import counted
from .settings import Curve
from .wire.question import Answer, Row

UNKNOWN = "the relay does not know this journal: `zmq-relay check` on its host says why\n"


class Way(NamedTuple):
    """How to reach the relay. `timeout`: seconds to wait for an answer."""

    address: str
    curve: Curve | None
    timeout: float


def way(texts: Mapping[str, str | None]) -> Way:
    """The way that the settings say; Abort where they name no relay. Raises SettingError.

    For an ipc relay no key is read, so that everybody may ask whom the socket lets in.
    """
    config = settings.parse(texts)
    if not config.relay:
        hint = "set zmqhooks.relay to the `publish` address of the relay"
        raise compat.abort("no relay is set: nobody here knows the subscribers", hint)
    tcp = config.relay.startswith("tcp:")
    curve = signer.curve(config, signer.read_key(config)) if tcp else None
    return Way(config.relay, curve, config.live_timeout or publish.USUAL)


def show(ui: Any, found: Way, head: Head | None, opts: Any) -> int:
    """Print how far each is; 1 if the relay does not say. `head`: None if there is no journal."""
    if head is None or not head.journal:
        ui.status(b"no journal yet: the first transaction begins it\n")
        return 0
    asker = publish.Publisher()
    ending, answer = asker.ask(found.address, head.journal, found.timeout, found.curve)
    if answer is None:
        ui.warn(compat.message(f"the relay at {found.address} does not say: {ending.value}\n"))
        return 1
    with ui.formatter(b"events", opts) as formatter:
        for row in answer.rows:
            formatter.startitem()
            item(formatter, row, head.sequence)
            formatter.plain(compat.message(f"{row.name}: {_line(row, head.sequence)}\n"))
    for text in _notes(answer):
        ui.warn(compat.message(text))
    return 1 if answer.head is None else 0


def _notes(answer: Answer) -> Iterator[str]:
    if answer.head is None:
        yield UNKNOWN
    elif not answer.rows:
        yield "nobody has followed this journal yet\n"
    if answer.left_out:
        yield left_out(answer)


def left_out(answer: Answer) -> str:
    """That there are more than the answer has room for."""
    return f"{answer.left_out} more, whom `zmq-relay status` on the relay's host lists\n"


def item(formatter: Any, row: Row, head: int) -> None:
    """The fields of a subscriber for templates."""
    formatter.data(
        subscriber=compat.message(row.name),
        acknowledged=row.sequence,
        behind=behind(row, head),
        seen=row.seen,
        connected=row.connected,
    )


def behind(row: Row, head: int) -> int:
    """Events that it has not acknowledged."""
    return max(0, head - row.sequence)


def _line(row: Row, head: int) -> str:
    late = behind(row, head)
    lag = f"{counted(late, 'event')} behind" if late else "up to date"
    return f"{lag}, acknowledged {row.sequence}, {whereabouts(row)}"


def whereabouts(row: Row) -> str:
    """Whether it is there, or since when it is not."""
    if row.connected:
        return "connected"
    return f"not connected, last seen {signer.day(row.seen)}"
