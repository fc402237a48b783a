"""Who we are and whom we trust: our keys and roots from their files, and what is to say of them.

The subscriber has a key; the relay inside has the same one, or one of its own (`relay.key`).
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hgext_zmqhooks.keys import files, renew
from hgext_zmqhooks.keys.named import Named, Trust
from hgext_zmqhooks.relay.reload import OwnKey
from hgext_zmqhooks.relay.settings import RelaySettings
from hgext_zmqhooks.service import parsing
from hgext_zmqhooks.service.errors import ConfigError, ServiceError
from hgext_zmqhooks.wire import certificates
from hgext_zmqhooks.wire.certificates import Certificate
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import SecretKey, thumbprint
from hgext_zmqhooks.wire.keyring import Keyring, Standing, standing_at
from hgext_zmqhooks.wire.topics import Pattern, matches_any
from subscriber.rule_settings import Rule, many
from subscriber.settings import Settings, followed
from subscriber.status import Expiry

EXPIRED = "relays refuse us and events wait there, until it is renewed"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, and whom we trust."""

    secret: SecretKey
    keyring: Keyring
    name: str
    allowed: tuple[Pattern, ...]
    """What we may read."""
    certificate: Certificate


def trust(settings: Settings) -> Trust:
    """Whom we trust."""
    return Trust(settings.file, settings.trust, settings.revocations)


def load_credentials(settings: Settings, keyring: Keyring | None = None) -> Credentials:
    """Key, roots and name, checked against each other. Raises ServiceError.

    `keyring`: what the roots' files say, where it is known already.
    """
    keyring = keyring or trust(settings).keyring(parsing.decode)
    ours = _ours(settings)
    secret = ours.load()
    certificate = ours.certificate(secret, keyring, time.time())
    if settings.name not in {None, certificate.sub}:
        reason = f"the certificate in {settings.key} is that of {certificate.sub!r}"
        hint = "leave `name` out, or make a key of that name"
        raise ConfigError(settings.file, "name", settings.name, reason, hint)
    return Credentials(secret, keyring, certificate.sub, certificate.read, certificate)


def name_of(settings: Settings) -> str:
    """The subscriber's name, whether its key counts or not. ServiceError."""
    if settings.name is not None:
        return settings.name
    token = files.load_secret(settings.key).certificate
    if token is None:
        reason, hint = "it has no certificate, so it has no name", "make one: zmq-keys issue"
        raise ConfigError(settings.file, "key", str(settings.key), reason, hint)
    return certificates.decode(token).sub


def _ours(settings: Settings) -> Named:
    return Named(
        file=settings.file,
        key="key",
        path=settings.key,
        trust=settings.trust,
        name=settings.name or socket.gethostname(),
        role="subscriber",
        also=["relay"] if settings.relay is not None else [],
    )


def load_relay(settings: Settings, inside: RelaySettings) -> tuple[OwnKey, Keyring]:
    """Key and roots of the relay inside. Raises ServiceError.

    Who lets further subscribers in needs the role relay: else each of them would refuse it.
    """
    written = settings.relay or {}
    named = Named(
        file=settings.file,
        key="relay.key" if "key" in written else "key",
        path=inside.key,
        trust=inside.trust,
        name=settings.name or socket.gethostname(),
        role="relay",
    )
    keyring = relay_trust(settings, inside).keyring()
    return OwnKey(named, keyring, certified=inside.needs_certificate), keyring


def relay_trust(settings: Settings, inside: RelaySettings) -> Trust:
    """Whom the relay inside trusts: whom the subscriber does, unless its section says more."""
    written = settings.relay or {}
    within, within_lists = ("relay." if key in written else "" for key in ("trust", "revocations"))
    return Trust(settings.file, inside.trust, inside.revocations, within, within_lists)


def certificates_of(
    settings: Settings, inside: RelaySettings | None
) -> Iterator[tuple[str, Certificate]]:
    """Our own certificates that can be read, by the key of the configuration; trust is not asked.

    That of a relay inside counts where clients ask for it.
    """
    keys = {"key": settings.key}
    if inside is not None and inside.needs_certificate and inside.key != settings.key:
        keys["relay.key"] = inside.key
    for key, path in keys.items():
        # What is wrong with the file itself is the daemon's and the verb check's to say.
        with contextlib.suppress(ServiceError, Refused):
            yield key, certificates.decode(files.load_secret(path).certificate or b"")


def expiries(settings: Settings, inside: RelaySettings | None, now: float) -> Iterator[Expiry]:
    """What is to say about the time of our own certificates."""
    paths = {"key": settings.key, "relay.key": inside.key if inside else settings.key}
    for key, certificate in certificates_of(settings, inside):
        text = renew.warning(certificate, now, EXPIRED)
        if text is not None:
            command = renew.rotation(paths[key], settings.trust[0])
            over = standing_at(certificate, now) is not Standing.VALID
            yield Expiry(key, text, f"where ROOT.key is: {command}", over)


def reads(settings: Settings) -> Callable[[str], bool]:
    """Whether a topic is one that a rule wants and our certificate allows. ServiceError."""
    token = files.load_secret(settings.key).certificate
    allowed = certificates.decode(token).read if token else ()
    wanted = followed(settings)
    return lambda topic: matches_any(wanted, topic) and matches_any(allowed, topic)


def is_deaf(rule: Rule, allowed: tuple[Pattern, ...]) -> bool:
    """Whether nothing that a rule wants may be read: then it never runs, whatever happens."""
    wanted = [Pattern.parse(text) for text in many(rule.when.topic)]
    return not any(one.meets(other) for one in wanted for other in allowed)


def roots(settings: Settings) -> str:
    """The roots in force, as an operator compares them with what `zmq-keys show` prints."""
    found = []
    for path in settings.trust:
        try:
            found += [f"{path} ({thumbprint(root)})" for root in files.load_roots(path)]
        except ServiceError as error:
            found.append(str(error))
    return ", ".join(found)
