"""The live copy against real sockets: confirmed, nobody there, silent, forked, curved."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from hgext_zmqhooks import publish
from hgext_zmqhooks.publish import Ending, Publisher
from hgext_zmqhooks.settings import Curve
from hgext_zmqhooks.wire import keyfiles, question

MESSAGES = [
    (b"hg:a:default:", b'{"n":%d}' % number, b"s" * 64, b"certificate") for number in range(3)
]
AMPLE = 10.0


class Relay(threading.Thread):
    """An XSUB that subscribes to all and answers, as the relay does."""

    def __init__(self, endpoint: str, *, answer: bool = True, curve: Curve | None = None) -> None:
        super().__init__(daemon=True)
        self.context = zmq.Context()
        self.received: list[list[bytes]] = []
        self._answer = answer
        self._stopping = threading.Event()
        self._socket = self.context.socket(zmq.XSUB)
        if curve is not None:
            self._socket.curve_server = True
            self._socket.curve_secretkey = curve.secret.encode()
        self._socket.bind(endpoint)
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._socket.send(b"\x01")

    def run(self) -> None:
        while not self._stopping.is_set():
            if not self._socket.poll(50):
                continue
            frames = self._socket.recv_multipart()
            self.received.append(frames)
            if self._answer:
                self._socket.send(b"A" + hashlib.sha256(frames[1]).digest()[:16])
        self._socket.close(0)
        self.context.term()

    def stop(self) -> None:
        self._stopping.set()
        self.join(AMPLE)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/publish"


@pytest.fixture
def relay(endpoint: str) -> Iterator[Relay]:
    thread = Relay(endpoint)
    thread.start()
    yield thread
    thread.stop()


def test_confirmed(endpoint: str, relay: Relay) -> None:
    result = Publisher().publish(endpoint, MESSAGES, AMPLE)
    assert (result.ending, result.confirmed, result.offered) == (Ending.CONFIRMED, 3, 3)
    assert relay.received == [list(message) for message in MESSAGES]


def test_one_publisher_serves_many_threads(endpoint: str, relay: Relay) -> None:
    publisher, endings = Publisher(), []

    def copy() -> None:
        endings.append(publisher.publish(endpoint, MESSAGES, AMPLE).ending)

    threads = [threading.Thread(target=copy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AMPLE)
    assert endings == [Ending.CONFIRMED] * 8


def test_nobody_listens(endpoint: str) -> None:
    """Given no socket at the path, hg gives up long before the time is over, each time."""
    publisher = Publisher()
    for _ in range(2):
        result = publisher.publish(endpoint, MESSAGES, AMPLE)
        assert result.ending is Ending.NOBODY
        assert result.seconds < AMPLE / 4


def test_refused_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = Publisher().publish(f"tcp://127.0.0.1:{port}", MESSAGES, AMPLE)
    assert result.ending is Ending.NOBODY


def test_silent_relay_costs_the_time_set_and_only_once(endpoint: str) -> None:
    """Given a relay that never answers, then copies are skipped for 30 seconds."""
    clock = [0.0]
    silent = Relay(endpoint, answer=False)
    silent.start()
    try:
        publisher = Publisher()
        first = publisher.publish(endpoint, MESSAGES, 0.3)
        assert (first.ending, first.confirmed) == (Ending.TIMEOUT, 0)
        assert 0.3 <= first.seconds < 1.5
        again = publisher.publish(endpoint, MESSAGES, AMPLE)
        assert again.ending is Ending.PAUSED
        assert again.seconds < 0.1
        later = Publisher(lambda: clock[0])
        later._paused_until = 30.0
        assert later.publish(endpoint, MESSAGES, 0.0).ending is Ending.PAUSED
        clock[0] = 30.0
        assert later.publish(endpoint, MESSAGES, 0.0).ending is Ending.TIMEOUT
    finally:
        silent.stop()


def test_a_peer_that_accepts_and_stalls(tmp_path: Path) -> None:
    """A stopped relay: the kernel accepts, nothing subscribes."""
    path = tmp_path / "stalled"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        result = Publisher().publish(f"ipc://{path}", MESSAGES, 0.2)
    assert result.ending is Ending.TIMEOUT
    assert result.seconds < 1.0


def test_garbage_instead_of_a_relay(tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                peer.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        result = Publisher().publish(f"ipc://{path}", MESSAGES, 2.0)
        thread.join(AMPLE)
    assert result.ending in {Ending.NOBODY, Ending.TIMEOUT}


def test_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over tcp with the relay's key it arrives; with another key nobody is there."""
    ours, theirs = keyfiles.generate("ours"), keyfiles.generate("theirs")
    server = Curve(theirs.curve_public, theirs.curve_secret, "")
    relay = Relay("tcp://127.0.0.1:*", curve=server)
    relay.start()
    try:
        right = Curve(ours.curve_public, ours.curve_secret, theirs.curve_public)
        assert Publisher().publish(relay.address, MESSAGES, AMPLE, right).confirmed == 3
        wrong = Curve(ours.curve_public, ours.curve_secret, ours.curve_public)
        result = Publisher().publish(relay.address, MESSAGES, 0.5, wrong)
        assert (result.ending in {Ending.NOBODY, Ending.TIMEOUT}, result.confirmed) == (True, 0)
    finally:
        relay.stop()


def test_a_forked_child_makes_its_own_context(endpoint: str, relay: Relay) -> None:
    publisher = Publisher()
    assert publisher.publish(endpoint, MESSAGES, AMPLE).ending is Ending.CONFIRMED
    child = os.fork()
    if child == 0:
        ending = publisher.publish(endpoint, MESSAGES, AMPLE).ending
        os._exit(0 if ending is Ending.CONFIRMED else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_bounds(endpoint: str, relay: Relay) -> None:
    """At most MAX_MESSAGES and MAX_BYTES are offered; one large message goes alone."""
    many = [(b"t", b"%d" % number, b"", b"") for number in range(publish.MAX_MESSAGES + 5)]
    assert Publisher().publish(endpoint, many, AMPLE).offered == publish.MAX_MESSAGES
    large = [(b"t", bytes([number]) * 700_000, b"", b"") for number in range(3)]
    assert Publisher().publish(endpoint, large, AMPLE).offered == 1


def test_nothing_to_send(endpoint: str) -> None:
    assert Publisher().publish(endpoint, [], AMPLE).ending is Ending.NOTHING


def test_probe(endpoint: str, relay: Relay) -> None:
    assert Publisher().probe(endpoint, AMPLE) is Ending.CONFIRMED
    assert Publisher().probe(endpoint + "-other", AMPLE) is Ending.NOBODY


def test_silent_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a name that nobody resolves in time, then it costs the time set and no more."""
    answered = threading.Event()

    def hang(*_args: object, **_kwargs: object) -> list[object]:
        answered.wait(AMPLE)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    result = Publisher().publish("tcp://relay.example.com:5701", MESSAGES, 0.2)
    assert result.ending is Ending.TIMEOUT
    assert time.monotonic() - start < 2.0
    answered.set()


def test_names_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"v4": "192.0.2.1", "v6": "2001:db8::1"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, **_: [(0, 0, 0, "", (answers[host], port))]
    )
    assert publish.resolve("tcp://v4:1", 1) == "tcp://192.0.2.1:1"
    assert publish.resolve("tcp://v6:1", 1) == "tcp://[2001:db8::1]:1"
    assert publish.resolve("tcp://[::1]:1", 1) == "tcp://[::1]:1"
    assert publish.resolve("tcp://127.0.0.1:1", 1) == "tcp://127.0.0.1:1"


def test_unknown_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_kwargs: object) -> list[object]:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert Publisher().publish("tcp://nowhere:1", MESSAGES, 1.0).ending is Ending.NOBODY


def test_a_question_gets_its_answer_among_what_others_hear(endpoint: str) -> None:
    """Given a relay that sends more than our answer, and garbage under our nonce first."""
    journal = "9f" * 16

    class Talking(Relay):
        def run(self) -> None:
            assert self._socket.poll(AMPLE * 1000)
            asked = question.read_question(self._socket.recv_multipart())
            good = question.write_answer(asked.nonce, 7, 0, [])
            for frame in (b"A" + b"x" * 16, good.replace(asked.nonce, b"m" * 16), good[:-1], good):
                self._socket.send(frame)
            self._stopping.wait(AMPLE)
            self._socket.close(0)
            self.context.term()

    relay = Talking(endpoint)
    relay.start()
    try:
        ending, answer = Publisher().ask(endpoint, journal, AMPLE)
    finally:
        relay.stop()
    assert (ending, answer) == (Ending.CONFIRMED, question.Answer(7, 0, ()))


def test_a_question_that_nobody_answers(endpoint: str) -> None:
    """It ends in time, and live copies are not skipped after it."""
    publisher = Publisher()
    assert publisher.ask(endpoint, "9f" * 16, AMPLE) == (Ending.NOBODY, None)
    silent = Relay(endpoint, answer=False)
    silent.start()
    try:
        assert publisher.ask(endpoint, "9f" * 16, 0.3) == (Ending.TIMEOUT, None)
        assert publisher.publish(endpoint, MESSAGES, 0.3).ending is Ending.TIMEOUT
    finally:
        silent.stop()
