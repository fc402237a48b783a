"""New keys: a root, keys that a root certifies, and the set that one machine needs.

A root has no expiry of its own: who trusts it names its file. A certificate has a lifetime, and
begins a little in the past, because the clocks of two hosts are never quite the same.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..wire import certificates, keyfiles
from ..wire.keyfiles import SecretKey
from .files import NotWrittenError, write_private

EVERYTHING = "hg:**:**:"
"""The pattern of every repository and branch."""

DAYS = 365
DAY = 86_400
CLOCK_SKEW = 300
"""Seconds by which a certificate begins before it was made."""

PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate shall say."""

    name: str
    publish: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    days: int = DAYS

    def all_roles(self) -> frozenset[str]:
        """The roles asked for, and those that follow from the patterns."""
        implied = {"publisher"} if self.publish else set()
        return self.roles | implied | ({"subscriber"} if self.read else set())


def certified(root: SecretKey, wish: Wish, now: float) -> SecretKey:
    """New secret keys with a certificate by `root`. Refused when the wish is malformed."""
    key = keyfiles.generate(wish.name)
    token = certificates.issue(
        root,
        name=wish.name,
        public=key.public,
        curve=key.curve_public,
        roles=wish.all_roles(),
        publish=wish.publish,
        read=wish.read,
        nbf=int(now) - CLOCK_SKEW,
        exp=int(now) + wish.days * DAY,
        jti=secrets.token_hex(16),
    )
    return SecretKey(key.name, key.seed, key.curve_secret, token)


def root_files(root: SecretKey, out: Path) -> dict[Path, tuple[bytes, int]]:
    """ROOT.key and ROOT.pub beside it, with their modes."""
    return {
        out: (root.encode(), PRIVATE),
        out.with_suffix(".pub"): (keyfiles.encode_public_pem(root.public), PUBLIC),
    }


def key_files(key: SecretKey, out: Path) -> dict[Path, tuple[bytes, int]]:
    """N.key and N.cert beside it, with their modes."""
    assert key.certificate is not None
    return {
        out: (key.encode(), PRIVATE),
        out.with_suffix(".cert"): (key.certificate + b"\n", PUBLIC),
    }


def quickstart_files(
    folder: Path, name: str, days: int, now: float
) -> dict[Path, tuple[bytes, int]]:
    """What one machine needs.

    The subscriber's key is also that of the relay which runs inside it;
    `relay.key` is for a zmq-relay of its own, and `relay.cert` for those who connect to that.
    """
    root = keyfiles.generate(f"{name}-root")
    publisher = certified(root, Wish(f"{name}-publisher", publish=(EVERYTHING,), days=days), now)
    relay = certified(root, Wish(f"{name}-relay", roles=frozenset({"relay"}), days=days), now)
    subscriber = certified(
        root, Wish(name, read=(EVERYTHING,), roles=frozenset({"relay"}), days=days), now
    )
    return {
        **root_files(root, folder / "root.key"),
        folder / "publisher.key": (publisher.encode(), PRIVATE),
        **key_files(relay, folder / "relay.key"),
        folder / "subscriber.key": (subscriber.encode(), PRIVATE),
    }


def write(files: Mapping[Path, tuple[bytes, int]], *, folders: bool = False) -> None:
    """Create all files, or none when one exists. Raises NotWrittenError.

    `folders`: make their folder, too; else a misspelt one is refused.
    """
    _refuse_existing(files)
    for folder in {path.parent for path in files}:
        if not folders and not folder.is_dir():
            hint = f"mkdir -p {folder}, or correct --out"
            raise NotWrittenError(folder, "is no folder", hint)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NotWrittenError(folder, reason, "choose another folder") from error
    for path, (data, mode) in files.items():
        write_private(path, data, mode)


def _refuse_existing(paths: Iterable[Path]) -> None:
    """NotWrittenError for the first path that is taken, dangling links too."""
    for path in paths:
        if path.exists() or path.is_symlink():
            hint = "keys are never replaced: choose another name, or move it away"
            raise NotWrittenError(path, "exists already", hint)
