"""Who pushes, and which trace the push belongs to.

The environment decides: hgweb hands a request's WSGI environ to `repo.ui.environ`, a process of
sshd has its own. Keys and values are bytes, as Mercurial has them.
"""

import os
import pwd
import re

from .scope import Environ, is_web
from .wire.values import Pusher

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def identify(environ: Environ, *, stdio: bool) -> Pusher:
    """Who is at the other end.

    http: REMOTE_USER as the web server authenticated it. ssh: HG_USER, which `authorized_keys` may
    set for shared accounts, else LOGNAME, else as local: the owner of this process.

    >>> identify({b"LOGNAME": b"hg", b"HG_USER": b"alice", b"SSH_CONNECTION": b"192.0.2.7 1 2 3"},
    ...          stdio=True)
    Pusher(user='alice', via='ssh', address='192.0.2.7')
    """
    if is_web(environ):
        return Pusher(_first(environ, b"REMOTE_USER"), "http", _first(environ, b"REMOTE_ADDR"))
    if stdio:
        connection = _first(environ, b"SSH_CONNECTION", b"SSH_CLIENT")
        address = connection.split()[0] if connection else None
        return Pusher(_first(environ, b"HG_USER", b"LOGNAME") or _login(), "ssh", address)
    return Pusher(_login(), "local")


def traceparent(environ: Environ) -> str | None:
    """The W3C trace context of a request, or of the process that ran hg."""
    name = b"HTTP_TRACEPARENT" if is_web(environ) else b"TRACEPARENT"
    value = _first(environ, name)
    return value if value and _TRACEPARENT.fullmatch(value) else None


def _first(environ: Environ, *names: bytes) -> str | None:
    for name in names:
        value = environ.get(name)
        if isinstance(value, bytes) and value.strip():
            return value.strip().decode("utf-8", "replace")
    return None


def _login() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
