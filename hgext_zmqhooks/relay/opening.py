"""What a relay looks at and says when it opens."""

import time

from ..service.errors import ConfigError
from ..wire.errors import Refused
from ..wire.keyfiles import SecretKey
from ..wire.keyring import Keyring
from .settings import RelaySettings
from .shelf import Shelf


def check_certificate(settings: RelaySettings, secret: SecretKey, keyring: Keyring) -> None:
    """Clients would refuse a server without a fitting certificate, each with its own alarm."""
    if not settings.needs_certificate:
        return
    try:
        keyring.peer(secret.certificate or b"", "relay", time.time())
    except Refused as refused:
        raise ConfigError(
            settings.key,
            "",
            None,
            f"this key cannot serve subscribers: {refused.detail}",
            "make one with: zmq-keys issue --role relay, under a root named in `trust`",
        ) from None


def description(settings: RelaySettings, shelf: Shelf) -> dict[str, object]:
    """What is served, for the log."""
    return {
        "publish": settings.publish,
        "subscribe": ",".join(settings.subscribe) or None,
        "broadcast": settings.broadcast,
        "repositories": len(shelf),
        "journals": sum(1 for _ in shelf.journals(lambda _: True)),
    }
