"""`zmq-subscriber accept` and `status`: a person lets pass what is held."""

import socket
import stat
from pathlib import Path

import pytest
from relaykit import EVERYTHING, Keys, Repo, draft
from subscriberkit import Site, site
from support.daemons import Daemon
from support.waiting import wait_for

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.service.errors import ServiceError
from subscriber.control import ask

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def here():
    with site() as made:
        yield made


def expired(here: Site):
    return here.keys.make("old", publish=(EVERYTHING,), lasts=-60.0)


def hold(here: Site) -> Daemon:
    """A daemon that holds two events of default and one of stable."""
    old = here.repo("app", expired(here))
    old.commit(draft("default"))
    old.commit(draft("stable"))
    old.commit(draft("default"))
    daemon = here.start()
    wait_for(lambda: held(here) == {"default": 2, "stable": 1}, "all are held")
    return daemon


def held(here: Site) -> dict[str, int]:
    return {row["branch"]: row["count"] for row in here.rows("status") if row["kind"] == "held"}


def journals(here: Site) -> list[dict]:
    return [row for row in here.rows("status") if row["kind"] == "journal"]


def decisions(here: Site) -> list[tuple]:
    return here.sql("SELECT who, verb, branch, sequence FROM decision ORDER BY number")


def test_held_events_of_a_branch_are_released_by_the_running_daemon(here: Site) -> None:
    daemon = hold(here)

    (row,) = here.rows("accept", "app", "default")

    runs = here.wait_runs(2)
    assert [run["branch"] for run in runs] == ["default", "default"]
    assert (row["verb"], row["released"], row["sequence"]) == ("release", 2, 3)
    assert held(here) == {"stable": 1}
    line = daemon.wait_line("accepted by an operator")
    assert "branch=default" in line
    assert f"who={row['who']}" in line
    assert decisions(here) == [(row["who"], "release", "default", 3)]


def test_one_event_or_a_whole_repository_and_without_a_daemon(here: Site) -> None:
    hold(here).terminate()
    journal = journals(here)[0]["journal"]

    (one,) = here.rows("accept", f"{journal[:8]}/1")
    assert (one["branch"], one["released"]) == ("default", 1)
    rows = here.rows("accept", "app")

    assert {row["branch"]: row["released"] for row in rows} == {"default": 1, "stable": 1}
    assert held(here) == {}
    here.start()
    here.wait_runs(3)


def test_what_is_not_held_cannot_be_accepted(here: Site) -> None:
    hold(here)
    journal = journals(here)[0]["journal"]
    for words in (
        ("none",),
        ("app", "none"),
        (f"{journal}/9",),
        (f"{journal}/2", "default"),
        ("app", "--journal", journal),
        ("app", "--journal", "zz"),
    ):
        done = here.ask("accept", *words)
        assert done.returncode == 1, words
        assert "zmq-subscriber: " in done.stderr
    assert decisions(here) == []


@pytest.mark.long
def test_a_second_journal_of_a_repository_is_held_until_a_person_admits_it(here: Site) -> None:
    # Given a repository that was read, and another one on the same host that claims its name
    here.repo("app").commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    imposter = _renamed(here, "zz/app2", "app")
    imposter.commit(draft())
    # Then its journal is stopped, and the way to go on is told
    line = daemon.wait_line("journal stopped", "kind=unfit-journal")
    assert "accept app --journal" in line
    (row,) = [row for row in journals(here) if row["stopped"]]
    assert row["next"].endswith(f"accept app --journal {row['journal']}")
    said = here.ask("status")
    assert said.returncode == 1
    assert row["next"] in said.stdout
    assert len(here.runs()) == 1
    # When a person says that it is right
    (answer,) = here.rows("accept", "app", "--journal", row["journal"][:12])
    # Then it goes on, by itself
    assert (answer["verb"], answer["sequence"]) == ("admit", 1)
    here.wait_runs(2)
    imposter.commit(draft())
    here.wait_runs(3)
    assert [one["stopped"] for one in journals(here)] == [None, None]
    assert decisions(here) == [(answer["who"], "admit", None, 1)]


def _renamed(here: Site, folder: str, name: str):
    """A repository in one folder that calls itself by another name."""
    made = Repo(here.hg, folder, here.keys.publisher)
    made.writer = Writer(Directory(made.store), name)
    return made


def test_an_unknown_signer_cannot_be_accepted(here: Site) -> None:
    here.repo("app", Keys().publisher).commit(draft())
    daemon = here.start()
    daemon.wait_line("journal stopped")
    (row,) = journals(here)

    done = here.ask("accept", "app", "--journal", row["journal"])

    assert done.returncode == 1
    assert "cannot be accepted: " in done.stderr
    assert "key under a root that is trusted" in row["next"]


def test_status_tells_of_daemon_relay_position_and_lag(here: Site) -> None:
    repo = here.repo()
    repo.commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    rows = here.rows("status")
    (journal,) = [row for row in rows if row["kind"] == "journal"]
    (relay,) = [row for row in rows if row["kind"] == "relay"]
    assert rows[0]["daemon"] is True
    assert (journal["scanned"], journal["head"], journal["behind"]) == (1, 1, 0)
    assert journal["seconds"] == 0
    assert (relay["relay"], relay["seen"] is not None) == ("inside", True)
    text = here.ask("status")
    assert text.returncode == 0
    assert f"daemon: runs, process {daemon.pid}" in text.stdout
    lines = [line.split() for line in text.stdout.splitlines()]
    assert ["app", journal["journal"][:12], "1", "1", "0", "0", "ok"] in lines
    daemon.terminate()
    assert "daemon: does not run" in here.ask("status").stdout


def test_the_control_socket_is_for_its_user_and_takes_no_garbage(here: Site) -> None:
    daemon = here.start()
    path = Path(f"{here.store}.control")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for bad in (b"", b"no json\n", b"[]\n", b"x" * 70_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            connection.sendall(bad)
            connection.shutdown(socket.SHUT_WR)
            try:
                assert connection.recv(10) == b""
            except ConnectionResetError:
                continue
    for request in ({"verb": "none"}, {"verb": "accept"}, {"verb": "accept", "target": 1}):
        with pytest.raises(ServiceError, match=r"verb|request"):
            ask(path, request)
    assert here.ask("accept", "app").returncode == 1
    daemon.kill()
    assert path.exists()
    assert ask(path, {"verb": "accept", "target": "x"}) is None
    here.start()
    assert path.exists()
