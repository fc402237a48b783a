"""The broadcast socket: every newly committed event, once, to whoever listens.

PUB, best effort: a reader that is slow or absent misses events and is not told. What goes out is
the four frames of a message, so that any ZeroMQ client can filter by topic and check signatures:

    topic | event | signature | certificate

Events are read from the journals, like everything that is served, and each is checked once.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import zmq

from ..journal.follow import Stored, UnknownJournal
from ..journal.format import JournalError
from ..service.life import Throttle
from ..service.metrics import Counters
from ..wire.envelope import Message
from ..wire.errors import Refused
from ..wire.keyring import Keyring, Standing
from .shelf import Moved, Repository, Shelf

PER_TURN = 200
"""Events of one repository before others, and the sessions, get their turn."""
TURN_BYTES = 1 << 20


class Broadcast:
    """What was committed since it began; `socket` is bound by who makes it."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        keyring: Keyring,
        shelf: Shelf,
        counters: Counters,
        throttle: Throttle,
    ) -> None:
        self.socket = socket
        self._keyring = keyring
        self._shelf = shelf
        self._counters = counters
        self._throttle = throttle
        self._sent: dict[str, int] = {}
        self._queue: dict[Repository, None] = {}
        self._since = ""

    @property
    def busy(self) -> bool:
        """Whether there is something to send."""
        return bool(self._queue)

    def begin(self, now: float) -> None:
        """What is in the journals now is old; call it before anything new is looked for.

        A journal that is found later may be new or brought here: its events' times tell.
        """
        self._sent = {info.journal: info.sequence for info in self._shelf.journals(lambda _: True)}
        self._since = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def changed(self, repositories: Iterable[Repository]) -> None:
        """The heads of these repositories moved."""
        for repository in repositories:
            self._queue.setdefault(repository)

    def turn(self, now: float, tick: float) -> None:
        """Send a little of what the first repository in the queue has. `now`: unix seconds."""
        if not self._queue:
            return
        repository = next(iter(self._queue))
        del self._queue[repository]
        try:
            more = repository.retry_at <= tick and self._send_some(repository, now)
        except (Moved, UnknownJournal):
            return  # the next look at the head will say what there is now
        except (JournalError, OSError) as error:
            self._shelf.stop(repository, error, tick)
            return
        if more:
            self._queue.setdefault(repository)

    def _send_some(self, repository: Repository, now: float) -> bool:
        """Whether there may be more."""
        for info in self._shelf.served(repository):
            after = max(self._sent.get(info.journal, 0), info.first - 1)
            if after >= info.sequence:
                continue
            for stored in repository.read(info.journal, after, PER_TURN, TURN_BYTES):
                self._send(stored, now)
                self._sent[info.journal] = stored.sequence
            return True
        return False

    def _send(self, stored: Stored, now: float) -> None:
        try:
            message = self._checked(stored, now)
        except Refused as refused:
            self._counters.add("refused", refused.kind)
            self._throttle.warning(
                f"broadcast-{refused.kind}",
                "journalled event not broadcast",
                sequence=stored.sequence,
                reason=refused.detail[:300],
            )
            return
        if message is not None:
            self.socket.send_multipart(message.frames(), zmq.DONTWAIT)
            self._counters.add("broadcast")

    def _checked(self, stored: Stored, now: float) -> Message | None:
        """The message, None for an old event; Refused if it is not what it must be."""
        authentic = self._keyring.attest(stored.event, stored.signature, stored.certificate, now)
        event = authentic.event
        if event.time < self._since:
            return None
        if authentic.standing is not Standing.VALID:
            raise Refused(
                authentic.standing.value, "the signer's certificate is not valid at this time"
            )
        topic = event.topic.encode()
        return Message(topic, stored.event, stored.signature, stored.certificate)
