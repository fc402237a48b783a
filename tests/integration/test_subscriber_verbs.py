"""The verbs of zmq-subscriber, asked as an operator would, with their exit statuses."""

import json
import os
import signal
import subprocess

import pytest
import yaml
from relaykit import EVERYTHING, draft
from subscriberkit import COMMAND, Site, burst, site
from support.nobody import unprivileged
from support.waiting import PATIENCE, wait_for

from hgext_zmqhooks.service.access import rights
from hgext_zmqhooks.service.config import parse
from subscriber.check import check
from subscriber.sample import SAMPLE
from subscriber.views import Printer


@pytest.fixture
def here():
    with site() as made:
        yield made


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *words], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_check_is_content_with_a_good_configuration(here: Site) -> None:
    here.repo()

    done = here.ask("check")

    assert (done.returncode, done.stderr) == (0, "")
    assert "PROBLEM" not in done.stdout


@pytest.mark.parametrize(
    ("change", "word", "status"),
    [
        ({"key": "none.key"}, "none.key", 78),
        ({"name": "other"}, "is that of 'ci'", 78),
        ({"trust": ["none.pub"]}, "none.pub", 78),
        ({"store": "sqlite:none/ci.db"}, "mkdir -p", 78),
        ({"rules": [{"name": "a", "exec": ["./none.sh"]}]}, "none.sh does not exist", 78),
        ({"rules": [{"name": "a", "exec": ["./root.pub"]}]}, "chmod +x", 78),
        ({"rules": [{"name": "a", "exec": ["no-such-command"]}]}, "in PATH", 78),
        (
            {"rules": [{"name": "a", "exec": {"command": ["true"], "user": "no-such-user"}}]},
            "no such user",
            78,
        ),
        (
            {"rules": [{"name": "a", "webhook": {"url": "https://ci/", "secret": "none"}}]},
            "/none: does not exist",
            78,
        ),
        (
            {
                "rules": [
                    {
                        "name": "a",
                        "redis": {"url": "redis://h", "stream": "s", "credentials": "none"},
                    }
                ]
            },
            "/none: does not exist",
            78,
        ),
        ({"relay": {"publish": "x", "repositories": ["/srv"]}}, "relay.publish", 78),
        ({"relay": {"publsh": "ipc:///a/b", "repositories": ["/srv"]}}, "publish", 78),
        (
            {"relay": {"publish": "ipc:///tmp/publish", "repositories": ["/srv"]}},
            "/tmp: anyone may write there",
            78,
        ),
        (
            {"relay": {"publish": "ipc:///none/run/publish", "repositories": ["/srv"]}},
            "/none does not exist",
            78,
        ),
        ({"relays": [{"address": "ipc:///none/subscribe"}]}, "ipc:///none/subscribe", 69),
        ({"stroe": "x"}, 'did you mean "store"', 78),
    ],
)
def test_check_says_what_is_wrong(here: Site, *, change, word: str, status: int) -> None:
    here.configure(**change)

    done = here.ask("check")
    rows = [json.loads(line) for line in here.ask("check", "--json").stdout.splitlines()]

    assert done.returncode == status
    assert word in done.stdout
    assert [row for row in rows if not row["ok"]]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("lasts", "read", "word", "status"),
    [
        (60, EVERYTHING, "", 0),
        (-1, EVERYTHING, "the certificate of 'reader' is expired", 1),
        (60, "hg:team/**:**:", "'reader' may not read everything", 78),
    ],
)
def test_check_looks_at_the_readers_of_the_broadcast(
    here: Site, *, lasts: float, read: str, word: str, status: int
) -> None:
    key = here.keys.make("reader", read=(read,), nbf=-120, lasts=lasts)
    (here.folder / "reader.cert").write_bytes(key.certificate or b"")
    here.write_key("relay.key", here.keys.relay)
    here.repo()
    relay = {
        "publish": f"ipc://{here.folder}/run/publish",
        "repositories": [f"{here.hg}/**"],
        "broadcast": "tcp://127.0.0.1:5702",
        "broadcast-readers": ["reader.cert"],
        "key": "relay.key",
    }
    here.configure(relay=relay)

    done = here.ask("check")

    assert done.returncode == status, done.stdout
    assert word in done.stdout


def test_check_finds_what_the_daemon_may_not_write(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    here.folder.chmod(0o755)
    (here.folder / "run").mkdir(mode=0o500)
    (here.folder / "state").mkdir()
    (here.folder / "state" / "ci.db.lock").touch(0o400)
    (here.folder / "state").chmod(0o777)
    here.configure(store="sqlite:state/ci.db")

    with unprivileged() as user:
        status = check(here.config, Printer(as_json=False))
    said = capsys.readouterr().out

    assert status == 78
    assert f"ci.db.lock ({rights(here.folder / 'state' / 'ci.db.lock')}) may not be" in said
    assert f"{here.folder}/run (" in said
    assert said.count(f"by user {user}") >= 2


def test_check_tells_all_problems_at_once(here: Site) -> None:
    rules = [here.rule("one", exec=["./none"]), here.rule("two", exec=["./nothing"])]
    here.configure(key="none.key", rules=rules)
    here.repo()

    done = here.ask("check")

    assert done.stdout.count("PROBLEM") == 3


def test_check_reaches_a_relay_that_is_up(here: Site) -> None:
    subscribe = f"ipc://{here.folder}/run/subscribe"
    here.write_key("relay.key", here.keys.relay)
    relay = {
        "publish": f"ipc://{here.folder}/run/publish",
        "repositories": [f"{here.hg}/**"],
        "subscribe": [subscribe],
        "key": "relay.key",
    }
    here.configure(relay=relay)
    here.start()
    here.configure(relay=None, relays=[{"address": subscribe}])

    done = here.ask("check")

    assert done.returncode == 0, done.stdout
    assert f"{subscribe}: answers" in done.stdout


def test_init_prints_what_check_accepts_but_for_the_files(here: Site) -> None:
    done = run("init")
    here.config.write_text(done.stdout)
    checked = here.ask("check")

    assert done.stdout == SAMPLE
    assert parse(SAMPLE.encode(), here.config) == yaml.safe_load(SAMPLE)
    assert "ok       configuration" in checked.stdout
    assert "relay.publish" not in checked.stdout
    assert json.loads(run("init", "--json").stdout)["text"] == SAMPLE


def test_the_settings_that_the_sample_leaves_out_are_good_too(here: Site) -> None:
    lines = [line.replace("# ", "", 1) if "# " in line else line for line in SAMPLE.splitlines()]
    uncommented = "\n".join(
        line
        for line in lines
        if line.lstrip().startswith(("subscribe:", "broadcast:", "group:", "relays:", "- {address"))
        or line.lstrip().startswith(("files:", "user:", "pusher:", "phase:", "origin:"))
    )

    assert len(uncommented.splitlines()) >= 10
    for line in uncommented.splitlines():
        yaml.safe_load(line.strip())


def test_verbs_without_a_store_say_so(here: Site) -> None:
    done = here.ask("status")

    assert done.returncode == 1
    assert str(here.store) in done.stderr
    assert "hint: " in done.stderr


def test_usage_is_explained() -> None:
    assert run("--config").returncode == 2
    assert run().returncode == 2
    assert run("redeliver", "x").returncode == 2
    assert "--config" in run("--help").stdout


def test_the_configuration_may_stand_behind_the_verb(here: Site) -> None:
    here.repo()

    assert run("check", "--config", str(here.config)).returncode == 0


def test_show_finds_by_a_beginning_and_by_event(here: Site) -> None:
    burst(here.repo(), 3)
    here.start()
    runs = here.wait_runs(3)
    wait_for(lambda: len(here.rows("deliveries", "--state", "done")) == 3, "all are done")
    first = runs[0]

    (row, receipt) = here.rows("show", first["delivery_id"][:10])
    (event, delivery) = here.rows("show", first["event_id"])
    journal, _, sequence = first["event_id"].partition("/")
    short = here.rows("show", f"{journal[:6]}/{sequence}")

    assert (row["id"], row["state"]) == (first["delivery_id"], "done")
    assert (receipt["exit_status"], receipt["attempt"]) == (0, 1)
    assert event["event"]["data"]["sequence"] == int(sequence)
    assert delivery["id"] == first["delivery_id"]
    assert short[0] == event
    for unknown in ("zzzzz", f"{journal}/99", "/x", ""):
        done = here.ask("show", unknown)
        assert (done.returncode, bool(done.stderr)) == (1, True)


def test_deliveries_are_filtered_and_limited(here: Site) -> None:
    burst(here.repo(), 4)
    here.start()
    here.wait_runs(4)

    assert len(here.rows("deliveries")) == 4
    assert len(here.rows("deliveries", "--branch", "stable")) == 2
    assert here.rows("deliveries", "--rule", "none") == []
    newest = here.rows("deliveries", "-n", "1")
    assert [row["branch"] for row in newest] == ["stable"]
    assert here.ask("deliveries", "-n", "0").returncode == 2


def test_deliveries_are_chosen_by_the_time_they_were_made(here: Site) -> None:
    burst(here.repo(), 1)
    here.start()
    here.wait_runs(1)

    assert len(here.rows("deliveries", "--since", "10m")) == 1
    assert here.rows("deliveries", "--until", "10m") == []
    assert here.rows("deliveries", "--since", "2100-01-01T00:00Z") == []
    assert len(here.rows("deliveries", "--until", "2100-01-01", "--since", "2026-01-01")) == 1
    assert here.ask("deliveries", "--since", "yesterday").returncode == 2


def test_deliveries_are_followed(here: Site) -> None:
    repo = here.repo()
    repo.commit(draft())
    here.start()
    wait_for(lambda: len(here.rows("deliveries", "--state", "done")) == 1, "one is done")
    words = ["deliveries", "--follow", "--state", "done", "--branch", "default", "--json"]
    command = [str(COMMAND), "--config", str(here.config), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as follow:
        assert follow.stdout is not None
        before = json.loads(follow.stdout.readline())
        repo.commit(draft("stable"))
        repo.commit(draft())
        after = json.loads(follow.stdout.readline())
        follow.send_signal(signal.SIGINT)
        assert follow.wait(PATIENCE) == 130

    assert [row["state"] for row in (before, after)] == ["done", "done"]
    assert (after["branch"], after["id"] != before["id"]) == ("default", True)


def test_a_changeset_is_traced(here: Site) -> None:
    nodes = [f"{number:02x}" * 20 for number in (1, 2)]
    repo = here.repo()
    for node in nodes:
        item = {
            "node": node,
            "parents": [],
            "user": "Alice",
            "date": "2026-11-21T10:15:00+01:00",
            "description": "x",
            "phase": "draft",
            "topic": None,
            "closes_branch": False,
            "files": [],
            "truncated": False,
        }
        repo.commit(draft(changesets=[json.dumps(item).encode()]))
    daemon = here.start()
    here.wait_runs(2)
    wait_for(lambda: len(here.rows("deliveries", "--state", "done")) == 2, "all are done")

    event, made, attempt = here.rows("trace", nodes[1][:8].upper())
    text = here.ask("trace", nodes[1])
    unknown = here.ask("trace", "abcdef")
    odd = here.ask("trace", "tip")

    assert (event["nodes"], event["event_id"]) == ([nodes[1]], made["event_id"])
    assert (made["rule"], made["state"], attempt["delivery"]) == ("build", "done", made["id"])
    assert f"/{daemon.pid}-" in attempt["owner"]
    assert [line.split()[0] for line in text.stdout.splitlines()] == [
        "event",
        made["id"],
        "attempt",
    ]
    assert (unknown.returncode, odd.returncode) == (1, 2)
    assert unknown.stdout.startswith("nothing is known of abcdef")
    assert "hg log -r REV" in odd.stderr


def test_tail_prints_deliveries_and_receipts_as_they_come_and_ends(here: Site) -> None:
    repo = here.repo()
    here.start()
    command = [str(COMMAND), "--config", str(here.config), "tail", "-n", "4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as tail:
        rows = []
        repo.commit(draft())
        here.wait_runs(1)
        while tail.poll() is None and len(rows) < 4:
            repo.commit(draft())
            assert tail.stdout is not None
            rows.append(json.loads(tail.stdout.readline()))
        assert tail.wait(PATIENCE) == 0

    kinds = [row["kind"] for row in rows]
    assert set(kinds) <= {"delivery", "receipt"}
    assert "delivery" in kinds


def test_what_a_script_prints_cannot_steer_the_terminal(here: Site) -> None:
    here.script("evil.sh", "#!/bin/sh\nprintf '\\033[2Jhello\\n'\n")
    here.configure(rules=[here.rule(exec=["./evil.sh"])])
    here.repo().commit(draft())
    daemon = here.start()
    daemon.wait_line("delivery done")
    (row,) = here.rows("deliveries")

    done = here.ask("show", row["id"])

    assert "\\x1b[2Jhello" in done.stdout
    assert "\x1b" not in done.stdout
