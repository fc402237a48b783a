"""The verbs for who sets a subscriber up: none of them needs a store or a daemon."""

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from hgext_zmqhooks.service.errors import EXIT
from subscriber import trial
from subscriber.check import check
from subscriber.compiled import action, rule_spec
from subscriber.credentials import name_of
from subscriber.daemon import place
from subscriber.redis_user import acl, functions
from subscriber.repository import Repository
from subscriber.sample import SAMPLE

from .base import Call, Usage, Verb


def _check(call: Call) -> int:
    return check(call.config, call.out)


def _init_words(parser: ArgumentParser) -> None:
    text = "print the line that makes the user of a server for the store of this subscriber"
    parser.add_argument("--redis", nargs="?", const="", metavar="NAME", help=text)
    text = "with --redis: a file with user:password; made if it is not there"
    parser.add_argument("--credentials", type=Path, metavar="FILE", help=text)
    text = "print the functions of a store, for FUNCTION LOAD of a server"
    parser.add_argument("--library", action="store_true", help=text)


def _init(call: Call) -> int:
    if call.words.redis is not None:
        return _redis(call)
    if call.words.credentials is not None:
        raise Usage("--credentials goes with --redis", hint="init --redis NAME --credentials FILE")
    kind, text = ("library", functions()) if call.words.library else ("sample", SAMPLE)
    print(json.dumps({"kind": kind, "text": text}) if call.out.as_json else text, end="")
    return EXIT.OK


def _redis(call: Call) -> int:
    """NAME and FILE are those of the configuration, where there is one and they are not given."""
    name, path = call.words.redis, call.words.credentials
    if call.words.config is not None:
        name = name or name_of(call.settings)
        path = path or getattr(call.settings.store, "credentials", None)
    if not name or path is None:
        hint = (
            "init --redis NAME --credentials FILE, or with --config of a subscriber that has them"
        )
        raise Usage("--redis needs the subscriber's name and a file for its password", hint=hint)
    line = acl(name, path)
    call.out.row({"kind": "acl", "name": name, "credentials": str(path), "line": line}, line)
    return EXIT.OK


def _test_words(parser: ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE", nargs="?", help="the rule that it is about")
    add = parser.add_argument
    add("--repository", type=Path, metavar="PATH", required=True, help="its folder on this host")
    add("--rev", required=True, help="the changeset that is as if pushed, alone")
    add("--repo", metavar="NAME", help="its name in topics, where hg there does not give it one")
    add("--origin", choices=("live", "catchup", "revealed", "ping"), help="default: live")
    add("--pusher", metavar="USER", help="who pushes; default: who runs this")
    add("--run", action="store_true", help="run the action of RULE here; nothing is stored")


def _test(call: Call) -> int:
    """0 if RULE takes the event, and its action, where it is run, is done; without RULE, if any."""
    words, settings = call.words, call.settings
    asked = None if words.rule is None else call.rule(words.rule)
    if words.run and asked is None:
        raise Usage("--run needs the rule whose action is to run", hint="test RULE … --run")
    preview = Repository(words.repository).preview(words.rev, words.repo)
    given = trial.trial(preview, words.origin, words.pusher)
    specs = {rule.name: rule_spec(rule) for rule in settings.rules}
    matches = trial.compare(given, list(specs.values()), call.out)
    if not (matches[asked.name] if asked else any(matches.values())):
        return EXIT.PROBLEM
    if asked is None or not words.run:
        return EXIT.OK
    here = replace(place(settings), runners=trial.RUNNERS)
    return trial.execute(given, specs[asked.name], action(settings, asked, here), call.out)


VERBS = (
    Verb("check", "say whether the configuration is one to run with", _check),
    Verb("test", "say which rules a changeset would meet, or run one", _test, _test_words),
    Verb("init", "print a sample configuration", _init, _init_words, bare=True),
)
