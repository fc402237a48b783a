"""The sessions of a relay: one `Peer` per connection that has introduced itself.

What may be said when stands in wire/session.py; who may say HELLO in admission.py. All
else is heard only from the CURVE key that said HELLO on this connection.

There is no I/O here but through `Post`, and the time is an argument: `now` in unix seconds (what
certificates need), `tick` monotonic (what waits need). `clock` measures our own work only.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ..journal.follow import UnknownJournal
from ..journal.format import JournalError
from ..service.life import ROOT, Throttle, fields
from ..service.metrics import Counters
from ..wire.errors import Refused
from ..wire.keyring import Keyring
from ..wire.messages import BEAT_SECONDS, MAX_BATCH, SILENCE_SECONDS
from ..wire.session import (
    Ack,
    Beat,
    Bye,
    Events,
    Follow,
    Hello,
    JournalInfo,
    Message,
    Welcome,
)
from .admission import Admission
from .limits import Limits
from .peers import Address, Origin, Peer, Post, Sent
from .reading import Cursor, Quiet, may_read
from .settings import Excess
from .shelf import Moved, Repository, Shelf
from .state import State

MAX_SESSIONS = 1000
MAX_JOURNALS = 10_000
"""Journals in one WELCOME or BEAT, so that it stays under the largest message."""
PER_TURN = 16
"""Messages to one peer before the others get their turn."""
TURN_SECONDS = 0.05
"""Time for sending before the relay looks again at what came in: hg waits for an answer."""
MAX_UNSENT = 8
"""Messages kept for a peer whose connection takes no more; one batch and a few short ones."""
LEAST_ROOM = MAX_BATCH
"""Bytes for which a batch is made when less credit is left; it then waits for credit.

Else a subscriber that is slower than we are would be sent ever smaller batches. A batch costs it a
transaction, so that large ones are worth waiting for.
"""


class Sessions:
    """All sessions of a relay.

    `name`: its own, for the WELCOME. `refresh`: looks at all heads at a time (monotonic).
    """

    def __init__(
        self,
        name: str,
        *,
        keyring: Keyring,
        shelf: Shelf,
        state: State,
        post: Post,
        refresh: Callable[[float], None],
        counters: Counters,
        throttle: Throttle,
        limits: Limits | None = None,
        excess: Excess = "narrow",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._name = name
        self._admission = Admission(keyring, state, limits or Limits(), excess)
        self._shelf = shelf
        self._state = state
        self._post = post
        self._refresh = refresh
        self._counters = counters
        self._throttle = throttle
        self._peers: dict[Address, Peer] = {}
        self._now = 0.0
        self._log = logging.getLogger(f"{ROOT}.relay")

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def busy(self) -> bool:
        """Whether some peer can be sent something right now."""
        return any(peer.busy for peer in self._peers.values())

    @property
    def blocked(self) -> bool:
        """Whether some socket did not take frames that must be offered again."""
        return any(peer.unsent for peer in self._peers.values())

    def following(self, info: JournalInfo | None) -> set[str]:
        """Who has an open session that follows this journal; without one, any open session."""
        peers = [peer for peer in self._peers.values() if peer.cursor is not None]
        if info is None:
            return {peer.name for peer in peers}
        return {peer.name for peer in peers if peer.cursor and peer.cursor.after(info) is not None}

    # What comes in

    def receive(
        self, address: Address, origin: Origin, frames: list[bytes], now: float, tick: float
    ) -> None:
        """A message from a connection; whatever is wrong with it ends that session only."""
        self._now = now
        peer = self._peers.get(address)
        if peer is not None and peer.origin != origin:
            refused = Refused("not-allowed", "another key on this connection")
            self._refuse(Peer(address, origin, tick), refused)
            return
        peer = peer or Peer(address, origin, tick)
        try:
            self._admission.check_frames(frames)
            self._handle(peer, peer.session.receive(frames), now, tick)
            peer.heard = tick
        except Refused as refused:
            self._refuse(peer, refused)

    def knows(self, address: Address) -> bool:
        """Whether this connection has a session."""
        return address in self._peers

    def overrun(self, address: Address) -> None:
        """A connection sent more than is kept of it; if it has a session, that is over."""
        refused = Refused("too-much", "messages came faster than they could be read")
        peer = self._peers.get(address)
        if peer is None:
            self._counters.add("refused", refused.kind)
            self._throttle.warning("session-too-much", "messages of a stranger dropped")
            return
        self._refuse(peer, refused)

    def _handle(self, peer: Peer, message: Message, now: float, tick: float) -> None:
        match message:
            case Hello():
                self._greet(peer, message, now, tick)
            case Follow():
                self._follow(peer, message)
            case Ack():
                self._acknowledge(peer, message)
            case Bye():
                self._forget(peer, message.reason or "bye")
                return
        if peer.address in self._peers:
            self._state.seen(peer.name, now)

    def _greet(self, peer: Peer, hello: Hello, now: float, tick: float) -> None:
        certificate = self._admission.check(peer.origin, hello, now)
        # Nobody may have watched for long, and a new name begins at the heads that it is told.
        self._refresh(tick)
        journals = tuple(self._shelf.journals(lambda repo: may_read(certificate.read, repo)))
        if len(self._peers) >= MAX_SESSIONS:
            raise Refused("too-many", f"{MAX_SESSIONS} sessions are open")
        if len(journals) > MAX_JOURNALS:
            raise Refused("too-many", f"{len(journals)} journals; at most {MAX_JOURNALS}")
        self._admission.check_sessions(hello, (other.hello for other in self._peers.values()))
        self._replace_instance(hello)
        peer.certificate, peer.hello = certificate, hello
        peer.told = {info.journal: info for info in journals}
        peer.beaten = tick
        self._peers[peer.address] = peer
        self._say(peer, Welcome(self._name, journals))
        self._counters.add("sessions")
        self._log.info(
            "session began", extra=fields(subscriber=certificate.sub, journals=len(journals))
        )

    def _replace_instance(self, hello: Hello) -> None:
        """End the session that this process had on a connection that broke."""
        for other in list(self._peers.values()):
            same = (hello.name, hello.store, hello.instance)
            if (other.hello.name, other.hello.store, other.hello.instance) == same:
                self._forget(other, "reconnected")

    def _follow(self, peer: Peer, follow: Follow) -> None:
        assert peer.certificate is not None
        self._admission.check_follow(peer.certificate, follow)
        peer.cursor = Cursor(follow, peer.certificate.read)
        peer.waiting = None
        peer.queue.clear()
        for repository in self._shelf:
            for info in self._shelf.served(repository):
                after = peer.cursor.after(info)
                if after is not None:
                    self._check_position(peer, info, after)
                    self._state.position(peer.name, info.journal, info.repo, after)
                    peer.enqueue(repository)

    def _check_position(self, peer: Peer, info: JournalInfo, after: int) -> None:
        if after > info.sequence:
            # The journal lost its end, or the subscriber speaks of another one with its name.
            self._counters.add("beyond-head")
            self._throttle.warning(
                "beyond-head",
                "subscriber stands beyond the head of a journal",
                subscriber=peer.name,
                repo=info.repo,
                sequence=after,
                head=info.sequence,
            )

    def _acknowledge(self, peer: Peer, ack: Ack) -> None:
        waiting = peer.waiting
        peer.waiting = None
        for journal, sequence in ack.positions.items():
            info = self._shelf.info(journal)
            if info is not None and peer.may_read(info.repo):
                # Of several processes one may have stood still before it said this.
                before = self._state.reached(journal).get(peer.name, 0)
                reached = max(before, min(sequence, info.sequence))
                self._state.position(peer.name, journal, info.repo, reached)
        if waiting is not None:
            self._send_events(peer, waiting)

    def _refuse(self, peer: Peer, refused: Refused) -> None:
        """Count, say and tell the peer; its session is over.

        A message out of nowhere gets an answer too: after a restart of ours the peer must learn
        that it has to say HELLO again. That REFUSED is the first message of a session of its own.
        """
        self._counters.add("refused", refused.kind)
        self._throttle.warning(
            f"session-{refused.kind}",
            "subscriber refused",
            subscriber=peer.name or None,
            key=peer.origin.key,
            reason=refused.detail[:300],
        )
        self._fail(peer, f"{refused.kind}: {refused.detail}")
        self._offer(peer, peer.session.refuse(refused.kind, refused.detail[:1000]))

    # What goes out

    def changed(self, repositories: tuple[Repository, ...]) -> None:
        """The heads of these repositories moved."""
        for peer in self._peers.values():
            for repository in repositories:
                if any(peer.may_read(info.repo) for info in repository.journals):
                    peer.enqueue(repository)

    def turn(self, tick: float) -> None:
        """Send each peer what it can take, at most 16 messages, as long as there is time.

        Who had its turn goes to the end of the line: the next turn begins with the others.
        """
        end = self._clock() + TURN_SECONDS
        for peer in list(self._peers.values()):
            self._flush(peer)
            if not peer.busy or peer.address not in self._peers:
                continue
            self._peers[peer.address] = self._peers.pop(peer.address)
            for _ in range(PER_TURN):
                self._advance(peer, next(iter(peer.queue)), tick)
                if self._clock() >= end:
                    return
                if not peer.busy or peer.address not in self._peers:
                    break

    def _advance(self, peer: Peer, repository: Repository, tick: float) -> None:
        """Send the next batch of one repository; then it is the next one's turn."""
        assert peer.cursor is not None
        del peer.queue[repository]
        if repository.retry_at > tick:
            return
        session = peer.session
        room = min(MAX_BATCH, max(session.credit, min(LEAST_ROOM, session.granted)))
        try:
            found = peer.cursor.next(self._shelf, repository, room)
        except (Moved, UnknownJournal):
            return  # the next look at the head will say what there is now
        except (JournalError, OSError) as error:
            self._shelf.stop(repository, error, tick)
            return
        if found is Quiet.DONE:
            return
        peer.enqueue(repository)
        if isinstance(found, Events):
            self._introduce(peer, found.journal)
            self._reach(peer, found)
            self._send_events(peer, found)

    def _introduce(self, peer: Peer, journal: str) -> None:
        """Tell of a journal before the first events of it."""
        info = self._shelf.info(journal)
        if info is not None and journal not in peer.told:
            peer.told[journal] = info
            self._state.position(peer.name, journal, info.repo, info.first - 1)
            self._say(peer, Beat((info,)))

    def _reach(self, peer: Peer, events: Events) -> None:
        """A batch tells of a head too: the beat must tell if it is lowered again."""
        told = peer.told.get(events.journal)
        if told is not None and told.sequence < events.scanned:
            peer.told[events.journal] = replace(told, sequence=events.scanned)

    def _send_events(self, peer: Peer, events: Events) -> None:
        try:
            frames = peer.session.send(events)
        except Refused as refused:
            if refused.kind != "no-credit":
                raise
            peer.waiting = events
            return
        self._counters.add("records-sent", count=len(events.records))
        self._offer(peer, frames)

    def _say(self, peer: Peer, message: Message) -> None:
        if not peer.session.ended:
            self._offer(peer, peer.session.send(message))

    def _offer(self, peer: Peer, frames: list[bytes]) -> None:
        peer.unsent.append(frames)
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        """Give the socket what it takes, in order."""
        while peer.unsent:
            sent = self._post(peer.address, peer.unsent[0])
            if sent is Sent.GONE:
                self._fail(peer, "connection lost")
                return
            if sent is Sent.LATER:
                if len(peer.unsent) > MAX_UNSENT:
                    self._fail(peer, "it does not read")
                return
            peer.unsent.popleft()

    # What time does

    def beat(self, now: float, tick: float) -> None:
        """End sessions that are silent or whose certificate ended; tell the others of heads."""
        self._now = now
        for peer in list(self._peers.values()):
            if tick - peer.heard > SILENCE_SECONDS:
                self._say(peer, Bye("silence"))
                self._fail(peer, f"silent for {SILENCE_SECONDS:.0f} s")
            elif (refused := self._admission.ended(peer.hello, now)) is not None:
                self._refuse(peer, refused)
            elif tick - peer.beaten >= BEAT_SECONDS and not peer.unsent:
                peer.beaten = tick
                self._say(peer, Beat(self._moved(peer)))

    def _moved(self, peer: Peer) -> tuple[JournalInfo, ...]:
        moved: list[JournalInfo] = []
        for info in self._shelf.journals(peer.may_read):
            if peer.told.get(info.journal) != info and len(moved) < MAX_JOURNALS:
                peer.told[info.journal] = info
                moved.append(info)
        return tuple(moved)

    def close(self, reason: str = "stopping", *, private: bool = True) -> None:
        """Say goodbye to all, or to all but those in this process."""
        for peer in list(self._peers.values()):
            if private or not peer.origin.private:
                self._say(peer, Bye(reason))
                self._forget(peer, reason)

    def _fail(self, peer: Peer, reason: str) -> None:
        """A session ends that should not; `zmq-relay status` shows the last such end."""
        if self._peers.get(peer.address) is peer:
            self._state.failed(peer.name, self._now, reason[:200])
        self._forget(peer, reason)

    def _forget(self, peer: Peer, reason: str) -> None:
        if self._peers.get(peer.address) is peer:
            del self._peers[peer.address]
            self._log.info("session ended", extra=fields(subscriber=peer.name, reason=reason[:200]))
