"""`zmq-subscriber test`: which rules a changeset would meet, and what one of them would do."""

import json
import subprocess
from pathlib import Path

import pytest
from hgkit import HG
from subscriberkit import Site, site
from support.receiver import Receiver

SHOW = """#!/bin/sh
echo "fence=$ZMQHOOKS_FENCE attempt=$ZMQHOOKS_ATTEMPT delivery=$ZMQHOOKS_DELIVERY_ID"
cat > seen.json
exit ${STATUS:-0}
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch):
    with site() as made:
        monkeypatch.setenv("HGRCPATH", str(made.folder / "hgrc"))
        (made.folder / "hgrc").write_text("[ui]\nusername = Alice <alice@example.com>\n")
        made.script("show.sh", SHOW)
        made.configure(
            rules=[
                made.rule("build", exec=["./show.sh"], when={"topic": "hg:team/*:default:"}),
                made.rule("docs", when={"topic": "hg:**:**:", "files": "docs/**"}),
                made.rule("each", exec=["./show.sh"], each="changeset", when={"pusher": "carol"}),
                made.rule("fail", exec=["sh", "-c", "echo why; exit 65"]),
                made.rule("ping", when={"origin": "ping"}),
            ]
        )
        yield made


@pytest.fixture
def clone(here: Site) -> Path:
    """A clone of a developer: its hg does not load the extension."""
    path = here.folder / "clone"
    hg("init", str(path))
    (path / "a").write_text("a")
    hg("commit", "-Aqm", "one", "-R", str(path), str(path / "a"))
    return path


def hg(*words: str) -> str:
    return subprocess.run([str(HG), *words], capture_output=True, text=True, check=True).stdout


def words(clone: Path, *more: str, rule: str | None = None) -> list[str]:
    named = [] if rule is None else [rule]
    return ["test", *named, "--repository", str(clone), "--rev", "tip", "--repo", "team/app", *more]


def judged(here: Site, clone: Path, *more: str) -> dict[str, list[str]]:
    """What each rule finds wrong."""
    rows = [row for row in here.rows(*words(clone, *more)) if row["kind"] == "rule"]
    for row in rows:
        assert row["matches"] == (not row["unmet"])
        assert bool(row["deliveries"]) == row["matches"]
    return {row["rule"]: [one["key"] for one in row["unmet"]] for row in rows}


def test_each_rule_says_whether_it_takes_the_changeset(here: Site, clone: Path) -> None:
    event, *_ = here.rows(*words(clone))
    done = here.ask(*words(clone))

    assert judged(here, clone) == {
        "build": [],
        "docs": ["files"],
        "each": ["pusher"],
        "fail": [],
        "ping": ["origin"],
    }
    assert event["topic"] == "hg:team/app:default:"
    (changeset,) = event["event"]["data"]["changesets"]
    assert changeset["node"] == hg("log", "-R", str(clone), "-r", "tip", "-T", "{node}")
    assert done.returncode == 0
    assert "rule docs: does not match\n  files: a: fits none of docs/**" in done.stdout


def test_origin_and_pusher_may_be_others(here: Site, clone: Path) -> None:
    assert judged(here, clone, "--pusher", "carol")["each"] == []
    assert judged(here, clone, "--origin", "ping")["ping"] == []
    assert judged(here, clone, "--origin", "catchup")["ping"] == ["origin"]


def test_the_status_is_that_of_the_rule(here: Site, clone: Path) -> None:
    assert here.ask(*words(clone, rule="build")).returncode == 0
    assert here.ask(*words(clone, rule="docs")).returncode == 1


def test_a_run_gets_the_event_and_leaves_no_trace(here: Site, clone: Path) -> None:
    *_, row = here.rows(*words(clone, "--run", "--pusher", "carol", rule="each"))

    (line,) = (here.folder / "seen.json").read_text().splitlines()
    event = json.loads(line)
    assert (row["verdict"], row["exit_status"]) == ("done", 0)
    assert row["output"].startswith("fence=0 attempt=1 delivery=test-")
    assert row["delivery"] in row["output"]
    assert event["data"]["pusher"]["user"] == "carol"
    assert event["data"]["changesets"][0]["node"] == row["node"]
    assert event["data"]["journal"] == "0" * 32
    assert sorted(here.folder.glob("ci.db*")) == []


def test_two_runs_have_two_ids(here: Site, clone: Path) -> None:
    ids = {here.rows(*words(clone, "--run", rule="build"))[-1]["delivery"] for _ in range(2)}

    assert len(ids) == 2


def test_a_run_that_fails_shows_why(here: Site, clone: Path) -> None:
    done = here.ask(*words(clone, "--run", rule="fail"))

    assert done.returncode == 1
    assert done.stdout.splitlines()[-2] == "why"
    assert done.stdout.splitlines()[-1].startswith("dead: exit status 65")


def test_what_does_not_match_is_not_run(here: Site, clone: Path) -> None:
    done = here.ask(*words(clone, "--run", rule="docs"))

    assert done.returncode == 1
    assert here.runs() == []


def test_a_run_goes_beside_the_daemon(here: Site, clone: Path) -> None:
    here.repo()
    here.start()

    *_, row = here.rows(*words(clone, "--run", rule="build"))

    assert row["verdict"] == "done"
    assert here.rows("deliveries") == []


def test_other_actions_than_scripts_are_run_too(here: Site, clone: Path) -> None:
    with Receiver() as receiver:
        hook = here.rule("hook", webhook={"url": f"{receiver.url}/x"})
        del hook["exec"]
        here.configure(rules=[hook])

        *_, row = here.rows(*words(clone, "--run", rule="hook"))

    (seen,) = receiver.requests
    assert row["verdict"] == "done"
    assert seen.headers["webhook-id"] == row["delivery"]


def test_an_action_that_a_daemon_here_could_not_run_is_refused(here: Site, clone: Path) -> None:
    no = here.rule("no", exec={"command": ["./show.sh"], "user": "no-such-user"})
    here.configure(rules=[no])

    assert here.ask(*words(clone, rule="no")).returncode == 0
    done = here.ask(*words(clone, "--run", rule="no"))

    assert done.returncode == 78
    assert "rules[0].exec.user" in done.stderr


@pytest.mark.parametrize(
    ("typed", "status", "hint"),
    [
        (["test", "bild", "--repository", "clone", "--rev", "0"], 1, 'did you mean "build"?'),
        (["test", "--repository", "clone", "--rev", "0", "--run"], 2, "test RULE"),
        (["test", "--repository", "clone", "--rev", "0"], 1, "--repo NAME"),
        (["test", "--repository", "none", "--rev", "0"], 1, "--repository"),
        (["test", "--repository", "clone", "--rev", "9", "--repo", "x"], 1, "hg events --check"),
        (["test", "--repository", "clone"], 2, "--rev"),
    ],
)
def test_what_cannot_be_tested_is_said(
    here: Site, clone: Path, *, typed: list[str], status: int, hint: str
) -> None:
    done = here.ask(*(str(clone) if word == "clone" else word for word in typed))

    assert (done.returncode, done.stdout) == (status, "")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_webhook_is_sent_too(here: Site, clone: Path) -> None:
    with Receiver() as receiver:
        receiver.answers.append((200, {}, b"thanks"))
        here.configure(
            rules=[{"name": "tell", "webhook": {"url": f"{receiver.url}/{{branch}}"}}],
        )

        done = here.ask(*words(clone, "--run", rule="tell"))

    (seen,) = receiver.requests
    assert (done.returncode, seen.path) == (0, "/default")
    assert json.loads(seen.body)["data"]["repo"] == "team/app"
    assert seen.headers["zmqhooks-fence"] == "0"
    assert "HTTP 200 OK" in done.stdout
    assert "thanks" in done.stdout


def test_an_action_that_this_host_cannot_do_is_refused(here: Site, clone: Path) -> None:
    here.configure(rules=[here.rule("build", exec={"command": ["true"], "user": "no-such-user"})])

    done = here.ask(*words(clone, "--run", rule="build"))

    assert done.returncode == 78
    assert "rules[0].exec.user: 'no-such-user': no such user" in done.stderr
