"""The verbs by which an operator decides: what is held, and which rules run."""

from argparse import ArgumentParser

from hgext_zmqhooks.service.errors import EXIT
from subscriber import views
from subscriber.views import moment, single

from .base import Call, Verb


def _accept_words(parser: ArgumentParser) -> None:
    parser.add_argument("target", metavar="REPO|JOURNAL/SEQUENCE")
    parser.add_argument("branch", metavar="BRANCH", nargs="?", help="only what is held of it")
    parser.add_argument("--journal", metavar="ID", help="a stopped journal of REPO")


def _accept(call: Call) -> int:
    names = ("verb", "target", "branch", "journal")
    request = {name: getattr(call.words, name) for name in names}
    return views.accepted(call.tell(request), call.out)


def _rule_words(parser: ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE", help="its name in the configuration")


def _pause_words(parser: ArgumentParser) -> None:
    _rule_words(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="for who looks at `status`")


def _pause(call: Call) -> int:
    rule = call.rule(call.words.rule).name
    (row,) = call.tell({"verb": "pause", "rule": rule, "reason": call.words.reason})
    shown = row | {"at": moment(float(str(row["at"])))}
    text = f"rule {rule}: {'paused' if row['changed'] else 'is paused already'}"
    why = f": {row['reason']}" if row["reason"] else ""
    said = single(f"{text}, by {row['who']} at {shown['at']}{why}")
    go_on = f"what runs goes on; then nothing of it starts until: resume {rule}"
    call.out.row(shown, f"{said}\n  {go_on}")
    return EXIT.OK


def _resume(call: Call) -> int:
    rule = call.words.rule
    with call.store() as store:
        paused = {row.rule for row in store.paused()}
    if rule not in paused:  # of a rule that is not configured any more a pause may be left
        call.rule(rule)
    (row,) = call.tell({"verb": "resume", "rule": rule})
    done = f"resumed, by {row['who']}" if row["changed"] else "is not paused: nothing to do"
    call.out.row(row, single(f"rule {rule}: {done}"))
    return EXIT.OK


VERBS = (
    Verb("accept", "let pass what is held, or a journal that is stopped", _accept, _accept_words),
    Verb("pause", "start nothing more of a rule, and keep its deliveries", _pause, _pause_words),
    Verb("resume", "start the deliveries of a rule again", _resume, _rule_words),
)
