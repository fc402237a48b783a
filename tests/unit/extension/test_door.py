"""The package's own module: a door for hg that needs no Mercurial for those who want the wire."""

import subprocess
import sys

import pytest

import hgext_zmqhooks

WITHOUT_MERCURIAL = """
import sys
for name in ("mercurial", "hgdemandimport", "zmq"):
    sys.modules[name] = None
import hgext_zmqhooks.wire.keyring, hgext_zmqhooks.wire.session, hgext_zmqhooks.journal.follow
print("fine")
"""


def test_the_wire_needs_no_mercurial() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MERCURIAL], capture_output=True, text=True, check=True
    )
    assert done.stdout == "fine\n"


def test_what_hg_asks_for() -> None:
    assert hgext_zmqhooks.testedwith == b"6.9 7.0 7.1 7.2"
    assert hgext_zmqhooks.minimumhgversion == b"6.9"
    assert b"events" in hgext_zmqhooks.cmdtable
    assert set(hgext_zmqhooks.configtable) == {b"zmqhooks"}
    for name in ("uisetup", "reposetup"):
        assert callable(getattr(hgext_zmqhooks, name))


def test_every_setting_is_registered_and_documented() -> None:
    from hgext_zmqhooks import settings

    registered = {name.decode() for name in hgext_zmqhooks.configtable[b"zmqhooks"]}
    assert registered == set(settings.NAMES)
    for name in settings.NAMES:
        assert f"\n  {name} = " in (hgext_zmqhooks.__doc__ or "")


def test_anything_else_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'extsetup'"):
        _ = hgext_zmqhooks.extsetup
