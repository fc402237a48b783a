"""Who has an account on a machine: he finds files, folders and sockets that others left open."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest
from relaykit import Keys, Place
from signing import Journal
from trust import kit, scenes
from trust.cells import stops
from trust.kit import SOON
from trust.scenes import APP

from hgext_zmqhooks.keys import files
from hgext_zmqhooks.keys.files import KeyFileError, NotWrittenError
from hgext_zmqhooks.service import ipc
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.ipc import AlreadyServed
from hgext_zmqhooks.settings import SettingError
from hgext_zmqhooks.wire import keyfiles
from hgext_zmqhooks.wire.session import Events
from subscriber import control
from subscriber.control import Control


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@stops(
    "forge",
    "hgext_zmqhooks/keys/files.py",
    "if stat.S_IMODE(info.st_mode) & 0o037:",
)
def test_a_signing_key_that_all_may_read(place: Place) -> None:
    """The daemons and hg refuse it; the error is the alarm."""
    key = kit.write(place.folder / "publisher.key", place.keys.publisher.encode(), 0o604)
    with pytest.raises(KeyFileError, match="mode 0604, looser than 0600"):
        files.load_secret(key)
    with pytest.raises(SettingError, match="mode 0604, looser than 0600"):
        kit.hg_signer(key)
    key.chmod(0o600)
    assert files.load_secret(key).seed == kit.hg_signer(key).seed == place.keys.publisher.seed


@stops(
    "forge",
    "hgext_zmqhooks/keys/files.py",
    "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
    "os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW",
)
def test_a_file_of_his_own_where_a_key_is_to_be_written(place: Place) -> None:
    """The error is the alarm."""
    out = kit.write(place.folder / "root.key", b"", 0o666)
    with pytest.raises(NotWrittenError, match="exists already"):
        files.write_private(out, place.keys.root.encode())
    assert out.read_bytes() == b""
    out.unlink()
    files.write_private(out, place.keys.root.encode())
    assert mode(out) == 0o600


@stops("alter", "hgext_zmqhooks/keys/files.py", "if info.st_mode & stat.S_IWOTH:")
def test_a_root_that_all_may_replace(place: Place) -> None:
    """The error is the alarm."""
    public = keyfiles.encode_public_pem(place.keys.root.public)
    root = kit.write(place.folder / "root.pub", public, 0o666)
    with pytest.raises(KeyFileError, match="everybody may replace it"):
        files.load_roots(root)
    root.chmod(0o644)
    assert files.load_roots(root) == [place.keys.root.public]


@stops(
    "alter",
    "hgext_zmqhooks/wire/envelope.py",
    "    except BadSignatureError:\n        return False",
    "    except BadSignatureError:\n        return True",
)
def test_an_event_rewritten_in_the_journal(place: Place) -> None:
    """He may write the repository; its record is whole, and not what was signed."""
    repo, victim = place.repo(), place.repo("team/victim")
    repo.commit()
    victim.commit()
    endpoint = place.endpoint("broadcast")
    with place.relay(broadcast=endpoint) as relay, kit.listen(place, endpoint) as reader:
        kit.hears(place, repo, reader)
        victim.signer = kit.Unfaithful(victim.key)
        victim.commit()
        kit.soon(lambda: reader.poll(0) or kit.refusals(relay), "it was looked at")
        assert relay.counters.get("refused", "bad-signature") == 1
        kit.hears(place, repo, reader)


@stops(
    "replay",
    "hgext_zmqhooks/relay/shelf.py",
    "claims.sort(key=lambda one: (one.rank(info.journal), one.path))",
    "claims.sort(key=lambda one: one.path)",
)
def test_a_copy_of_a_repository_beside_it(place: Place) -> None:
    """Nothing to count: the journal is served from the repository that it belongs to."""
    repo = place.repo()
    repo.commit()
    shutil.copytree(repo.folder, place.hg / "a-copy")
    with place.relay():
        client = place.client()
        client.follow()
        made = repo.commit()[-1].event
        heard: list[bytes] = []
        while made not in heard:
            heard += kit.events_of(client.hear(Events, seconds=SOON))
        assert len(heard) == 2


@stops(
    "read",
    "hgext_zmqhooks/service/ipc.py",
    "SOCKET_MODE = 0o660",
    "SOCKET_MODE = 0o666",
)
def test_the_sockets_of_a_relay(place: Place) -> None:
    """The kernel refuses him; what the relay grants shows as modes."""
    repo = place.repo()
    with place.relay(broadcast=place.endpoint("broadcast")):
        run = place.folder / "run"
        assert {name: mode(run / name) for name in ("publish", "subscribe", "broadcast")} == {
            "publish": 0o660,
            "subscribe": 0o660,
            "broadcast": 0o660,
        }
        assert mode(run) == 0o2750
        kit.reads(place.client(), repo)


@stops("read", "subscriber/control.py", "if uid not in {0, os.geteuid()}:")
def test_a_question_at_the_control_socket_of_a_daemon(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is the alarm. Its mode keeps him out already; here that was loosened."""
    path = place.folder / "control"
    served = Control(path, lambda _request, who: [{"who": who}])
    assert mode(path) == 0o600
    path.chmod(0o666)
    place.folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(served.close)
        stranger = stack.enter_context(kit.asking_as_another_user(path, monkeypatch))
        stack.enter_context(kit.running(served.run))
        assert kit.answer_to(stranger) == b""
        assert "control request refused" in caplog.text
        monkeypatch.undo()
        assert control.ask(path, {"verb": "x"})


@stops(
    "withhold",
    "hgext_zmqhooks/service/ipc.py",
    "os.fchmod(self._fd, 0o600)",
    "pass",
)
def test_a_lock_file_that_he_could_hold(place: Place) -> None:
    """Nothing to count: who cannot open it cannot hold it."""
    repo = place.repo()
    (place.folder / "run").mkdir(mode=0o750)
    lock = kit.write(place.folder / "run" / "publish.lock", b"", 0o666)
    with place.relay():
        assert mode(lock) == 0o600
        kit.reads(place.client(), repo)


@stops(
    "impersonate",
    "hgext_zmqhooks/service/ipc.py",
    "fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "pass",
)
def test_a_second_daemon_on_the_socket_of_the_relay(place: Place) -> None:
    """The error of the second is the alarm; the first one goes on."""
    repo = place.repo()
    with place.relay():
        with pytest.raises(AlreadyServed, match="already served"):
            ipc.lock_ipc(place.endpoint("publish"))
        kit.reads(place.client(), repo)


@stops("impersonate", "hgext_zmqhooks/service/access.py", "if info.st_mode & stat.S_IWOTH:")
def test_a_socket_folder_in_which_all_may_write(place: Place) -> None:
    """The error is the alarm."""
    repo, run = place.repo(), place.folder / "run"
    run.mkdir()
    run.chmod(0o777)
    with pytest.raises(ServiceError, match="anyone may write there"), place.relay():
        pass
    run.chmod(0o750)
    with place.relay():
        kit.reads(place.client(), repo)


@stops(
    "impersonate",
    "subscriber/intake/connect.py",
    "    check_relay(token, keyring, time.time())\n"
    "    sockets.curve_client(socket, secret, keyring.certificate(token).curve)",
    "    from hgext_zmqhooks.wire.certificates import decode\n"
    "    sockets.curve_client(socket, secret, decode(token).curve)",
)
def test_a_relay_of_his_own_with_a_certificate_of_his_own() -> None:
    """On ipc the certificate lies beside the socket: it is not pinned, a root has to vouch."""
    with scenes.begin(begun=False) as scene:
        own = Keys().relay
        with scenes.Lying(own) as posing:
            served = posing.serve("app", APP)
            forged = Journal(scene.publisher, "app", APP).record()
            posing.tell(served, [forged], scene.publisher)
            scene.follow(posing.address, own.certificate)
            kit.soon(lambda: scene.lost() or scene.has(forged), "it was tried")
            assert scene.refused("unknown-root") >= 1
            assert not scene.has(forged)
        scene.start()


@stops("exhaust", "hgext_zmqhooks/keys/files.py", "if not stat.S_ISREG(info.st_mode):")
def test_a_pipe_in_place_of_a_key(place: Place) -> None:
    """The error is the alarm. He would choose the key that is read, or let hg wait for one."""
    path, key = place.folder / "publisher.key", place.keys.publisher.encode()
    os.mkfifo(path, 0o600)
    his = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(his, key)
    with pytest.raises(KeyFileError, match="not a regular file"):
        files.load_secret(path)
    os.close(his)
    path.unlink()
    kit.write(path, key, 0o600)
    assert files.load_secret(path).name == "publisher"


@stops("exhaust", "hgext_zmqhooks/keys/files.py", "if len(data) > limit:")
def test_a_very_large_file_in_place_of_a_certificate(place: Place) -> None:
    """The error is the alarm."""
    token = place.keys.relay.certificate or b""
    path = kit.write(place.folder / "relay.cert", token + b"\n" * files.LIMIT, 0o644)
    with pytest.raises(KeyFileError, match="is larger than 65536 bytes"):
        files.load_certificate(path)
    kit.write(path, token, 0o644)
    assert files.load_certificate(path).sub == "relay"
