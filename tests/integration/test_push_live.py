"""The live copy of real pushes: it arrives, it is the journal's, and it never holds a push up."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from hgkit import DEADLINE, Host

from hgext_zmqhooks.wire import certificates, envelope, keyfiles
from hgext_zmqhooks.wire.keyring import Keyring, Standing

RELAY = """
import hashlib, sys, zmq
socket = zmq.Context().socket(zmq.XSUB)
socket.bind(sys.argv[1])
socket.send(b"\\x01")
print("ready", flush=True)
while True:
    frames = socket.recv_multipart()
    print(hashlib.sha256(frames[1]).hexdigest(), flush=True)
    socket.send(b"A" + hashlib.sha256(frames[1]).digest()[:16])
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host(tmp_path)
    found.write(relay=f"ipc://{tmp_path}/relay", live_timeout="5000")
    return found


@pytest.fixture
def relay(host: Host) -> Iterator[subprocess.Popen[str]]:
    """A process that answers as the relay does and prints the digest of each event."""
    with subprocess.Popen(
        [sys.executable, "-c", RELAY, host.settings["relay"]], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(DEADLINE)


@pytest.fixture
def work(host: Host) -> Path:
    repository = host.outside()
    host.commit(repository, "one")
    host.hg("branch", "-q", "stable", cwd=repository)
    host.commit(repository, "two")
    return repository


def digests(host: Host, served: Path) -> list[str]:
    return [hashlib.sha256(event).hexdigest() for event in host.raw_events(served)]


def test_the_copy_is_what_the_journal_holds(
    host: Host, work: Path, relay: subprocess.Popen[str]
) -> None:
    """Over ssh and over http, one message per event, in order, confirmed."""
    served = host.repository()
    host.push_ssh(work, served, "-r", "default")
    with host.web(served) as url:
        host.hg("push", "--new-branch", url, cwd=work)
    assert relay.stdout is not None
    expected = digests(host, served)
    assert [relay.stdout.readline().strip() for _ in expected] == expected
    assert len(expected) == 2


def test_four_frames_that_verify(host: Host) -> None:
    """What arrives is topic, event, signature and certificate, good under the root."""
    context = zmq.Context()
    socket = context.socket(zmq.XSUB)
    socket.bind(host.settings["relay"])
    socket.send(b"\x01")
    received: list[list[bytes]] = []

    def answer() -> None:
        if socket.poll(DEADLINE * 1000):
            received.append(socket.recv_multipart())
            socket.send(b"A" + hashlib.sha256(received[0][1]).digest()[:16])
            socket.poll(1000)  # hg leaves once it has the answer

    thread = threading.Thread(target=answer)
    thread.start()
    served = host.repository("a b:c")
    host.commit(served, "one")
    thread.join(DEADLINE)
    socket.close(0)
    context.term()
    message = envelope.Message.from_frames(received[0])
    root = keyfiles.decode_public_pem((host.folder / "root.pub").read_bytes())
    authentic = Keyring([root]).authenticate(message, time.time())
    assert authentic.standing is Standing.VALID
    assert message.topic == b"hg:a b%3Ac:default:"
    assert host.raw_events(served) == [message.event]


def test_no_relay_costs_nothing_and_loses_nothing(host: Host, work: Path) -> None:
    served = host.repository()
    start = time.monotonic()
    host.hg("push", "--new-branch", served, cwd=work)
    assert time.monotonic() - start < 4.0, "waited for nobody"
    assert len(digests(host, served)) == 2
    host.verify(served)


def test_stopped_relay_costs_at_most_the_time_set(
    host: Host, work: Path, relay: subprocess.Popen[str]
) -> None:
    """SIGSTOP: the kernel accepts, nobody answers; the push goes through within the time set."""
    served = host.repository()
    host.write(live_timeout="300")
    os.kill(relay.pid, signal.SIGSTOP)
    debug = host.hg("push", "--debug", "--new-branch", str(served), cwd=work, ok=False)
    assert "zmqhooks: live copy no answer in time: 0 of 2 events" in debug
    assert len(digests(host, served)) == 2
    host.verify(served)


def test_two_transactions_of_one_command_share_the_time(
    host: Host, relay: subprocess.Popen[str]
) -> None:
    """An amend without obsolescence makes several transactions, and waits once."""
    served = host.repository()
    host.commit(served, "one", "--config", "zmqhooks.relay=")
    host.write(live_timeout="300")
    os.kill(relay.pid, signal.SIGSTOP)
    (served / "file").write_text("more")
    debug = host.hg("commit", "--amend", "--debug", "-m", "two", cwd=served, ok=False)
    assert debug.count("no answer in time") == 1
    host.verify(served)


def test_journal_only(host: Host, relay: subprocess.Popen[str]) -> None:
    """live-timeout = 0: no copy, though a relay listens."""
    host.write(live_timeout="0")
    served = host.repository()
    host.commit(served, "one")
    host.write(live_timeout="5000")
    host.commit(served, "two")
    assert relay.stdout is not None
    assert relay.stdout.readline().strip() == digests(host, served)[1]


def test_aborted_transaction_sends_nothing(host: Host, relay: subprocess.Popen[str]) -> None:
    """Mercurial runs txnclose hooks for a transaction that failed late; nothing is sent."""
    served = host.repository()
    (served / "file").write_text("x")
    failing = ("--config", "devel.debug.abort-transaction=abort-post-finalize")
    output = host.hg("commit", "-Aqm", "lost", "--debug", *failing, cwd=served, ok=False)
    assert "rollback completed" in output
    assert "live copy" not in output
    host.commit(served, "kept")
    assert relay.stdout is not None
    (only,) = digests(host, served)
    assert relay.stdout.readline().strip() == only


def test_tcp_with_curve(host: Host) -> None:
    """A tcp relay is spoken to under its certificate's key."""
    root, key = keyfiles.generate("root"), keyfiles.generate("relay")
    now = int(time.time())
    token = certificates.issue(
        root,
        name="relay",
        public=key.public,
        curve=key.curve_public,
        roles=["relay"],
        nbf=now,
        exp=now + 1000,
        jti="1",
    )
    key = replace(key, certificate=token)
    (host.folder / "relay.cert").write_bytes(token)
    context = zmq.Context()
    socket = context.socket(zmq.XSUB)
    socket.curve_server = True
    socket.curve_secretkey = key.curve_secret.encode()
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    socket.send(b"\x01")
    host.write(relay=f"tcp://127.0.0.1:{port}", relay_certificate=str(host.folder / "relay.cert"))
    received: list[list[bytes]] = []

    def answer() -> None:
        if socket.poll(DEADLINE * 1000):
            received.append(socket.recv_multipart())
            socket.send(b"A" + hashlib.sha256(received[0][1]).digest()[:16])
            socket.poll(1000)

    thread = threading.Thread(target=answer)
    thread.start()
    served = host.repository()
    host.commit(served, "one")
    thread.join(DEADLINE)
    socket.close(0)
    context.term()
    assert [frames[1] for frames in received] == host.raw_events(served)
