"""The environment of a command: small, told by the event, and by the operator.

    ZMQHOOKS_EVENT_ID      journal/sequence of the event, of its last part if it has several
    ZMQHOOKS_DELIVERY_ID   the idempotency key: the same in every attempt
    ZMQHOOKS_FENCE         a number that grows with every attempt
    ZMQHOOKS_ATTEMPT       1, 2, …
    ZMQHOOKS_RULE, ZMQHOOKS_TOPIC, ZMQHOOKS_REPO, ZMQHOOKS_BRANCH
    ZMQHOOKS_NODE          the changeset concerned, else the branch's new tip
    ZMQHOOKS_USER          who pushed
    TRACEPARENT            W3C trace context

All are set, empty when unknown; TRACEPARENT only when known.
"""

from collections.abc import Collection, Mapping

from .base import Job

INHERITED = frozenset(("PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"))
"""What a command gets of the daemon's own environment, beside LC_*."""

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_VALUE_LIMIT = 4096


def environment(
    job: Job,
    inherited: Mapping[str, str],
    passed: Collection[str] = (),
    given: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What the command sees. Values from the event are data: no NUL, bounded in length.

    Of `inherited` it gets a few, and those that the operator named in `passed`; `given` are values
    of the operator, which win over those.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if name in INHERITED or name.startswith("LC_") or name in passed
    }
    kept.setdefault("PATH", DEFAULT_PATH)
    kept.update(given or {})
    said = {
        "EVENT_ID": job.event_id,
        "DELIVERY_ID": job.delivery_id,
        "FENCE": str(job.fence),
        "ATTEMPT": str(job.attempt),
        "RULE": job.rule,
        "TOPIC": job.topic,
        "REPO": job.repo,
        "BRANCH": job.branch,
        "NODE": job.node or "",
        "USER": job.user or "",
    }
    kept.update({f"ZMQHOOKS_{name}": _clean(value) for name, value in said.items()})
    if job.traceparent:
        kept["TRACEPARENT"] = _clean(job.traceparent)
    return kept


def _clean(value: str) -> str:
    """A value that fits into an environment.

    >>> _clean("a" + chr(0) + "b") == "a" + chr(0xFFFD) + "b"
    True
    >>> len(_clean("é" * 9999).encode())
    4096
    """
    data = value.replace("\0", "\ufffd").encode(errors="replace")
    return data[:_VALUE_LIMIT].decode(errors="ignore")
