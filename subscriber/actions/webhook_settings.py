"""What a rule may say of a webhook.

    webhook:
      url: "https://chat.example.com/hooks/{rule}"
      secret: webhook.secret            # a file, or a list of files: all sign
      method: POST                      # PUT, PATCH, GET
      headers: {Content-Type: application/json}
      body: '{"text": "{user} pushed to {branch} of {repo}"}'
      preset: jenkins                   # or buildbot: the body that they expect
      credentials: jenkins.user         # a file with user:password, or Bearer TOKEN
      ca: ca.pem
      redirects: no
      private: no                       # whether redirects may lead to private addresses

What stands in braces: template.py.
"""

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from msgspec import field

from hgext_zmqhooks.service.config import Frozen
from hgext_zmqhooks.service.errors import without_secret

from . import template
from .wrong import Wrong

FORM = "application/x-www-form-urlencoded"

PRESETS = {
    # /job/NAME/buildWithParameters: parameters of the job that it does not have are ignored.
    "jenkins": (
        "REPO={repo}&BRANCH={branch}&NODE={node}&PUSHER={user}"
        "&EVENT_ID={event_id}&DELIVERY_ID={delivery_id}"
    ),
    # /change_hook/base; `who` counts where `author` is empty, and `comments` must be there.
    "buildbot": (
        "revision={node}&branch={branch}&author={author}&who={user}&comments={description}"
        "&repository={repo}&project={repo}&files={files}"
        "&properties=%7B%22delivery_id%22%3A+%22{delivery_id}%22%7D"
    ),
}
"""Bodies of forms, by the name of who takes them."""

_KINDS: dict[str, template.Kind] = {FORM: "form", "text/plain": "text"}
_TOKEN = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = re.compile("webhook-.*|zmqhooks-.*|traceparent|accept-encoding")
_OF_HTTP = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}


class WebhookSettings(Frozen, frozen=True):
    """A request for each delivery; how it is made and judged: webhook.py."""

    url: str
    secret: str | tuple[str, ...] = ()
    method: Literal["POST", "PUT", "PATCH", "GET"] = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    preset: Literal["jenkins", "buildbot"] | None = None
    credentials: str | None = None
    ca: str | None = None
    redirects: bool = False
    private: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """The files of all secrets."""
        return (self.secret,) if isinstance(self.secret, str) else self.secret

    @property
    def text(self) -> str | None:
        """The template of the body; None: the event itself."""
        return PRESETS[self.preset] if self.preset else self.body

    @property
    def content_type(self) -> str:
        """Of a body that is made of a template."""
        if self.preset:
            return FORM
        given = (value for name, value in self.headers.items() if name.lower() == "content-type")
        return next(given, "application/json")

    @property
    def kind(self) -> template.Kind | None:
        """How values are escaped in the body; None: there is no way for this type."""
        plain = self.content_type.partition(";")[0].strip().lower()
        json = plain == "application/json" or plain.endswith("+json")
        return "json" if json else _KINDS.get(plain)


def wrong_webhook(said: WebhookSettings) -> Iterator[Wrong]:
    """What is wrong with it; keys are inside the mapping."""
    yield from _wrong_url(said.url)
    for name, text in said.headers.items():
        yield from _wrong_header(name, text)
    if len({name.lower() for name in said.headers}) < len(said.headers):
        yield "headers", None, "names a header twice", "keep one of the two"
    yield from _wrong_body(said)
    for key in ("credentials", "ca"):
        yield from _wrong_path(key, getattr(said, key))
    for at, path in enumerate(said.secrets):
        key = "secret" if isinstance(said.secret, str) else f"secret[{at}]"
        yield from _wrong_path(key, path)
    if said.private and not said.redirects:
        hint = "write `redirects: yes` too, or leave it out: `url` may be private without it"
        yield "private", said.private, "is for redirects, which are not followed", hint


def _wrong_path(key: str, path: str | None) -> Iterator[Wrong]:
    if path is not None and (not path or "\0" in path):
        yield key, path, "not a path", "name a file"


def _wrong_url(text: str) -> Iterator[Wrong]:
    shown, hint = without_secret(text), "write for example https://host/path"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:  # a password may be taken for a port, and repeated
        yield "url", shown, "not a URL" if shown != text else str(error), hint
        return
    if parts.scheme not in {"http", "https"} or not host:
        yield "url", shown, "not a URL of http or https with a host", hint
    elif parts.username is not None or parts.password is not None:
        better = "write user:password into a file of mode 0600, and name it as `credentials`"
        yield "url", shown, "names a user or a password", better
    elif parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        better = "write spaces and letters beyond ASCII as %XX; a part behind # is never sent"
        yield "url", shown, "has characters that no URL has", better
    elif {".", ".."} & set(parts.path.split("/")):
        yield "url", shown, "has . or .. in its path", "write the path that is meant"
    else:
        yield from _wrong_template("url", text, "url")


def _wrong_header(name: str, text: str) -> Iterator[Wrong]:
    key, lower = f"headers.{name}", name.lower()
    if not _TOKEN.fullmatch(name):
        yield key, text, "not the name of a header", "letters, digits and - only"
    elif lower == "authorization":
        hint = "write user:password or Bearer TOKEN into a file, and name it as `credentials`"
        yield key, None, "a secret does not stand in the configuration", hint
    elif _OURS.fullmatch(lower) or lower in _OF_HTTP:
        yield key, text, "is set by the webhook itself", "leave it out"
    elif not text.isascii() or not text.isprintable():
        yield key, text, "has characters that no header has", "write ASCII in one line"
    elif lower == "content-type" and "{" in text:
        yield key, text, "has values in it", "write the type of the body"
    else:
        yield from _wrong_template(key, text, "header")


def _wrong_body(said: WebhookSettings) -> Iterator[Wrong]:
    typed = any(name.lower() == "content-type" for name in said.headers)
    if said.preset and (said.body is not None or typed):
        hint = "leave `body` and the content type out, or write both and no preset"
        yield "preset", said.preset, "has a body of its own", hint
    elif said.method == "GET" and (said.text is not None or typed):
        hint = "put the values into `url`, or take POST"
        yield "method", said.method, "has no body", hint
    elif said.body is None:
        if typed:
            yield "headers", None, "a content type without a body", "leave it out, or write `body`"
    elif said.kind is None:
        hint = f"application/json, {FORM} and text/plain are possible"
        yield "headers", said.content_type, "values cannot be escaped in such a body", hint
    else:
        yield from _wrong_template("body", said.body, said.kind)


def _wrong_template(key: str, text: str, kind: template.Kind) -> Iterator[Wrong]:
    try:
        template.parse(text, kind)
    except ValueError as error:
        yield key, text, str(error), f"values are {', '.join(template.NAMES)}"
