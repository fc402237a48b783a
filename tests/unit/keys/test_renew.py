"""What is said of a certificate's time, and how often."""

from pathlib import Path

from hgext_zmqhooks.keys import make, renew
from hgext_zmqhooks.wire import certificates, keyfiles
from hgext_zmqhooks.wire.certificates import Certificate

NOW = 1_800_000_000


def certificate(days: int = 90) -> Certificate:
    wish = make.Wish("ci", read=("hg:a b:**:",), roles=frozenset({"relay"}), days=days)
    key = make.certified(keyfiles.generate("root"), wish, NOW)
    return certificates.decode(key.certificate or b"")


def test_a_daemon_is_reminded_at_the_start_and_once_a_day_until_it_stops() -> None:
    said: list[str] = []
    waits: list[float] = []
    now = float(NOW)

    def wait(seconds: float) -> bool:
        nonlocal now
        waits.append(seconds)
        now += seconds
        return len(waits) == 92

    renew.remind(lambda: [certificate()], "nothing comes", said.append, wait, lambda: now)

    assert waits == [renew.DAY] * 92
    assert len([text for text in said if "expires" in text]) == 30
    assert [text for text in said if "nothing comes" in text][1:] == [said[-1]]


def test_the_command_rotates_a_key_whatever_its_path() -> None:
    words = renew.rotation(Path("/etc/my keys/ci.key"), Path("/etc/z/root.pub"))

    assert words == "zmq-keys rotate '/etc/my keys/ci.key' --root /etc/z/root.key"


def test_the_command_makes_a_key_of_the_same_name_and_rights() -> None:
    words = renew.again(certificate(), Path("/etc/z/ci.key"), Path("/etc/z/root.pub"))

    assert words == (
        "zmq-keys issue --root /etc/z/root.key --name ci --read 'hg:a b:**:' --role relay"
        " --out /etc/z/ci-new.key"
    )
