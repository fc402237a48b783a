"""When a certificate's time ends: what to say about it, and the command that makes another one.

The same rule for a publisher, a subscriber and a relay: from a third of its life before its end
there is a warning, since whoever renews it needs days and not minutes.
"""

import shlex
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from ..wire.certificates import Certificate

DAY = 86_400.0
"""Seconds between two warnings of a daemon."""

_IMPLIED = {"publisher", "subscriber"}
"""Roles that follow from patterns."""


def warning(certificate: Certificate, now: float, expired: str) -> str | None:
    """What to tell about its time: in its last third, and after it; None while all is well.

    `expired`: what follows from its end. `now`: unix seconds.
    """
    end = day(certificate.exp)
    who = f"the certificate of '{certificate.sub}'"
    if now >= certificate.exp:
        return f"{who} expired {end}; {expired}"
    if now < certificate.nbf:
        return f"{who} is not valid yet; check the clock of this host"
    if certificate.exp - now < (certificate.exp - certificate.nbf) / 3:
        return f"{who} expires {end}; renew it with zmq-keys rotate"
    return None


def remind(
    certificates: Callable[[], Iterable[Certificate]],
    expired: str,
    say: Callable[[str], None],
    wait: Callable[[float], bool],
    clock: Callable[[], float] = time.time,
) -> None:
    """Say the warnings now and once a day, until `wait(seconds)` says that it is over.

    `certificates`: those in use at that moment.
    """
    while True:
        for certificate in certificates():
            text = warning(certificate, clock(), expired)
            if text:
                say(text)
        if wait(DAY):
            return


def day(when: int) -> str:
    """Unix seconds for a person.

    >>> day(0)
    '1970-01-01 00:00 UTC'
    """
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")


def next_to(key: str | Path) -> Path:
    """Where a new key is written before it takes the place of the old one.

    >>> str(next_to("/etc/ci.key"))
    '/etc/ci-new.key'
    """
    return Path(key).with_name(f"{Path(key).stem}-new.key")


def command(
    name: str,
    out: str | Path,
    root: str | Path,
    *,
    publish: Iterable[str] = (),
    read: Iterable[str] = (),
    roles: Iterable[str] = (),
) -> str:
    """What to type for a key that may do this; `root`: ROOT.key, or the ROOT.pub beside it.

    >>> command("ci", "ci.key", "root.pub", read=["hg:**:**:"], roles=["relay"])
    "zmq-keys issue --root root.key --name ci --read 'hg:**:**:' --role relay --out ci.key"
    """
    words = ["zmq-keys", "issue", "--root", str(Path(root).with_suffix(".key")), "--name", name]
    for option, values in (("--publish", publish), ("--read", read)):
        words += [word for value in values for word in (option, value)]
    words += [word for role in sorted(set(roles) - _IMPLIED) for word in ("--role", role)]
    return shlex.join([*words, "--out", str(out)])


def rotation(key: str | Path, root: str | Path) -> str:
    """What to type for a new certificate of the same name and rights; `root`: see `command`.

    >>> rotation("ci.key", "root.pub")
    'zmq-keys rotate ci.key --root root.key'
    """
    root = Path(root).with_suffix(".key")
    return shlex.join(["zmq-keys", "rotate", str(key), "--root", str(root)])


def again(certificate: Certificate, key: str | Path, root: str | Path, role: str = "") -> str:
    """What to type for a key of the same name and rights beside `key`, and with `role` besides."""
    return command(
        certificate.sub,
        next_to(key),
        root,
        publish=[pattern.text for pattern in certificate.publish],
        read=[pattern.text for pattern in certificate.read],
        roles={*certificate.roles, role} - {""},
    )
