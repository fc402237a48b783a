"""The action `webhook`: sends the event to a URL, signed as Standard Webhooks 1.0.0 says.

    content-type           application/cloudevents+json, or …-batch+json for an event of several
                           parts; the body is then the exact bytes of the event, or a JSON list of
                           them. With a template or a preset it is what that makes.
    webhook-id, webhook-timestamp, webhook-signature
                           see signing.py; the id is the delivery's: the same in every attempt
    zmqhooks-fence         a number that grows with every attempt
    zmqhooks-attempt       1, 2, …
    traceparent            W3C trace context, when known

What an answer means:

    2xx                    done
    410                    dead at once: the receiver wants nothing more from here
    anything else          a failure, as is no answer; after Retry-After at the earliest
    301, 302, 307, 308     followed only with `redirects`, at most three times, with the same method
                           and body, and not to a private address without `private`, nor from https
                           to http; credentials and `headers` stay with the host that they are for

Secrets and credentials are read from their files at each attempt, and stand in no log or receipt.
"""

import base64
import email.utils
import functools
import os
import select
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import httpx

from hgext_zmqhooks.service.clock import boot_clock
from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.secretfile import SecretFileError, read_secret

from . import signing
from .base import LEASE_OVER, SHORT_OF_RESOURCES, Cancel, Job, Kind, Verdict
from .exchange import Answer, Exchange, Request
from .template import Template, Unfit, values

JSON, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
MOST_REDIRECTS = 3
MOST_WAIT = 86400.0
"""Seconds for which Retry-After is obeyed."""

_FOLLOWED = {301, 302, 307, 308}
_MARGIN = 1.0
"""Seconds between breaking off and the end of the lease, where it is not short."""
_PATIENCE = 2.0
"""Seconds that a thread may take to notice that its connections are shut."""
_NOTICE = 1.0
"""Seconds after which the clock is looked at again: a poll does not count the sleep of a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Sends to `url`; `secrets`, `credentials` and `ca` are paths.

    `body` None: the event itself, or nothing where the method has no body.
    """

    method: str
    url: Template
    headers: tuple[tuple[str, Template], ...] = ()
    body: Template | None = None
    content_type: str | None = None
    secrets: tuple[str, ...] = ()
    credentials: str | None = None
    ca: str | None = None
    redirects: bool = False
    private: bool = False

    def run(self, job: Job, cancel: Cancel) -> Verdict:
        """One attempt; see `subscriber.actions.base.Action`."""
        started = time.time()
        try:
            outcome = self._send(self._request(job, started), cancel, job.timeout)
        except Unfit as error:
            return Verdict(Kind.DEAD, f"cannot be sent: {error}", started, time.time())
        except (ServiceError, OSError) as error:
            short = isinstance(error, OSError) and error.errno in SHORT_OF_RESOURCES
            outcome = Outcome(error=f"cannot be sent: {error}", ours=short)
        return judge(outcome, started, time.time())

    def _request(self, job: Job, now: float) -> Request:
        """What to send. Unfit, SecretFileError."""
        given = values(job, self._names())
        content_type, body = self._body(job, given)
        made = {
            "user-agent": "zmqhooks",
            "accept-encoding": "identity",
            "zmqhooks-fence": str(job.fence),
            "zmqhooks-attempt": str(job.attempt),
        }
        if content_type:
            made["content-type"] = content_type
        if job.traceparent:
            made["traceparent"] = job.traceparent
        if self.credentials:
            made["authorization"] = authorization(self.credentials)
        made |= {name.lower(): template.fill(given) for name, template in self.headers}
        made |= signing.headers(job.delivery_id, now, body, map(_signer, self.secrets))
        return Request(self.method, self.url.fill(given), tuple(made.items()), body, private=True)

    def _names(self) -> frozenset[str]:
        templates = [self.url, *(template for _, template in self.headers)]
        if self.body is not None:
            templates.append(self.body)
        return frozenset[str]().union(*(template.names for template in templates))

    def _body(self, job: Job, given: Mapping[str, str]) -> tuple[str | None, bytes]:
        if self.method == "GET":
            return None, b""
        if self.body is not None:
            return self.content_type, self.body.fill(given).encode(errors="replace")
        if len(job.lines) == 1:
            return JSON, job.lines[0]
        return BATCH, b"[" + b",".join(job.lines) + b"]"

    def _send(self, request: Request, cancel: Cancel, limit: float) -> "Outcome":
        """The request, and those that it is redirected to."""
        until = time.monotonic() + limit
        trust = trusted(self.ca)
        for followed in range(MOST_REDIRECTS + 1):
            outcome = _exchanged(request, trust, cancel, until, limit)
            answer = outcome.answer
            if answer is None or answer.status not in _FOLLOWED or outcome.ended:
                return outcome
            if not self.redirects:
                return replace(outcome, note="redirects are not followed without `redirects: yes`")
            if followed == MOST_REDIRECTS:
                break
            request = self._redirected(request, answer)
        return replace(outcome, note=f"redirected more than {MOST_REDIRECTS} times")

    def _redirected(self, request: Request, answer: Answer) -> Request:
        """The next request; Refused for one that is not to be sent."""
        here, text = httpx.URL(request.url), answer.headers.get("location", "")
        try:
            there = here.join(text)
            usable = bool(text and there.host) and there.scheme in {"http", "https"}
        except (httpx.InvalidURL, ValueError):  # names that are none are a ValueError
            usable = False
        if not usable:
            raise Refused(f"{text[:200]!r} is no URL to be redirected to")
        if here.scheme == "https" and there.scheme == "http":
            raise Refused(f"redirected from https to {there}, which is not followed")
        headers = request.headers
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            headers = tuple(each for each in headers if each[0] not in self._personal())
        return replace(request, url=str(there), headers=headers, private=self.private)

    def _personal(self) -> frozenset[str]:
        """What is for the host of the URL alone: credentials, and what the operator added."""
        own = {name.lower() for name, _ in self.headers} - {"content-type"}
        return frozenset({"authorization", *own})


class Refused(OSError):  # noqa: N818 - a finding, read as a sentence
    """A redirect that is not followed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of an attempt: an answer, or why there is none.

    `ended`: we broke it off; `ours`: for a reason that is not the receiver's.
    """

    answer: Answer | None = None
    error: str = ""
    note: str = ""
    ended: str = ""
    ours: bool = False


def judge(outcome: Outcome, started: float, ended: float) -> Verdict:
    """What an attempt means for its delivery (pure). An answer that came counts."""
    answer = outcome.answer
    if answer is None:
        reason = outcome.ended or outcome.error
        return Verdict(Kind.RETRY, reason, started, ended, interrupted=outcome.ours)
    kind, wait = Kind.RETRY, None
    reason = f"HTTP {answer.status} {answer.phrase}".rstrip()
    if 200 <= answer.status < 300:
        kind = Kind.DONE
    elif answer.status == httpx.codes.GONE:
        kind, reason = Kind.DEAD, f"{reason}: the receiver is disabled"
    else:
        wait = retry_after(answer.headers.get("retry-after", ""), ended)
    if outcome.note:
        reason = f"{reason}: {outcome.note}"
    if wait is not None:
        reason = f"{reason}; asked to wait {wait:g} s"
    return Verdict(
        kind=kind,
        reason=reason,
        started=started,
        ended=ended,
        output=answer.output,
        truncated=answer.truncated,
        retry_after=wait,
    )


def retry_after(text: str, now: float) -> float | None:
    """Seconds to wait, at most a day; None where nothing of use is said.

    >>> retry_after("120", 0.0), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 50.0)
    (120.0, 10.0)
    >>> retry_after("99999999", 0.0), retry_after("soon", 0.0)
    (86400.0, None)
    """
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MOST_WAIT)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # what a receiver writes there may be anything
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds()), MOST_WAIT)


def _exchanged(
    request: Request, trust: ssl.SSLContext, cancel: Cancel, until: float, limit: float
) -> Outcome:
    """One exchange, broken off when it must be."""
    if cancel.left <= 0:
        return Outcome(ended=LEASE_OVER, ours=True)
    with Exchange(request, trust) as exchange:
        ended, ours = _awaited(exchange, cancel, until, limit)
        if ended:
            exchange.break_off(_PATIENCE)
        return Outcome(exchange.answer, exchange.error or "", ended=ended, ours=ours)


def _awaited(exchange: Exchange, cancel: Cancel, until: float, limit: float) -> tuple[str, bool]:
    """Wait for its end; returns why to break it off before, and whether that is our doing."""
    poller = select.poll()
    poller.register(exchange, select.POLLIN)
    poller.register(cancel, select.POLLIN)
    lease = _lease(cancel)
    while True:
        left = until - time.monotonic()
        if cancel.reason is not None:
            return f"stopped: {cancel.reason}", True
        if boot_clock() >= lease:
            return LEASE_OVER, True
        if left <= 0:
            return f"the time limit of {limit:g} s was reached", False
        # Below zero, which it can be by now, a poll would wait for ever.
        for fd, _ in poller.poll(max(0.0, min(left, lease - boot_clock(), _NOTICE)) * 1000 + 1):
            if fd == exchange.fileno():
                return "", False
            cancel.hear()
            lease = _lease(cancel)


def _lease(cancel: Cancel) -> float:
    """Until when it may go on."""
    return boot_clock() + cancel.left - min(_MARGIN, cancel.left / 10)


def authorization(path: str) -> str:
    """What the file is for: `user:password`, or a whole value such as `Bearer TOKEN`.

    SecretFileError for what no header can hold: an HTTP library would repeat it in its complaint.
    """
    secret = read_secret(path)
    scheme, _, rest = secret.partition(" ")
    if not rest or not scheme.isalpha():
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    if not secret.isascii() or not secret.isprintable() or secret.endswith(" "):
        hint = "write ASCII in one line, and no blank at its end"
        raise SecretFileError(path, "holds characters that no header has", hint)
    return secret


def _signer(path: str) -> signing.Signer:
    try:
        return signing.signer(read_secret(path))
    except ValueError as error:
        raise SecretFileError(path, str(error), "write one line with the secret") from None


def trusted(ca: str | None) -> ssl.SSLContext:
    """Who is believed over TLS: the host's authorities, or those in a file. OSError."""
    paths: Sequence[str | None] = [ca] if ca else ssl.get_default_verify_paths()[:2]
    return _context(ca, tuple(_changed(paths)))


def _changed(paths: Sequence[str | None]) -> Iterator[int]:
    """When what is there was written; a file of ours must be there."""
    for path in paths:
        if path is not None and (len(paths) == 1 or os.path.exists(path)):  # noqa: PTH110 - as given
            yield os.stat(path).st_mtime_ns  # noqa: PTH116


@functools.lru_cache(maxsize=16)
def _context(ca: str | None, _changed: tuple[int, ...]) -> ssl.SSLContext:
    """Loading some hundred certificates takes longer than a short request."""
    return ssl.create_default_context(cafile=ca)
