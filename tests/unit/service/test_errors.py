import sys

import pytest

from hgext_zmqhooks.service.errors import EXIT, ConfigError, ServiceError, Unreachable, run


def failing(error):
    def main():
        raise error

    return main


def test_a_commands_own_status_is_passed_on():
    assert run(lambda: EXIT.PROBLEM) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServiceError("wrong"), 1),
        (Unreachable("silent"), 69),
        (ConfigError("f.yml", "key", "v", "bad"), 78),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_status(error, status, capsys):
    assert run(failing(error)) == status


def test_an_error_is_printed_with_its_hint(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/zmq-relay"])
    run(failing(ConfigError("r.yml", "publsh", "x", "unknown key", 'did you mean "publish"?')))
    assert capsys.readouterr().err == (
        "zmq-relay: r.yml: publsh: 'x': unknown key\nhint: did you mean \"publish\"?\n"
    )


def test_a_long_value_is_cut():
    assert len(str(ConfigError("f", "k", "x" * 5000, "bad"))) < 250


@pytest.mark.parametrize(
    "address",
    [
        "redis://:ab@h",
        "redis://:a/b ab@h",
        "http://u:a'ab@h",
        "unix:///s?db=1&password=ab",
        "//ab@h",
    ],
)
def test_a_password_in_an_address_is_not_shown(address):
    shown = str(ConfigError("f", "k", address, "bad"))
    assert "ab" not in shown.removesuffix(": bad")
    assert "…" in shown
    assert "/run/a@b" in str(ConfigError("f", "k", "ipc:///run/a@b", "bad"))


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
