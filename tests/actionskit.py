"""One attempt of one delivery, for tests of actions."""

from subscriber.actions.base import Action, Cancel, Job, Verdict


def job(*lines: bytes, timeout: float = 30.0, **changes: object) -> Job:
    values: dict[str, object] = {
        "delivery_id": "d1",
        "event_id": "j/1",
        "fence": 7,
        "attempt": 2,
        "rule": "build",
        "topic": "hg:app:default:",
        "repo": "app",
        "branch": "default",
        "node": "a" * 40,
        "user": "alice",
        "traceparent": "00-1-2-01",
        "lines": list(lines),
        "timeout": timeout,
    }
    return Job(**(values | changes))  # type: ignore[arg-type]


def run(action: Action, what: Job) -> Verdict:
    with Cancel() as cancel:
        return action.run(what, cancel)
