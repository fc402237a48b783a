import pytest
import zmq

from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.zap import BROADCAST, SUBSCRIBE, Answer, Zap
from hgext_zmqhooks.wire import keyfiles

SERVER = keyfiles.generate("server")
CLIENT = keyfiles.generate("client")


class TestZap:
    @pytest.fixture
    def pair(self, context, new):
        """A function: whether a client with this secret gets a message through, and as whom."""
        made = []

        def make(policy=None, *, client=CLIENT, curve=True, plain=None):
            if not made:
                zap = Zap(context, policy, plain={BROADCAST}) if policy else Zap(context)
                zap.start()
                made.append(zap)
            server = new(zmq.ROUTER)
            sockets.limit(server, 1000)
            if plain:
                sockets.plain_server(server, plain)
            else:
                sockets.curve_server(server, SERVER, SUBSCRIBE)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            peer = new(zmq.DEALER)
            peer.setsockopt(zmq.LINGER, 0)
            if curve:
                sockets.curve_client(peer, client, SERVER.curve_public)
            peer.connect(f"tcp://127.0.0.1:{port}")
            peer.send(b"hello")
            if not server.poll(700 if curve is bool(plain) or policy else 10_000):
                return None
            return sockets.user_id(server.recv_multipart(copy=False)[1]) or "nobody"

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
        assert pair(lambda *said: asked.append(said) or answer) is None
        assert asked[0] == (SUBSCRIBE, CLIENT.curve_public, "::ffff:127.0.0.1")

    def test_without_a_key_only_a_domain_that_is_plain_is_open_and_the_policy_is_asked(self, pair):
        asked, answers = [], [Answer.ADMIT, Answer.LATER]

        def policy(*said):
            asked.append(said)
            return answers.pop(0)

        assert pair(policy, curve=False, plain=BROADCAST) == "nobody"
        assert pair(policy, curve=False, plain=BROADCAST) is None
        assert pair(policy, curve=False, plain=SUBSCRIBE) is None
        assert asked[0] == (BROADCAST, "", "::ffff:127.0.0.1")
        assert {domain for domain, *_ in asked} == {BROADCAST}

    def test_a_policy_that_raises_refuses_and_the_handler_lives(self, pair):
        broken = [True]

        def policy(domain, key, address):
            if broken[0]:
                raise RuntimeError("inside the policy")
            return Answer.ADMIT

        assert pair(policy) is None
        broken[0] = False
        assert pair(policy) == CLIENT.curve_public

    def test_without_a_handler_nobody_is_admitted(self, new):
        server = new(zmq.ROUTER)
        sockets.curve_server(server, SERVER, SUBSCRIBE)
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
