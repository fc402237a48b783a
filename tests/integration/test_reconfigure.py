"""A configuration that changes under a running daemon: nothing is lost, nothing runs twice."""

import os
import signal

import pytest
from relaykit import EVERYTHING, draft
from subscriberkit import Site, burst, site
from support.daemons import Daemon, log_fields
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(200)

BRANCHES = ("default", "stable")


@pytest.fixture
def here():
    with site() as made:
        yield made


def rewrite(here: Site, **changes: object) -> None:
    """Put another configuration in the place of the one that is there, at once."""
    there, here.config = here.config, here.folder / "next.yml"
    here.configure(**changes)
    here.config.replace(there)
    here.config = there


def taken_up(daemon: Daemon, times: int = 1) -> None:
    """Wait until a configuration was taken up so often; the daemon looks at once."""
    os.kill(daemon.pid, signal.SIGHUP)
    wait_for(
        lambda: len(daemon.lines("taken up", "what=configuration")) >= times,
        f"{times} configurations taken up",
    )


def done(here: Site, count: int) -> list[dict]:
    return wait_for(
        lambda: (
            len(rows := here.rows("deliveries", "--state", "done", "-n", "99")) == count and rows
        ),
        f"{count} deliveries done",
    )


def test_no_event_is_lost_or_run_twice_however_often_it_changes(here: Site) -> None:
    # Given a daemon and a repository
    repo, daemon = here.repo(), here.start()
    # When its rules, topics and workers change, and change again, while events come
    for turn in range(1, 11):
        burst(repo, 2, BRANCHES)
        more = here.rule(f"more-{turn}", when={"topic": f"hg:none-{turn}:**:"})
        rewrite(here, rules=[here.rule(timeout=f"{turn}m"), more], workers=turn, keep=f"{turn}d")
        burst(repo, 2, BRANCHES)
        taken_up(daemon, turn)
        burst(repo, 2, BRANCHES)
    # Then each event ran once, and each branch in order
    runs = here.wait_runs(60)
    done(here, 60)
    assert len(here.runs()) == len({run["delivery_id"] for run in runs}) == 60
    for branch in BRANCHES:
        ran = [run["sequences"][0] for run in here.runs() if run["branch"] == branch]
        assert ran == sorted(ran)
        assert len(ran) == 30
    assert daemon.lines("ERROR") == []
    assert daemon.terminate() == 0


def test_a_file_with_a_mistake_changes_nothing(here: Site) -> None:
    # Given a daemon that runs what comes on one branch
    only = {"topic": "hg:**:default:"}
    here.configure(rules=[here.rule(when=only)])
    repo, daemon = here.repo(), here.start()
    # When the file gets a mistake, beside something new
    stable = here.rule("stable", when={"topic": "hg:**:stable:"})
    rewrite(here, rules=[stable | {"order": "brunch"}])
    # Then the log says which key, why and what to do, and the old rules stay
    said = log_fields(daemon.wait_line("ERROR", "not taken up", "what=configuration"))
    assert f"{here.config}: rules[0].order" in said["reason"]
    assert "neither branch, repo" in said["reason"]
    assert "template" in said["hint"]
    burst(repo, 2, BRANCHES)
    assert [run["branch"] for run in here.wait_runs(1)] == ["default"]
    # and when it is mended the new rule sees what comes from then on
    rewrite(here, rules=[stable])
    taken_up(daemon)
    burst(repo, 2, BRANCHES)
    assert [run["rule"] for run in here.wait_runs(2)] == ["build", "stable"]
    assert [run["sequences"] for run in here.runs()] == [[1], [4]]


def test_deliveries_of_a_rule_that_is_gone_wait_until_it_comes_back(here: Site) -> None:
    # Given a rule whose deliveries fail for now
    here.script("later.sh", "#!/bin/sh\ntest -e go && exec ./run.py\nexit 1\n")
    retry = {"attempts": 1000, "delays": ["100ms"]}
    later = here.rule("later", exec=["./later.sh"], retry=retry)
    here.configure(rules=[later])
    repo, daemon = here.repo(), here.start()
    burst(repo, 4, BRANCHES)
    wait_for(lambda: len(here.rows("deliveries")) == 4, "the deliveries")
    # When it is taken out
    rewrite(here, rules=[here.rule("other")])
    taken_up(daemon)
    # Then they are named, in the log and by `status`, and stay
    gone = log_fields(daemon.wait_line("a rule that is not configured any more", "rule=later"))
    assert gone["open"] == "4"
    (row,) = [row for row in here.rows("status") if row["kind"] == "rule"]
    assert (row["rule"], row["open"]) == ("later", 4)
    repo.commit(draft())
    here.wait_runs(1)
    # A start with it gone says so too
    assert daemon.terminate() == 0
    daemon = here.start()
    assert log_fields(daemon.wait_line("not configured any more"))["open"] == "4"
    # and when it is back they run, each once, in order
    (here.folder / "go").touch()
    rewrite(here, rules=[later])
    taken_up(daemon)
    runs = [run for run in here.wait_runs(5) if run["rule"] == "later"]
    done(here, 5)
    assert sorted(run["sequences"][0] for run in runs) == [1, 2, 3, 4]
    assert len(here.runs()) == 5


def test_what_runs_goes_on_and_the_next_one_has_the_new_action(here: Site) -> None:
    # Given a delivery that runs, and one that waits behind it
    wait = "while ! test -e go; do sleep 0.05; done"
    here.script("old.sh", f"#!/bin/sh\ntouch began\n{wait}\necho the old one\n")
    here.configure(rules=[here.rule(exec=["./old.sh"])])
    repo, daemon = here.repo(), here.start()
    burst(repo, 2, ("default",))
    wait_for((here.folder / "began").exists, "the old action")
    # When the rule has another action
    rewrite(here, rules=[here.rule(exec=["./run.py"])])
    taken_up(daemon)
    (here.folder / "go").touch()
    # Then each ran once, the first with the old, the second with the new
    first, second = done(here, 2)
    assert [run["delivery_id"] for run in here.runs()] == [second["id"]]
    assert "the old one" in here.ask("show", first["id"]).stdout
    assert len(here.rows("show", first["id"])) == 2


def test_a_key_that_cannot_change_is_named(here: Site) -> None:
    here.configure(start="earliest")
    repo = here.repo()
    repo.commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    # When such a key changes together with a rule
    rewrite(here, start="latest", rules=[here.rule("another", when={"topic": EVERYTHING})])
    taken_up(daemon)
    # Then it is named, and the rule is in force
    said = daemon.wait_line("WARNING", "a changed key needs a restart")
    assert log_fields(said)["key"] == "start"
    repo.commit(draft())
    assert [run["rule"] for run in here.wait_runs(2)][1:] == ["another"]
