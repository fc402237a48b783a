"""Makes `webhook` of what a rule says: templates are parsed once, files are read at each use."""

from collections.abc import Iterator

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.secretfile import read_secret

from . import signing, template
from .place import Place
from .webhook import Webhook, authorization, trusted
from .webhook_settings import WebhookSettings
from .wrong import Wrong


def make(said: WebhookSettings, place: Place) -> Webhook:
    """The action; what it says was looked at before."""
    names = {name: text for name, text in said.headers.items() if name.lower() != "content-type"}
    body = None
    if said.text is not None and said.kind is not None:
        body = template.parse(said.text, said.kind)
    return Webhook(
        method=said.method,
        url=template.parse(said.url, "url"),
        headers=tuple((name, template.parse(text, "header")) for name, text in names.items()),
        body=body,
        content_type=said.content_type,
        secrets=tuple(str(place.folder / path) for path in said.secrets),
        credentials=_path(said.credentials, place),
        ca=_path(said.ca, place),
        redirects=said.redirects,
        private=said.private,
    )


def missing(key: str, said: WebhookSettings, place: Place) -> Iterator[Wrong]:
    """Files that cannot be used now."""
    for name in said.secrets:
        try:
            signing.signer(read_secret(place.folder / name))
        except ServiceError as error:
            yield f"{key}.secret", name, str(error), error.hint
        except ValueError as error:
            yield f"{key}.secret", name, str(error), "write one line with the secret"
    if said.credentials is not None:
        try:
            authorization(str(place.folder / said.credentials))
        except ServiceError as error:
            yield f"{key}.credentials", said.credentials, str(error), error.hint
    if said.ca is not None:
        try:
            trusted(_path(said.ca, place))
        except OSError as error:
            hint = "name a file of PEM certificates"
            yield f"{key}.ca", said.ca, f"cannot be used: {error}", hint


def _path(name: str | None, place: Place) -> str | None:
    return None if name is None else str(place.folder / name)
