"""Webhooks and Redis as a daemon runs them: verdicts become receipts, and secrets stay in files."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from relaykit import draft
from signing import node
from subscriberkit import Site, site
from support.receiver import Receiver
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.wire.values import Heads

SECRET = base64.b64encode(bytes(range(60, 92))).decode()
PASSWORD = "correct-horse-battery"


@pytest.fixture
def here():
    with site() as made:
        yield made


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.touch(0o600)
    path.write_text(text + "\n")
    return name


def rows(here: Site, state: str) -> list[dict]:
    return here.rows("deliveries", "--state", state)


def test_what_a_receiver_answers_becomes_of_the_delivery(here: Site) -> None:
    """Given answers 503, 200 and 410, Then it waits as asked, the next is done, the last dead."""
    with Receiver() as receiver:
        receiver.answers += [
            (503, {"retry-after": "1"}, b"busy"),
            (200, {}, b"taken"),
            (410, {}, b"gone"),
        ]
        webhook = {"url": f"{receiver.url}/{{branch}}"}
        retry = {"delays": ["0s"]}
        here.configure(rules=[{"name": "tell", "webhook": webhook, "retry": retry}])
        repo = here.repo()
        here.start()

        repo.commit(draft("default"))
        (done,) = wait_for(lambda: rows(here, "done"))
        repo.commit(draft("default"))
        (dead,) = wait_for(lambda: rows(here, "dead"))

    first, second, third = receiver.requests
    assert [seen.headers["webhook-id"] for seen in receiver.requests] == [
        done["id"],
        done["id"],
        dead["id"],
    ]
    assert [seen.headers["zmqhooks-attempt"] for seen in receiver.requests] == ["1", "2", "1"]
    fences = [int(seen.headers["zmqhooks-fence"]) for seen in receiver.requests]
    assert fences == sorted(set(fences))
    waited = [int(seen.headers["webhook-timestamp"]) for seen in (first, second)]
    assert waited[1] - waited[0] >= 1
    assert third.path == "/default"
    assert "HTTP 503 Service Unavailable; asked to wait 1 s" in here.ask("show", done["id"]).stdout
    assert "HTTP 410 Gone: the receiver is disabled" in here.ask("show", dead["id"]).stdout


def test_no_secret_of_an_action_leaves_its_file(here: Site) -> None:
    with Receiver() as receiver, Server(here.folder / "valkey") as server:
        # Given a webhook and a stream whose secrets are refused, and good ones
        server.client().execute_command("ACL", "SETUSER", "hooks", "on", "~*", "+@all", ">other")
        receiver.answers += [(401, {}, b"who are you?")]
        secret = write(here.folder, "webhook.secret", f"whsec_{SECRET}")
        user = write(here.folder, "user", f"hooks:{PASSWORD}")
        retry = {"attempts": 1, "patience": "0s"}
        webhook = {"url": receiver.url, "secret": secret, "credentials": user}
        stream = {"url": server.url, "credentials": user, "stream": "hg"}
        here.configure(
            rules=[
                {"name": "tell", "webhook": webhook, "retry": retry},
                {"name": "stream", "redis": stream, "retry": dict(retry)},
            ]
        )
        repo = here.repo()
        daemon = here.start()
        repo.commit(draft("default"))
        dead = wait_for(lambda: len(rows(here, "dead")) == 2 and rows(here, "dead"))
        # When all is told that can be
        verbs = [["check"], ["status"], ["deliveries"], *(["show", row["id"]] for row in dead)]
        said = "".join(
            (ran := here.ask(*verb, *more)).stdout + ran.stderr
            for verb in verbs
            for more in ([], ["--json"])
        )
        daemon.end()

    # Then each was used, and none stands anywhere but in its file
    assert "webhook-signature" in receiver.requests[0].headers
    assert "HTTP 401" in said
    assert "it refuses our user or password" in said
    basic = base64.b64encode(f"hooks:{PASSWORD}".encode()).decode()
    found = {
        path.name
        for path in here.folder.rglob("*")
        if path.is_file() and path.name not in {"webhook.secret", "user"}
        for hidden in (SECRET, PASSWORD, basic)
        if hidden.encode() in path.read_bytes()
    }
    assert found == set()
    assert not [hidden for hidden in (SECRET, PASSWORD, basic) if hidden in said]


def test_the_head_of_a_branch_is_one_look_up_away(here: Site) -> None:
    with Server(here.folder / "valkey") as server, server.client() as client:
        stream = {"url": server.url, "stream": "hg", "head": "head:{repo}:{branch}"}
        here.configure(rules=[{"name": "stream", "redis": stream}])
        repo = here.repo("team/app")
        here.start()

        for at in range(1, 6):
            repo.commit(replace(draft("default"), heads=Heads(node(at), 1)))
        repo.commit(replace(draft("a:b"), heads=Heads(node(9), 1)))
        wait_for(lambda: len(rows(here, "done")) == 6)

        entries = [entry for _, entry in client.xrange("hg")]
        heads = [
            json.loads(client.get(f"head:team/app:{name}"))["node"] for name in ("default", "a%3Ab")
        ]

    assert heads == [node(5), node(9)]
    assert len({entry[b"delivery"] for entry in entries}) == 6
    of_default = [
        json.loads(entry[b"event"])["sequence"]
        for entry in entries
        if entry[b"topic"] == b"hg:team/app:default:"
    ]
    assert of_default == sorted(of_default)
