"""A relay process under arbitrary words of somebody who may read one repository of several."""

from dataclasses import replace
from random import Random
from types import SimpleNamespace

import privatekit
import pytest
import relaykit
import zmq
from privatekit import MINE, READ, SECRET, Secrets
from support.site import Site

from hgext_zmqhooks.keys.files import load_secret
from hgext_zmqhooks.wire import certificates, messages
from hgext_zmqhooks.wire.keyfiles import SecretKey
from hgext_zmqhooks.wire.session import Ack, Beat, Bye, Events, Follow, Hello, Since, Welcome

CONNECTIONS = 16
MESSAGES = 25
PATTERNS = ("hg:**:**:", READ, "hg:team/a?:**:", f"hg:{SECRET[0]}:**:", "hg:team/*:*:", "x")


class Scene:
    """A relay with secrets, and the keys of who may read all and of who may not."""

    def __init__(self, site: Site, context: zmq.Context) -> None:
        site.issue("spy", "--read", READ)
        keys = {
            name: load_secret(site.folder / "keys" / f"{name}.key")
            for name in ("publisher", "relay", "subscriber", "spy")
        }
        self.spy, self.reader = keys["spy"], keys["subscriber"]
        self.secrets = Secrets(site.root, keys["publisher"])
        site.configure_relay()
        site.relay()
        self._place = SimpleNamespace(
            context=context,
            keys=SimpleNamespace(relay=keys["relay"]),
            relay_key=certificates.decode(keys["relay"].certificate or b"").curve,
        )
        self._endpoint = site.endpoint("subscribe")

    def client(self, key: SecretKey) -> relaykit.Client:
        return relaykit.Client(self._place, key=key, endpoint=self._endpoint)


def words(scene: Scene, rng: Random, number: int) -> list[list[bytes]]:
    """What the spy says on one connection: mostly a dialogue, with lies and garbage in it.

    `number`: of FOLLOWs that he has said there, after a HELLO; none: he begins with a HELLO.
    """
    journals = [*scene.secrets.journals.values(), scene.secrets.former, "e" * 32]
    said, before = [], 2 * number
    if not number:
        key = scene.reader if rng.random() < 0.2 else scene.spy
        said = [Hello(key.certificate, key.name, "store-1", f"i{rng.randrange(4)}")]
    while len(said) < MESSAGES:
        at = {rng.choice(journals): rng.choice((0, 3, 9)) for _ in range(rng.randrange(4))}
        number += rng.choice((0, 1, 1, 1))
        follow = Follow(tuple(rng.sample(PATTERNS[:-1], 3)), at, rng.choice((1, 10**7)), number)
        since = Follow(("hg:**:**:",), dict.fromkeys(at, Since(0.0)), 10**7, number)
        said.append(rng.choice((follow, since, Ack(at, 0, number), Beat())))
    said += [Bye("")] * rng.randrange(2)
    out = [messages.encode(replace(one, number=before + n)) for n, one in enumerate(said, 1)]
    cut = rng.randrange(2, MESSAGES)
    bad = Follow((rng.choice(PATTERNS),), {}, 1, number, number=before + cut + 1)
    garbage = [[rng.randbytes(20)] * rng.randrange(1, 6), [*out[-1][:2], b"{", b""]]
    if rng.random() < 0.7:
        out[cut:] = rng.choice((garbage, [messages.encode(bad)] * 3))
    return out


def answers(client: relaykit.Client, end: bytes) -> list[list[bytes]]:
    """All that comes until the relay has answered to the verb `end`, which nobody knows."""
    heard = []
    client.send([messages.VERSION, end, b"{}", b""])
    while not heard or end not in heard[-1][2]:
        assert client.socket.poll(relaykit.DEADLINE * 1000), "the relay fell silent"
        heard.append(client.socket.recv_multipart())
    return heard


@pytest.fixture
def scene():
    with Site.made() as site, zmq.Context() as context:
        yield Scene(site, context)
        context.destroy(linger=0)


def test_no_words_get_a_secret_out_of_a_relay(scene):
    # Given somebody who may read one repository, knows the ids of all journals, and says anything
    rng, said, heard = Random(1), [], []
    for number in range(CONNECTIONS):
        client = scene.client(scene.spy)
        greeted = number % 2
        if greeted:
            heard += [messages.encode(client.follow()), messages.encode(client.hear(Events))]
        for frames in words(scene, rng, greeted):
            client.send(frames)
            said += frames
        scene.secrets.commit(rng.choice((MINE, *SECRET)), privatekit.OPEN)
        heard += answers(client, b"END-%d" % number)
        client.close()

    # Then nothing that he was ever told is of another repository or a closed branch
    for frames in heard:
        scene.secrets.check(frames, said)
    kinds = {type(messages.decode(frames)) for frames in heard}
    assert {Welcome, Events} <= kinds, "he got what is his"

    # and who may read everything is served the rest
    reader = scene.client(scene.reader)
    reader.follow()
    seen = b""
    while not all(name.encode() in seen for name in (privatekit.MARK, *SECRET)):
        seen += b"".join(record.event for record in reader.hear(Events).records)
    reader.close()
