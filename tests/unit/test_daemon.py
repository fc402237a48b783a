"""The composition root: what it refuses before it starts, and how it ends when a part fails."""

import fcntl
import socket
import stat
import threading
import time

import pytest
from relaykit import EVERYTHING, Keys
from storekit import fill
from subscriberkit import Site, site

from hgext_zmqhooks.service.errors import EXIT, ConfigError, ServiceError
from hgext_zmqhooks.service.life import Life, Stop
from subscriber.actions.exec import Exec
from subscriber.actions.make import make
from subscriber.compiled import compiled, rule_spec
from subscriber.credentials import expiries, load_credentials
from subscriber.daemon import (
    Daemon,
    on_host,
    place,
)
from subscriber.engine.rules import RuleSpec
from subscriber.engine.schedule import Retry
from subscriber.host import Host, await_runners
from subscriber.inside import relay_settings
from subscriber.intake.connect import Remote
from subscriber.settings import Settings, load_settings
from subscriber.store.base import State
from subscriber.store.memory import MemoryStore


@pytest.fixture
def here():
    with site() as made:
        yield made


def settings(here: Site, **changes: object) -> Settings:
    here.configure(**changes)
    return load_settings(here.config)


def test_a_rule_reaches_the_engine_with_all_that_it_says(here: Site) -> None:
    when = {
        "topic": ["hg:a:**:", "hg:b:**:"],
        "changes": ["changesets", "tags"],
        "files": "src/**",
        "user": "*@x",
        "phase": "public",
        "pusher": ["a", "b"],
        "origin": "live",
    }
    rule = here.rule("r", when=when, each="head", timeout="2m")
    rule |= {
        "order": "deploy-{repo}",
        "overlap": "latest",
        "concurrency": 3,
        "lock": "prod",
        "retry": {"attempts": 9, "delays": ["2s"], "patience": "1d"},
    }

    (made,) = settings(here, rules=[rule]).rules

    assert rule_spec(made) == RuleSpec(
        name="r",
        topics=("hg:a:**:", "hg:b:**:"),
        changes=("changesets", "tags"),
        files=("src/**",),
        users=("*@x",),
        phases=("public",),
        pushers=("a", "b"),
        origins=("live",),
        each="head",
        timeout=120.0,
        order="deploy-{repo}",
        latest=True,
        concurrency=3,
        lock="prod",
        retry=Retry(9, (2.0,), 86400.0),
    )


def test_an_action_runs_in_the_folder_of_the_configuration(here: Site) -> None:
    given = settings(here)

    made = make(given.rules[0].action, place(given))

    assert made == Exec(("./run.py",), str(here.folder), f"{here.store}.runners")


def test_what_this_host_cannot_do_is_refused_at_the_start_and_at_a_reload(here: Site) -> None:
    action = {"command": ["./run.py"], "user": "no-such-user"}
    given = settings(here, rules=[here.rule("fine"), here.rule("other", exec=action)])

    with pytest.raises(ConfigError) as caught:
        compiled(given, place(given))

    assert caught.value.key == "rules[1].exec.user"
    assert "no such user" in str(caught.value)


def test_the_relay_inside_takes_key_trust_and_state_from_its_subscriber(here: Site) -> None:
    made = relay_settings(settings(here))

    assert made is not None
    assert (made.key, made.trust) == (here.folder / "ci.key", (here.folder / "root.pub",))
    assert made.state == here.folder / "ci.db.relay"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda keys: keys.publisher, "does not have the role"),
        (lambda keys: keys.make("ci", read=(EVERYTHING,), nbf=-99, lasts=-9), "expired"),
        (lambda _keys: Keys().subscriber, "not among the trusted ones"),
    ],
)
def test_a_key_that_no_relay_would_take_is_refused_at_the_start(here: Site, make, reason) -> None:
    here.write_key("ci.key", make(here.keys))

    with pytest.raises(ConfigError, match=reason) as caught:
        load_credentials(settings(here))

    assert (caught.value.key, "zmq-keys" in caught.value.hint) == ("key", True)


@pytest.mark.parametrize(
    ("serves", "warned"),
    [
        ({"subscribe": ["tcp://127.0.0.1:5701"]}, True),
        ({"broadcast": "tcp://127.0.0.1:5702", "broadcast-readers": ["ci.cert"]}, True),
        ({"broadcast": "tcp://127.0.0.1:5702", "insecure": True}, False),
        ({}, False),
    ],
    ids=["sessions", "readers", "open", "nobody"],
)
def test_the_end_of_a_certificate_of_the_relay_inside_is_told_where_clients_ask_for_it(
    here: Site, serves: dict[str, object], *, warned: bool
) -> None:
    # Given a relay inside with a key of its own, whose certificate ends soon
    ending = here.keys.make("relay", roles=("relay",), nbf=-90 * 86400, lasts=86400)
    here.write_key("relay.key", ending)
    (here.folder / "ci.cert").write_bytes(here.keys.subscriber.certificate or b"")
    relay = {
        "publish": f"ipc://{here.folder}/run/publish",
        "repositories": [f"{here.hg}/**"],
        "key": "relay.key",
    }
    given = settings(here, relay=relay | serves)

    told = [one for one in expiries(given, relay_settings(given), time.time()) if one.key != "key"]

    assert [one.key for one in told] == ["relay.key"] * warned
    assert all("the certificate of 'relay' expires" in one.text for one in told)


def test_a_name_that_is_not_the_certificates_is_refused(here: Site) -> None:
    with pytest.raises(ConfigError, match="is that of 'ci'"):
        load_credentials(settings(here, name="other"))


@pytest.mark.parametrize("address", ["inproc://1", "ipc:///run/zmqhooks/subscribe"])
def test_a_relay_that_is_local_is_another_one_on_each_host_of_a_fleet(address: str) -> None:
    assert on_host(Remote("it", address)).name == f"it@{socket.gethostname()}"
    assert on_host(Remote("hg1", "tcp://hg1:5701")).name == "hg1"


def test_a_part_that_fails_stops_all_and_the_status_says_so(here: Site) -> None:
    life = Life()
    daemon = Daemon(settings(here), life)
    daemon.start()

    def fail(_stop: Stop) -> None:
        raise RuntimeError("out of luck")

    life.spawn("part", fail)

    assert daemon.wait() is EXIT.PROBLEM
    daemon.close()
    assert here.start().terminate() == 0


def test_a_start_that_fails_half_way_gives_everything_back(here: Site) -> None:
    bad = {"publish": f"ipc://{here.folder}/no/such/run/publish", "repositories": ["/srv"]}
    daemon = Daemon(settings(here, relay=bad), Life())

    with pytest.raises(ServiceError, match="publish"):
        daemon.start()
    daemon.close()

    here.configure()
    assert here.start().terminate() == 0


def test_a_new_daemon_waits_for_the_runners_of_the_old_one(here: Site) -> None:
    path = here.folder / "ci.db.runners"
    with path.open("w") as runner:
        fcntl.flock(runner, fcntl.LOCK_SH)
        with pytest.raises(ServiceError, match=r"still run after 0\.2 s") as caught:
            await_runners(path, 0.2, Stop())
        assert str(path) in caught.value.hint
        waiting = threading.Thread(target=await_runners, args=(path, 20, Stop()))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()

    waiting.join(20)

    assert not waiting.is_alive()


def test_nobody_else_can_lock_the_file_of_the_runners(here: Site) -> None:
    """Who can open it can hold its lock, and no command would ever start again."""
    path = here.folder / "ci.db.runners"
    path.touch(0o644)

    await_runners(path, 20, Stop())

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_waiting_for_runners_ends_when_asked_to_stop(here: Site) -> None:
    path, stop = here.folder / "ci.db.runners", Stop()
    stop.set()
    with path.open("w") as runner:
        fcntl.flock(runner, fcntl.LOCK_SH)
        begin = time.monotonic()

        await_runners(path, 20, stop)

    assert time.monotonic() - begin < 10


def test_what_may_still_run_keeps_its_lease_when_a_start_is_broken_off(here: Site) -> None:
    """Another daemon of a fleet would run it beside the command that has not ended."""
    state, stop, store = here.folder / "ci.db", Stop(), MemoryStore()
    fill(store, 1)
    (claim,) = store.claim("former", 3600.0, 1, store.now())
    stop.set()
    with Host(state, "ci") as host, (here.folder / "ci.db.runners").open("w") as runner:
        host.lock.sign("former")
        fcntl.flock(runner, fcntl.LOCK_SH)

        host.inherit(store, stop)

    found = store.delivery(claim.delivery.id)
    assert (found and found.state) is State.RUNNING
    with Host(state, "ci") as host:
        assert host.lock.former == "former"
        host.inherit(store, Stop())
    found = store.delivery(claim.delivery.id)
    assert (found and found.state) is not State.RUNNING
