"""Who pushes, and one scope per command or request."""

import threading

from hgext_zmqhooks.pusher import identify, traceparent
from hgext_zmqhooks.scope import Scopes
from hgext_zmqhooks.wire.values import Pusher

WEB = {b"wsgi.url_scheme": b"http", b"REMOTE_ADDR": b"192.0.2.9", b"SSH_CONNECTION": b"x"}
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_http() -> None:
    assert identify(WEB, stdio=False) == Pusher(None, "http", "192.0.2.9")
    assert identify({**WEB, b"REMOTE_USER": b"alice"}, stdio=False).user == "alice"
    assert identify({b"REQUEST_METHOD": b"POST"}, stdio=True).via == "http"


def test_ssh() -> None:
    environ = {b"LOGNAME": b"hg", b"SSH_CLIENT": b"2001:db8::1 5 22"}
    assert identify(environ, stdio=True) == Pusher("hg", "ssh", "2001:db8::1")
    assert identify({**environ, b"HG_USER": b"al\xff"}, stdio=True).user == "al\ufffd"
    owner = identify({}, stdio=False).user
    assert identify({}, stdio=True) == Pusher(owner, "ssh", None)


def test_local_is_the_owner_of_the_process() -> None:
    """An interactive ssh session is local work, and LOGNAME is only a claim."""
    found = identify({b"LOGNAME": b"somebody", b"SSH_CONNECTION": b"192.0.2.7 1"}, stdio=False)
    assert (found.via, found.address) == ("local", None)
    assert found.user != "somebody"


def test_traceparent() -> None:
    assert traceparent({b"TRACEPARENT": TRACE}) == TRACE.decode()
    assert traceparent({**WEB, b"TRACEPARENT": TRACE}) is None
    assert traceparent({**WEB, b"HTTP_TRACEPARENT": TRACE}) == TRACE.decode()
    assert traceparent({b"TRACEPARENT": TRACE + b"\n00"}) is None


def test_a_command_has_one_scope() -> None:
    scopes = Scopes()
    scopes.begin(stdio=True)
    first = scopes.current({b"LOGNAME": b"hg"})
    assert scopes.current({b"LOGNAME": b"hg"}) is first
    assert first.stdio
    scopes.begin(stdio=False)
    assert scopes.current({}) is not first


def test_a_request_has_its_own_scope() -> None:
    """Two requests with equal environs are two; one request of several transactions is one."""
    scopes = Scopes()
    scopes.begin(stdio=False)
    one, two = dict(WEB), dict(WEB)
    first = scopes.current(one)
    assert scopes.current(one) is first
    assert scopes.current(two) is not first


def test_threads_do_not_share_scopes() -> None:
    scopes = Scopes()
    scopes.begin(stdio=False)
    mine = scopes.current({})
    others = []
    thread = threading.Thread(target=lambda: others.append(scopes.current({})))
    thread.start()
    thread.join(10)
    assert others[0] is not mine
