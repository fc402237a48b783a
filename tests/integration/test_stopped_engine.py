"""Two engines on one store: the command of one that is stopped never runs beside its successor's.

Each run takes a lock of the kernel's own, which ends with the last process that has it, and says so
when somebody else holds it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from storekit import fill
from support.valkey import Server
from support.waiting import wait_for

from hgext_zmqhooks.service.redis_client import parse_address
from subscriber.store.redis import RedisStore
from subscriber.store.values import State

ENGINE = """
import sys
from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.service.redis_client import parse_address
from subscriber.actions.exec import Exec
from subscriber.engine.dispatch import Dispatcher
from subscriber.engine.rules import RuleSpec
from subscriber.store.redis import RedisStore

url, owner, folder = sys.argv[1:]
store = RedisStore.open(parse_address(url), "ci")
rule = RuleSpec(name="build", topics=("hg:**:**:",), timeout=600.0)
action = Exec(("./run.sh",), folder, given=(("OWNER", owner),))
Dispatcher(store, [rule], {"build": action}, owner=owner, workers=1, lease=8.0).run(Stop())
"""

# Deaf to SIGTERM, and so is what it starts.
SCRIPT = """#!/bin/sh
trap '' TERM
exec 9> only-one
flock -n 9 || echo "$OWNER" >> overlap
sleep 600 &
echo "$OWNER $$ $! $ZMQHOOKS_FENCE" >> runs
until test -e "go-$OWNER"; do sleep 0.05; done
kill -9 $!
"""


class Engines:
    """The processes, and what their commands said."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "run.sh").write_text(SCRIPT)
        (folder / "run.sh").chmod(0o755)

    def start(self, owner: str) -> None:
        with (self.folder / f"{owner}.log").open("wb") as log:
            self.running[owner] = subprocess.Popen(
                [sys.executable, "-c", ENGINE, self.url, owner, str(self.folder)], stderr=log
            )

    def runs(self) -> list[list[str]]:
        path = self.folder / "runs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def end(self) -> None:
        for each in self.running.values():
            each.kill()
            each.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "valkey") as made:
        yield made


@pytest.fixture
def engines(tmp_path: Path, server: Server) -> Iterator[Engines]:
    made = Engines(tmp_path, server.url)
    yield made
    made.end()


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_command_of_a_stopped_engine_is_gone_when_its_successor_runs(
    engines: Engines, server: Server
) -> None:
    # Given a delivery that one engine runs, longer than its lease
    store = RedisStore.open(parse_address(server.url), "ci")
    fill(store, 1)
    engines.start("first")
    (first,) = wait_for(engines.runs)

    # When that engine is stopped, and another one is there
    os.kill(engines.running["first"].pid, signal.SIGSTOP)
    engines.start("second")
    _, second = wait_for(lambda: len(engines.runs()) == 2 and engines.runs())

    # Then nothing of the first run was left when the second began
    assert (first[0], second[0]) == ("first", "second")
    assert not any(map(alive, first[1:3]))
    assert not (engines.folder / "overlap").exists()
    assert int(second[3]) > int(first[3])

    # And when the first engine goes on, its late result changes nothing
    os.kill(engines.running["first"].pid, signal.SIGCONT)
    (engines.folder / "go-second").touch()
    (item,) = wait_for(
        lambda: [one for one in [store.delivery("build-9f-1")] if one.state is State.DONE]
    )
    assert item.fence == int(second[3])
    verdicts = [receipt.outcome.verdict for receipt in store.receipts(item.id)]
    assert verdicts.count("done") == 1
    store.close()
    assert len(engines.runs()) == 2
