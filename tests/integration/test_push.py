"""Real pushes: what a server's journal tells after them, and who did it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hgkit import DEADLINE, Host, fold

WSGI = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from mercurial.hgweb import hgweb

class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass

application = hgweb(sys.argv[1].encode())

def behind_a_web_server(environ, start_response):
    environ["REMOTE_USER"] = "alice"
    return application(environ, start_response)

server = make_server("127.0.0.1", 0, behind_a_web_server, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def work(host: Host) -> Path:
    """Two changesets on two branches and a bookmark, made where nothing is published."""
    repository = host.outside()
    host.commit(repository, "one")
    host.hg("branch", "--quiet", "stable", cwd=repository)
    host.commit(repository, "two")
    host.hg("bookmark", "@", cwd=repository)
    return repository


def told(host: Host, served: Path) -> list[tuple[str, int, str, str | None]]:
    return [
        (event.branch, len(event.changesets), event.pusher.via, event.pusher.user)
        for event in host.events(served)
        if event.pusher
    ]


def test_ssh(host: Host, work: Path) -> None:
    """One transaction writes one event per branch; sshd's environment says who pushed."""
    served = host.repository()
    host.push_ssh(
        work,
        served,
        "-B",
        "@",
        "--new-branch",
        LOGNAME="hg",
        HG_USER="alice",
        SSH_CONNECTION="192.0.2.7 5 192.0.2.1 22",
    )
    events = host.events(served)
    assert told(host, served) == [("default", 1, "ssh", "alice"), ("stable", 1, "ssh", "alice")]
    assert events[0].pusher
    assert events[0].pusher.address == "192.0.2.7"
    assert [move.name for move in events[1].bookmarks] == ["@"]
    assert len({event.transaction.id for event in events}) == 1
    assert {event.transaction.source for event in events} == {"serve"}
    assert fold(events) == host.served(served) == host.served(work)
    host.verify(served)


def test_ssh_user_is_the_login_name_without_hg_user(host: Host, work: Path) -> None:
    served = host.repository()
    host.push_ssh(work, served, "--new-branch", LOGNAME="bob")
    assert told(host, served) == [("default", 1, "ssh", "bob"), ("stable", 1, "ssh", "bob")]


def test_http(host: Host, work: Path) -> None:
    """The web server says who pushed, and Mercurial's own server that nobody knows."""
    served = host.repository()
    with subprocess.Popen(
        [sys.executable, "-c", WSGI, str(served)], env=host.env(), stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            url = f"http://user:secret@127.0.0.1:{port}/"
            host.hg("push", "-r", "default", url, cwd=work)
        finally:
            server.terminate()
            server.wait(DEADLINE)
    with host.web(served) as url:
        host.hg("push", "--new-branch", url, cwd=work)
    assert told(host, served) == [("default", 1, "http", "alice"), ("stable", 1, "http", None)]
    assert host.events(served)[0].pusher.address == "127.0.0.1"
    assert not any(b"secret@" in event for event in host.raw_events(served))
    host.verify(served)


def test_local_push_tells_on_the_other_side_only(host: Host, work: Path) -> None:
    served = host.repository()
    host.hg("push", "--new-branch", served, cwd=work)
    assert [(branch, via) for branch, _, via, _ in told(host, served)] == [
        ("default", "local"),
        ("stable", "local"),
    ]
    assert not (work / ".hg/store/zmqhooks-events").exists()


def test_passwords_stay_in_the_process(host: Host, work: Path) -> None:
    """A pull into a published repository: its transaction is named after a URL."""
    served = host.repository()
    with host.web(work) as url:
        secret = url.replace("http://", "http://alice:geheim@")
        host.hg("pull", "-r", "default", secret, cwd=served)
    assert {event.transaction.name for event in host.events(served)} == {"pull"}
    assert not any(b"geheim" in event for event in host.raw_events(served))


def test_old_wire_protocol(host: Host, work: Path) -> None:
    """Bundle1 makes two transactions; both come from ssh."""
    served = host.repository()
    legacy = ("--config", "devel.legacy.exchange=bundle1")
    host.push_ssh(work, served, "-B", "@", "--new-branch", *legacy, LOGNAME="hg")
    assert {event.pusher.via for event in host.events(served) if event.pusher} == {"ssh"}
    assert [move.new for event in host.events(served) for move in event.bookmarks]
    host.verify(served)


def test_aborted_push_leaves_nothing(host: Host, work: Path) -> None:
    """A hook that rejects: no event, no journal, and the next push is told once."""
    served = host.repository()
    hook = "\n[hooks]\npretxnclose.no = false\n"
    (served / ".hg/hgrc").write_text(hook)
    assert "rollback completed" in host.hg("push", "--new-branch", served, cwd=work, ok=False)
    assert host.events(served) == []
    (served / ".hg/hgrc").unlink()
    host.hg("push", "--new-branch", served, cwd=work)
    assert len(host.events(served)) == 2
    host.verify(served)


def test_three_hundred_changesets(host: Host) -> None:
    work, served = host.outside(), host.repository()
    host.hg("debugbuilddag", "+300", cwd=work, ok=False)
    host.hg("push", served, cwd=work)
    (event,) = host.events(served)
    assert {changeset.node for changeset in event.changesets} == host.served(work)
    assert len(event.changesets) == 300
    host.verify(served)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twenty_thousand_changesets(host: Host) -> None:
    """Every node is told once, no event is beyond its limit, memory grows by less than 50 MB."""
    work = host.outside()
    host.hg("debugbuilddag", "+20000", cwd=work, ok=False)
    plain, served = host.repository("plain"), host.repository("told")
    off = ("--config", "zmqhooks.enabled=no")
    without = host.peak("-R", work, "push", "-q", *off, plain)
    with_events = host.peak("-R", work, "push", "-q", served)
    events = host.raw_events(served)
    assert max(map(len, events)) <= 262_144
    found = host.events(served)
    nodes = [changeset.node for event in found for changeset in event.changesets]
    assert len(nodes) == len(set(nodes)) == 20_000
    assert set(nodes) == host.served(work)
    assert {event.transaction.parts for event in found} == {len(found)}
    print(f"peak: {without} MiB without, {with_events} MiB with {len(found)} events")
    assert with_events - without < 50
    host.verify(served)


@pytest.mark.parametrize("arguments", [["status"], ["log"], ["heads"]])
def test_reading_loads_neither_zmq_nor_nacl(host: Host, arguments: list[str]) -> None:
    served = host.repository()
    host.commit(served, "one")
    assert modules(host, ["-R", str(served), *arguments]) == set()


def test_writing_without_a_relay_does_not_load_zmq(host: Host) -> None:
    served = host.repository()
    (served / "file").write_text("x")
    arguments = ["-R", str(served), "commit", "-Aqm", "one", str(served / "file")]
    assert modules(host, arguments) == {"nacl"}


def test_outside_the_root_nothing_is_loaded(host: Host) -> None:
    """A clone out of the root, and a commit in it: our modules do nothing there."""
    served = host.repository()
    host.commit(served, "one")
    away = host.folder / "away"
    assert modules(host, ["clone", str(served), str(away)]) == set()
    (away / "file").write_text("other")
    assert modules(host, ["-R", str(away), "commit", "-qm", "two"]) == set()
    assert not list((away / ".hg/store").glob("zmqhooks-*"))


MODULES = """
import sys
from mercurial import dispatch
try:
    from mercurial import main_script
    request = main_script.request
except ImportError:
    request = dispatch.request
assert not dispatch.dispatch(request([a.encode() for a in sys.argv[1:]]))
print("\\nloaded:", *sorted({name.split(".")[0] for name in sys.modules}))
"""


def modules(host: Host, arguments: list[str]) -> set[str]:
    """Which of zmq and nacl an hg command imported."""
    code = "import hgdemandimport; hgdemandimport.enable()\n" + MODULES
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=host.env(),
        capture_output=True,
        check=True,
        timeout=DEADLINE,
    )
    loaded = re.search(r"^loaded: (.*)$", done.stdout.decode(), re.MULTILINE)
    assert loaded
    assert "mercurial" in loaded[1].split()
    return {"zmq", "nacl"} & set(loaded[1].split())


def test_a_repository_is_as_before_without_the_extension(host: Host, work: Path) -> None:
    served = host.repository()
    host.hg("push", "--new-branch", served, cwd=work)
    off = ("--config", "extensions.hgext_zmqhooks=!")
    assert "zmqhooks" not in host.hg("verify", "-q", *off, cwd=served, ok=False)
    host.hg("update", "-q", "-C", "default", *off, cwd=served)
    host.commit(served, "three", *off)
    host.hg("verify", "-q", cwd=served)
