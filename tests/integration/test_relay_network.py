"""Who may connect to a relay over a network, and how often: real sockets, CURVE on both sides."""

import time

import pytest
import relaykit
import zmq
from relaykit import publish_live
from support.waiting import wait_for

from hgext_zmqhooks.relay.limits import Limits
from hgext_zmqhooks.service import sockets
from hgext_zmqhooks.service.addresses import Network
from hgext_zmqhooks.service.errors import ConfigError
from hgext_zmqhooks.wire import certificates
from hgext_zmqhooks.wire.envelope import Message
from hgext_zmqhooks.wire.session import Events, Hello, SessionRefused, Welcome

LOOPBACK = (Network.parse("127.0.0.0/8"), Network.parse("::1"))
ELSEWHERE = (Network.parse("192.0.2.0/24"), Network.parse("2001:db8::/32"))


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


def greeting(client):
    return Hello(client.key.certificate, client.key.name, "store-1", "instance")


class TestAllow:
    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    def test_an_address_of_the_networks_may_connect(self, place, host):
        tcp = place.tcp(host)
        with place.relay(subscribe=(tcp,), allow=LOOPBACK):
            assert isinstance(place.client(endpoint=tcp).hello(), Welcome)

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    def test_another_one_is_refused_and_counted_and_ipc_is_not_asked(self, place, host, caplog):
        repo = place.repo()
        tcp, ipc = place.tcp(host), place.endpoint("subscribe")
        with place.relay(subscribe=(tcp, ipc), allow=ELSEWHERE) as relay:
            stranger = place.client(endpoint=tcp)
            stranger.socket.send_multipart(stranger.session.send(greeting(stranger)))
            wait_for(lambda: relay.counters.get("refused", "address") > 0, "the refusal")
            assert not stranger.socket.poll(0)

            honest = place.client(endpoint=ipc)
            honest.follow()
            repo.commit()
            assert honest.hear(Events).scanned == 1
        lines = [one.fields for one in caplog.records if one.getMessage() == "connection refused"]
        assert lines[0]["endpoint"] == "subscribe"
        assert lines[0]["address"].endswith(host.strip("[]"))

    def test_it_counts_for_a_publisher_too(self, place):
        repo = place.repo()
        tcp = place.tcp()
        with place.relay(publish=tcp, allow=ELSEWHERE) as relay:
            publisher = place.context.socket(zmq.XPUB)
            sockets.curve_client(publisher, repo.key, place.relay_key)
            publisher.connect(tcp)
            wait_for(lambda: relay.counters.get("refused", "address") > 0, "the refusal")
            assert not publisher.poll(0), "nobody subscribes"
            publisher.close(linger=0)


def test_handshakes_are_limited_and_an_honest_peer_comes_again(place):
    tcp = place.tcp()
    with place.relay(subscribe=(tcp,), limits=Limits(handshakes=1)) as relay:
        clients = [place.client(endpoint=tcp) for _ in range(3)]
        for client in clients:
            client.socket.send_multipart(client.session.send(greeting(client)))
        # Who was refused comes again by itself, 3 s after the last time.
        for client in clients:
            assert isinstance(client.hear(seconds=60), Welcome)
        assert relay.counters.get("refused", "handshakes") > 0


class TestBroadcast:
    def reader(self, place, endpoint, key=None):
        socket = place.context.socket(zmq.SUB)
        sockets.limit(socket, 1 << 22)
        if key is not None:
            sockets.curve_client(socket, key, place.relay_key)
        socket.subscribe(b"")
        socket.connect(endpoint)
        return socket

    def hears(self, place, repo, reader, among=()):
        """Commit until the reader hears of it; what the others heard meanwhile."""
        end = time.monotonic() + relaykit.DEADLINE
        while time.monotonic() < end:
            repo.commit()
            if reader.poll(500):
                message = Message.from_frames(reader.recv_multipart())
                place.keys.keyring.authenticate(message, time.time())
                return [one.poll(100) for one in among]
        raise AssertionError("the reader heard nothing")

    @pytest.fixture
    def certificate(self, place):
        path = place.folder / "reader.cert"
        path.write_bytes(place.keys.subscriber.certificate)
        return path

    def test_over_tcp_only_readers_hear_it(self, place, certificate):
        repo = place.repo()
        tcp = place.tcp()
        other = place.keys.make("other", read=(relaykit.EVERYTHING,))
        with place.relay(broadcast=tcp, broadcast_readers=(certificate,)) as relay:
            strangers = [self.reader(place, tcp, key) for key in (other, None)]
            reader = self.reader(place, tcp, place.keys.subscriber)
            wait_for(lambda: relay.counters.get("refused", "not-a-reader") > 0, "the refusal")
            assert self.hears(place, repo, reader, strangers) == [0, 0]
            for socket in (reader, *strangers):
                socket.close(linger=0)

    def test_insecure_lets_anyone_read_and_is_said_at_each_start(self, place, caplog):
        repo = place.repo()
        tcp = place.tcp()
        with place.relay(broadcast=tcp, insecure=True):
            reader = self.reader(place, tcp)
            self.hears(place, repo, reader)
            reader.close(linger=0)
        (line,) = [one for one in caplog.records if "anyone who can connect" in one.getMessage()]
        assert (line.levelname, line.fields["broadcast"]) == ("WARNING", tcp)

    def test_insecure_is_no_way_around_the_networks(self, place):
        tcp = place.tcp()
        with place.relay(broadcast=tcp, insecure=True, allow=ELSEWHERE) as relay:
            reader = self.reader(place, tcp)
            wait_for(lambda: relay.counters.get("refused", "address") > 0, "the refusal")
            reader.close(linger=0)

    def test_without_readers_and_without_insecure_nobody_reads(self, place):
        """The settings refuse this; if they did not, the handler would."""
        repo = place.repo()
        tcp = place.tcp()
        with place.relay(broadcast=tcp) as relay:
            reader = self.reader(place, tcp)
            repo.commit()
            assert not reader.poll(1500)
            assert relay.counters.get("broadcast") > 0
            reader.close(linger=0)

    def test_a_relay_whose_certificate_is_not_one_of_a_relay_does_not_start(
        self, place, certificate
    ):
        place.keys.relay = place.keys.make("relay", read=(relaykit.EVERYTHING,))
        with (
            pytest.raises(ConfigError, match="cannot serve"),
            place.relay(broadcast=place.tcp(), subscribe=(), broadcast_readers=(certificate,)),
        ):
            pass


def test_a_live_copy_over_tcp_is_answered(place):
    repo = place.repo()
    tcp = place.tcp()
    with place.relay(publish=tcp) as relay:
        copies = [one.frames() for one in repo.commit()]
        answers = publish_live(place, copies, endpoint=tcp, curve=repo.key)
        assert len(answers) == 1
        assert relay.counters.get("live") == 1


def test_a_copy_of_another_signer_is_refused_over_tcp_and_honest_ones_go_on(place, caplog):
    """Somebody who may publish sends again what it saw of another publisher."""
    repo = place.repo()
    tcp = place.tcp()
    other = place.keys.make("other", publish=(relaykit.EVERYTHING,))
    with place.relay(publish=tcp) as relay:
        copies = [one.frames() for one in repo.commit()]
        assert publish_live(place, copies, endpoint=tcp, curve=other, seconds=1) == []
        assert relay.counters.get("refused", "wrong-key") == 1
        assert relay.counters.get("live") == 0
        assert len(publish_live(place, copies, endpoint=tcp, curve=repo.key)) == 1
    (line,) = [one.fields for one in caplog.records if one.getMessage() == "live copy refused"]
    assert line["reason"] == "the CURVE key is not that of 'publisher', who signed it"


def test_a_message_of_more_frames_than_the_limit_is_refused(place):
    repo = place.repo()
    with place.relay(limits=Limits(frames=4)) as relay:
        copies = [one.frames() for one in repo.commit()]
        answers = publish_live(place, [[*copies[0], b""], copies[0]], seconds=3)
        assert len(answers) == 1
        assert relay.counters.get("refused", "frames") == 1


def test_a_live_copy_of_more_bytes_than_the_limit_is_refused(place):
    repo = place.repo()
    with place.relay(limits=Limits(message=65_536)) as relay:
        copies = [one.frames() for one in repo.commit()]
        answers = publish_live(place, [[*copies[0][:3], bytes(65_537)], copies[0]], seconds=3)
        assert len(answers) == 1
        assert relay.counters.get("refused", "message") == 1


def test_a_session_beyond_its_certificate_is_refused_by_name_if_so_configured(place):
    place.repo().commit()
    key = place.keys.make("team", read=("hg:team/**:**:",))
    with place.relay(excess="refuse"):
        client = place.client(key=key)
        client.follow(relaykit.EVERYTHING)
        refusal = client.hear(SessionRefused)
        assert (refusal.kind, "'hg:**:**:'" in refusal.detail) == ("not-allowed", True)
        again = place.client(key=key)
        again.follow("hg:team/app:**:")
        assert again.hear(Events).scanned == 1


def test_the_relays_key_is_proved_too(place):
    """A peer that expects another relay's key gets no further than the handshake."""
    tcp = place.tcp()
    with place.relay(subscribe=(tcp,)):
        socket = place.context.socket(zmq.DEALER)
        sockets.limit(socket, 1 << 22)
        wrong = certificates.decode(place.keys.make("relay", roles=("relay",)).certificate)
        sockets.curve_client(socket, place.keys.subscriber, wrong.curve)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        socket.connect(tcp)
        assert monitor.poll(10_000), "the handshake failed"
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)
