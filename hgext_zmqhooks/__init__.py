"""publish what transactions did as signed events, in order and never lost

Every transaction of a repository writes one signed event per named branch to a journal inside
the repository's store, in the same transaction: it is there when the transaction committed, and
not there when it did not. After the commit the event is offered to a relay over ZeroMQ; a push
never waits for the network longer than ``live-timeout``.

Enable it for all repositories that a server offers::

  [extensions]
  hgext_zmqhooks =
  hgext_zmqhooks:required = yes

  [zmqhooks]
  # made by zmq-keys; mode 0600, or 0640 with key-group
  key = /etc/zmqhooks/publisher.key
  # who may read the key may forge events
  key-group = hg
  # where the live copy goes; empty: journal only
  relay = ipc:///run/zmqhooks/publish
  # certificate of the relay, for a tcp address
  relay-certificate = /etc/zmqhooks/relay.cert
  # repository names are paths relative to it; repositories elsewhere are left alone ...
  root = /srv/hg
  # ... unless they are named in their own .hg/hgrc
  repo = team/app
  # milliseconds, the most that a command or request waits for the live copy
  live-timeout = 250
  # how long events are kept
  keep = 90d
  enabled = yes

A repository whose key is missing, or readable by others than stated, refuses to be written and
says what to do. Reading needs no key. Secret changesets are never published.

:hg:`events` lists and checks the journal.
"""  # noqa: D400 - the first line is shown by `hg help extensions`, in its form

# The door. Mercurial asks this module for the tables and functions of an extension; the relay and
# the subscriber import `hgext_zmqhooks.wire` through it where no Mercurial is installed. So it
# imports nothing, and fetches what it is asked for at that moment (PEP 562).

from importlib import import_module

__version__ = "0.1.0"

_ROOMS = {
    "testedwith": "compat",
    "minimumhgversion": "compat",
    "buglink": "compat",
    "cmdtable": "commands",
    "configtable": "extension",
    "uisetup": "extension",
    "reposetup": "extension",
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
