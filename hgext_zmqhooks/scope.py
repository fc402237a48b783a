"""One command or one web request: how long it may still spend on live copies, and whose it is.

Every hg command loads this, so it imports next to nothing. An environ has bytes for keys, as
Mercurial has them; hgweb hands a request's WSGI environ to `repo.ui.environ`.
"""

import threading
from collections.abc import Mapping
from typing import Any

Environ = Mapping[bytes, Any]


class Scope:
    """`spent`: seconds that went into live copies; `warned`: what its user was already told.

    `stdio`: the command is `hg serve --stdio`, sshd's child.
    """

    def __init__(self, environ: Environ | None, *, stdio: bool) -> None:
        self.environ = environ
        self.stdio = stdio
        self.spent = 0.0
        self.warned: set[str] = set()


class Scopes(threading.local):
    """The scope of each thread.

    A command sets it when it begins; in a web server each request brings an environ of its own.
    The scope keeps that environ, so that another one is never taken for it.
    """

    scope: Scope | None = None

    def begin(self, *, stdio: bool) -> None:
        """A command begins in this thread."""
        self.scope = Scope(None, stdio=stdio)

    def current(self, environ: Environ) -> Scope:
        """The scope of this thread, a new one at the first sight of a request's environ."""
        scope = self.scope
        if scope is None or (is_web(environ) and scope.environ is not environ):
            scope = self.scope = Scope(environ, stdio=False)
        return scope


def is_web(environ: Environ) -> bool:
    """Whether this is the environ of a web request, CGI included."""
    return b"wsgi.url_scheme" in environ or b"REQUEST_METHOD" in environ
