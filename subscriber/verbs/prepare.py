"""The verbs for who sets a subscriber up: none of them needs a store or a daemon."""

import json

from hgext_zmqhooks.service.errors import EXIT
from subscriber.check import check
from subscriber.sample import SAMPLE

from .base import Call, Verb


def _check(call: Call) -> int:
    return check(call.config, call.out)


def _init(call: Call) -> int:
    as_json = call.out.as_json
    print(json.dumps({"kind": "sample", "text": SAMPLE}) if as_json else SAMPLE, end="")
    return EXIT.OK


VERBS = (
    Verb("check", "say whether the configuration is one to run with", _check),
    Verb("init", "print a sample configuration", _init, bare=True),
)
