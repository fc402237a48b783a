"""The publisher's key inside an hg process: loaded, checked, and what it says about its time."""

import contextlib
import time
from pathlib import Path

from .keys import files, renew
from .keys.files import KeyFileError
from .keys.make import EVERYTHING
from .settings import Curve, SettingError, Settings
from .wire import certificates, envelope, topics
from .wire.certificates import Certificate
from .wire.errors import Refused
from .wire.keyfiles import SecretKey

PATIENCE = 0.2
"""Seconds for a key file that is being written to become whole."""
RECENT = 2.0
"""Seconds for which a file counts as one that is being written."""
PAUSE = 0.01

day = renew.day
"""For who shows what the certificate says."""


class KeySigner:
    """`journal.append.Signer` over the key in `file`; `details` is what its certificate says."""

    def __init__(self, file: str, secret: SecretKey, details: Certificate) -> None:
        self.file = file
        self.secret = secret
        self.details = details
        self.certificate = details.token

    def sign(self, event: bytes) -> bytes:
        """The 64-byte signature of these event bytes."""
        return envelope.sign(event, self.secret.seed)

    def check_branch(self, repo: str, branch: str) -> None:
        """SettingError where the certificate does not let it publish events of this branch.

        Journalled all the same, such an event would stop the journal at every subscriber.
        """
        topic = topics.topic(topics.source("hg", repo), branch)
        if not topics.matches_any(self.details.publish, topic):
            allowed = ", ".join(pattern.text for pattern in self.details.publish)
            reason = f"its certificate may not publish {topic} (only {allowed})"
            raise SettingError("key", self.file, reason, _issue(self.file))

    def warning(self, now: float) -> str | None:
        """What to tell the user about the certificate's time: in its last third, and after it.

        It never stops a push: a subscriber holds such events until somebody decides.
        """
        held = "its events are held by subscribers until it is renewed"
        return renew.warning(self.details, now, held)


def load(settings: Settings, repo: str) -> KeySigner:
    """The signer for `repo`, the repository's name. Raises SettingError.

    A key that no subscriber would accept is refused here, where somebody sees it, and not by every
    subscriber later.
    """
    secret = read_key(settings)
    hint = _issue(settings.key)
    if secret.certificate is None:
        raise SettingError("key", settings.key, "the key has no certificate", hint)
    try:
        details = certificates.decode(secret.certificate)
    except Refused as error:
        raise SettingError("key", settings.key, str(error), hint) from error
    if details.public != secret.public:
        raise SettingError("key", settings.key, "its certificate is for another key", hint)
    if "publisher" not in details.roles:
        raise SettingError("key", settings.key, "its certificate may not publish", hint)
    source = topics.source("hg", repo)
    if not any(pattern.matches_source(source) for pattern in details.publish):
        allowed = ", ".join(pattern.text for pattern in details.publish)
        reason = f"its certificate may not publish {source} (only {allowed})"
        raise SettingError("key", settings.key, reason, hint)
    return KeySigner(settings.key, secret, details)


def _issue(key: str) -> str:
    return "issue one with: " + renew.command(
        "publisher", renew.next_to(key), Path(key).with_name("root.key"), publish=[EVERYTHING]
    )


def read_key(settings: Settings) -> SecretKey:
    """The key file of the settings, its mode checked. Raises SettingError.

    It is read for each transaction, so that a process that lives long takes up a new key. One
    that is being replaced may be missing or there by half, where it is copied over: that is no
    reason to refuse a push.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return files.load_secret(settings.key, key_group=settings.key_group)
        except KeyFileError as error:
            if time.monotonic() >= end or not _was_just_written(settings.key):
                raise SettingError("key", None, str(error), error.hint) from error
        time.sleep(PAUSE)


def _was_just_written(path: str) -> bool:
    """Whether the file, or the folder where one is missing, was changed a moment ago."""
    for one in (Path(path), Path(path).parent):
        with contextlib.suppress(OSError):
            return abs(now() - one.stat().st_mtime) < RECENT
    return False


def curve(settings: Settings, secret: SecretKey) -> Curve | None:
    """The keys for a tcp relay; None for ipc, which the file group protects."""
    if not settings.relay.startswith("tcp:"):
        return None
    assert settings.relay_certificate is not None
    try:
        server = files.load_certificate(settings.relay_certificate).curve
    except KeyFileError as error:
        raise SettingError("relay-certificate", None, str(error), error.hint) from error
    return Curve(secret.curve_public, secret.curve_secret, server, secret.certificate or b"")


def now() -> float:
    """Unix seconds."""
    return time.time()
