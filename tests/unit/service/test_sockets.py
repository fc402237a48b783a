import grp
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import zmq
from support.nobody import unprivileged

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.sockets import AlreadyServed, Answer, Endpoint, Zap, lock_ipc
from hgext_zmqhooks.wire import keyfiles

SERVER = keyfiles.generate("server")
CLIENT = keyfiles.generate("client")


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="zh", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def new(context):
    """Makes sockets that are closed at the end."""
    made = []

    def make(kind):
        made.append(context.socket(kind))
        return made[-1]

    yield make
    for socket in made:
        socket.close(linger=0)


class TestEndpoint:
    def test_parts(self):
        assert Endpoint.parse("ipc:///run/x").path == "/run/x"
        tcp = Endpoint.parse("tcp://hg1.example.com:5701")
        assert (tcp.transport, tcp.host, tcp.port) == ("tcp", "hg1.example.com", 5701)
        assert tcp == "tcp://hg1.example.com:5701"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ipc://",
            "ipc://relative",
            "ipc:///dir/",
            "ipc:///" + "x" * 107,
            "ipc:///a\0b",
            "tcp://host",
            "tcp://host:0",
            "tcp://host:65536",
            "tcp://:1",
            "tcp://host:\uff11",
            "udp://x:1",
            "inproc://x",
            None,
            3,
        ],
    )
    def test_what_is_none(self, text):
        with pytest.raises(ValueError, match=r"."):
            Endpoint.parse(text)
        if isinstance(text, str):
            with pytest.raises(ServiceError):
                sockets.check_endpoint(text)

    def test_the_longest_path_is_accepted_and_can_be_bound(self, folder, new):
        name = "x" * (sockets.IPC_PATH_MAX - len(f"{folder}/d/"))
        endpoint = Endpoint.parse(f"ipc://{folder}/d/{name}")
        lock = lock_ipc(endpoint)
        sockets.bind_ipc(new(zmq.PUB), lock)
        lock.close()


class TestIpc:
    def endpoint(self, folder, name="run/publish"):
        return Endpoint.parse(f"ipc://{folder}/{name}")

    def test_modes_do_not_depend_on_the_umask(self, folder, new):
        group = grp.getgrgid(os.getegid()).gr_name
        before = os.umask(0)
        try:
            lock = lock_ipc(self.endpoint(folder), group=group)
            sockets.bind_ipc(new(zmq.PUB), lock)
            assert os.umask(0) == 0, "the umask is as it was"
        finally:
            os.umask(before)
        run = folder / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o2750
        assert stat.S_IMODE((run / "publish").stat().st_mode) == 0o660
        assert stat.S_IMODE((run / "publish.lock").stat().st_mode) == 0o600
        assert grp.getgrgid((run / "publish").stat().st_gid).gr_name == group
        lock.close()
        assert not (run / "publish").exists()

    def test_a_directory_that_is_closed_to_the_group_is_refused(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o700)
        group = grp.getgrgid(os.getegid()).gr_name

        with pytest.raises(ServiceError, match=f"the group {group} may not enter it") as caught:
            lock_ipc(self.endpoint(folder), group=group)
        assert "0700" in str(caught.value)
        assert caught.value.hint == f"chgrp {group} {run} && chmod 2750 {run}"
        run.chmod(0o2750)
        lock_ipc(self.endpoint(folder), group=group).close()

    def test_a_file_of_another_user_is_named(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o755)
        folder.chmod(0o755)
        lock = run / "publish.lock"
        lock.touch(0o400)

        with unprivileged() as user, pytest.raises(ServiceError) as caught:
            lock_ipc(self.endpoint(folder))
        assert f"{lock} (" in str(caught.value)
        assert f"0400) may not be written by user {user}" in str(caught.value)
        assert "must belong to the user" in caught.value.hint

    def test_an_existing_directory_is_used_unless_anyone_may_write(self, folder):
        run = folder / "run"
        run.mkdir(mode=0o755)
        lock_ipc(self.endpoint(folder)).close()
        assert stat.S_IMODE(run.stat().st_mode) == 0o755
        run.chmod(0o1777)
        with pytest.raises(ServiceError, match="anyone may write there") as caught:
            lock_ipc(self.endpoint(folder))
        assert f"chmod 2750 {run}" in caught.value.hint

    def test_an_unknown_group(self, folder):
        with pytest.raises(ServiceError, match="there is no group 'nosuch'"):
            lock_ipc(self.endpoint(folder), group="nosuch")

    def test_a_missing_parent(self, folder):
        with pytest.raises(ServiceError, match=f"{folder}/no does not exist") as caught:
            lock_ipc(self.endpoint(folder, "no/such/path"))
        assert caught.value.hint.startswith(f"mkdir -p {folder}/no;")

    HOLD = """
import sys
from hgext_zmqhooks.service.sockets import Endpoint, lock_ipc
lock = lock_ipc(Endpoint.parse(sys.argv[1]), serves=sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""

    @pytest.mark.parametrize("serves", [["ipc:///run/z/sub"], []])
    def test_a_second_process_is_told_who_serves_and_what_to_do(self, folder, serves):
        endpoint = self.endpoint(folder)
        command = [sys.executable, "-c", self.HOLD, endpoint, *serves]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(AlreadyServed) as caught:
                lock_ipc(endpoint)
            holder.stdin.close()
        assert str(caught.value) == f"{endpoint} is already served by pid {holder.pid}"
        shown = serves[0] if serves else f"ipc://{folder}/run/subscribe"
        assert caught.value.hint.endswith(f"\nrelays:\n  - {{address: {shown}}}")
        assert ("no subscribe endpoint" in caught.value.hint) == (not serves)
        lock_ipc(endpoint).close()  # a lock ends with its process, however that ended

    def test_the_certificate_beside_the_socket(self, folder):
        endpoint = self.endpoint(folder)
        assert sockets.read_certificate(endpoint) is None
        lock = lock_ipc(endpoint)
        sockets.publish_certificate(endpoint, b"old")
        sockets.publish_certificate(endpoint, b"token")
        assert sockets.read_certificate(endpoint) == b"token"
        assert stat.S_IMODE((folder / "run/publish.cert").stat().st_mode) == 0o640
        lock.close()


class TestTcp:
    def test_without_curve_it_is_refused(self, new):
        with pytest.raises(ServiceError, match="without CURVE would let anyone in"):
            sockets.bind_tcp(new(zmq.ROUTER), Endpoint.parse("tcp://127.0.0.1:5701"))

    def test_a_name_is_refused_because_resolving_may_hang(self, new):
        socket = new(zmq.ROUTER)
        sockets.curve_server(socket, SERVER)
        with pytest.raises(ServiceError, match="is not an address of this machine"):
            sockets.bind_tcp(socket, Endpoint.parse("tcp://localhost:5701"))

    def test_an_address_in_use_is_named(self, new):
        socket = new(zmq.ROUTER)
        sockets.curve_server(socket, SERVER)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        second = new(zmq.ROUTER)
        sockets.curve_server(second, SERVER)
        with pytest.raises(ServiceError, match=rf"127\.0\.0\.1:{port}: cannot be served"):
            sockets.bind_tcp(second, Endpoint.parse(f"tcp://127.0.0.1:{port}"))


class TestZap:
    @pytest.fixture
    def pair(self, context, new):
        """A function: whether a client with this secret gets a message through, and as whom."""
        made = []

        def make(policy=None, *, client=CLIENT, curve=True):
            if not made:
                zap = Zap(context, policy) if policy else Zap(context)
                zap.start()
                made.append(zap)
            server = new(zmq.ROUTER)
            sockets.limit(server, 1000)
            sockets.curve_server(server, SERVER)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            peer = new(zmq.DEALER)
            peer.setsockopt(zmq.LINGER, 0)
            if curve:
                sockets.curve_client(peer, client, SERVER.curve_public)
            peer.connect(f"tcp://127.0.0.1:{port}")
            peer.send(b"hello")
            if not server.poll(10_000 if policy is None and curve else 700):
                return None
            return sockets.user_id(server.recv_multipart(copy=False)[1])

        yield make
        for zap in made:
            zap.close()
            assert not zap.is_alive()

    def test_any_curve_key_is_admitted_under_its_own_name(self, pair):
        assert pair() == CLIENT.curve_public

    def test_a_plain_peer_is_not(self, pair):
        assert pair(curve=False) is None

    @pytest.mark.parametrize("answer", [Answer.LATER, Answer.NEVER])
    def test_the_policy_may_refuse(self, pair, answer):
        asked = []
        assert pair(lambda key, address: asked.append((key, address)) or answer) is None
        assert asked[0] == (CLIENT.curve_public, "127.0.0.1") or asked[0][1].endswith("127.0.0.1")

    def test_a_policy_that_raises_refuses_and_the_handler_lives(self, pair):
        broken = [True]

        def policy(key, address):
            if broken[0]:
                raise RuntimeError("inside the policy")
            return Answer.ADMIT

        assert pair(policy) is None
        broken[0] = False
        assert pair(policy) == CLIENT.curve_public

    def test_without_a_handler_nobody_is_admitted(self, new):
        server = new(zmq.ROUTER)
        sockets.curve_server(server, SERVER)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        peer = new(zmq.DEALER)
        sockets.curve_client(peer, CLIENT, SERVER.curve_public)
        peer.connect(f"tcp://127.0.0.1:{port}")
        peer.send(b"hello")
        assert not server.poll(500)

    def test_one_handler_may_follow_another(self, context):
        for run in (False, True, False):
            zap = Zap(context)
            if run:
                zap.start()
            zap.close()
            assert not zap.is_alive()
