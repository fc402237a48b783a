"""An engine under test: a dispatcher in a thread of its own, and actions that say when they run."""

import queue
import threading
from dataclasses import replace

from storekit import JOURNAL, batch, record

from hgext_zmqhooks.service.life import Stop
from hgext_zmqhooks.wire.messages import MAX_RECORDS
from hgext_zmqhooks.wire.values import Event, Pusher, Transaction
from subscriber.actions.base import Kind, Verdict
from subscriber.engine.dispatch import Dispatcher
from subscriber.engine.rules import RuleSpec, compile_rule, deliveries
from subscriber.store.base import State

DEADLINE = 20.0


def verdict(kind=Kind.DONE, reason="", **more):
    return Verdict(kind, reason, 1.0, 2.0, **more)


FAILED = verdict(Kind.RETRY, "exit status 1", exit_status=1)


class Recorder:
    """Keeps its jobs, and answers with `answer(job, cancel)`. `most`: how many ran at once."""

    def __init__(self, answer=lambda _job, _cancel: verdict()):
        self.answer = answer
        self.jobs = queue.Queue()
        self.order = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def run(self, job, cancel):
        with self._lock:
            self.order.append(job)
            self._now += 1
            self.most = max(self.most, self._now)
        self.jobs.put(job)
        try:
            return self.answer(job, cancel)
        finally:
            with self._lock:
                self._now -= 1

    def next(self):
        return self.jobs.get(timeout=DEADLINE)


class Gate:
    """An answer that waits until it is opened, or until the attempt is broken off."""

    def __init__(self, answer=None):
        self.opened = threading.Event()
        self._answer = answer or verdict()

    def __call__(self, _job, _cancel):
        assert self.opened.wait(DEADLINE)
        return self._answer


def spec(name="build", **changes):
    return RuleSpec(name=name, **{"topics": ("hg:**:**:",), "timeout": 9.0, **changes})


class Engine:
    """`rules`: names or specs; `action`: that of all, or one by rule."""

    def __init__(self, store, action, *rules, **options):
        self.specs = [spec(each) if isinstance(each, str) else each for each in rules or ("build",)]
        self.stop = Stop()
        options = {"finish_bound": 5.0, "cancel_bound": 5.0, "owner": "ci/1", **options}
        self.dispatcher = Dispatcher(store, self.specs, self.actions(action), **options)
        self.thread = threading.Thread(target=self.dispatcher.run, args=(self.stop,))
        self.thread.start()

    def actions(self, action):
        return action if isinstance(action, dict) else {each.name: action for each in self.specs}

    def end(self):
        self.stop.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


class Feed:
    """Events of one journal, made into deliveries by `rules` and accepted by `store`."""

    def __init__(self, store, *rules):
        self._store = store
        self.rules = list(rules)
        self._sequence = 0

    def event(self, branch="default", *, repo="team/app", user="alice"):
        """Accept one event; returns the deliveries that it made."""
        return self.events([(branch, repo, user)])

    def events(self, abouts):
        """Many of (branch, repo, user), in steps of as many as a session sends at once."""
        steps = [abouts[at : at + MAX_RECORDS] for at in range(0, len(abouts), MAX_RECORDS)]
        return [made for step in steps for made in self._step(step)]

    def _step(self, abouts):
        position, records, made = self._sequence, [], []
        for branch, repo, user in abouts:
            self._sequence += 1
            records.append(record(self._sequence, branch=branch, repo=repo))
            made += self._deliveries(branch, repo, user)
        self._store.accept(
            replace(
                batch(self._sequence, position or None),
                records=tuple(records),
                deliveries=tuple(made),
            )
        )
        return made

    def _deliveries(self, branch, repo, user):
        event = Event(
            repo=repo,
            branch=branch,
            journal=JOURNAL,
            sequence=self._sequence,
            time="2026-11-21T09:15:02.123456Z",
            transaction=Transaction(f"t{self._sequence}", "serve"),
            pusher=Pusher(user, "ssh"),
        )
        rules = [compile_rule(each) for each in self.rules]
        return deliveries(rules, [event], 1000.0 + self._sequence)


def done(store, count):
    return lambda: store.status().deliveries[State.DONE] == count
