"""`status`, `check` and the log on a bad day: what does not work is said, with a way to go on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from relaykit import EVERYTHING, Keys, Repo, draft
from subscriberkit import Site, site
from support.waiting import PATIENCE, wait_for

from hgext_zmqhooks.journal.append import Writer
from hgext_zmqhooks.journal.files import Directory
from hgext_zmqhooks.wire.keyfiles import SecretKey, thumbprint

DAY = 86_400.0


@pytest.fixture
def here():
    with site() as made:
        yield made


def kind(here: Site, name: str) -> list[dict]:
    return [row for row in here.rows("status") if row["kind"] == name]


def problems(here: Site, *, status: int) -> str:
    """What `check` finds wrong; it must end so."""
    done = here.ask("check")
    assert done.returncode == status, done.stdout
    rows = [json.loads(line) for line in here.ask("check", "--json").stdout.splitlines()]
    return "\n".join(f"{row['detail']}\n{row['hint']}" for row in rows if not row["ok"])


def received_once(here: Site) -> Repo:
    """A repository of which one event ran; no daemon runs any more."""
    repo = here.repo()
    repo.commit(draft())
    daemon = here.start()
    here.wait_runs(1)
    wait_for(lambda: here.rows("deliveries")[0]["state"] == "done", "the delivery is done")
    assert daemon.terminate() == 0
    return repo


class TestNoDaemon:
    def test_status_counts_what_waits_and_says_how_to_start(self, here: Site) -> None:
        repo = received_once(here)
        repo.commit(draft())
        repo.commit(draft())

        (journal,) = kind(here, "journal")
        said = here.ask("status")

        assert said.returncode == 1
        assert f"does not run; start it with: zmq-subscriber --config {here.config}" in said.stdout
        assert (journal["head"], journal["behind"], journal["current"]) == (3, 2, True)
        assert journal["seconds"] is not None

    def test_a_head_that_cannot_be_looked_up_is_marked_as_old(self, here: Site) -> None:
        received_once(here)
        here.configure(relay=None, relays=[{"address": f"ipc://{here.folder}/run/subscribe"}])

        (journal,) = kind(here, "journal")
        said = here.ask("status").stdout

        assert (journal["behind"], journal["current"]) == (0, False)
        assert [line.split()[-3:] for line in said.splitlines() if line.startswith("app")] == [
            ["?", "?", "unknown"]
        ]


def test_a_lost_relay_is_a_problem_and_an_old_error_is_over(here: Site) -> None:
    address = f"ipc://{here.folder}/run/subscribe"
    here.write_key("relay.key", here.keys.relay)
    serves = {
        "publish": f"ipc://{here.folder}/run/publish",
        "repositories": [f"{here.hg}/**"],
        "subscribe": [address],
        "key": "relay.key",
    }
    here.repo().commit(draft())
    here.configure(relay=serves, store="sqlite:first.db")
    config = here.config.rename(here.folder / "first.yml")
    here.configure(relay=None, relays=[{"address": address}], name=None)
    other = here.keys.make("other", read=(EVERYTHING,))
    here.write_key("ci.key", other)
    here.write_key("first.key", here.keys.subscriber)
    config.write_text(config.read_text().replace("key: ci.key", "key: first.key"))
    # Given a subscriber that began before its relay
    daemon = here.start(ready=False)
    daemon.wait_line("no session with the relay")
    (relay,) = kind(here, "relay")
    assert relay["lost"]
    assert here.ask("status").returncode == 1
    # When the relay comes up, then the error is over
    here.start(config)
    wait_for(lambda: here.ask("status").returncode == 0, "all is well")
    (relay,) = kind(here, "relay")
    assert (relay["lost"], relay["failed"] is not None) == (False, True)
    assert "  over: 20" in here.ask("status").stdout


def test_deliveries_of_a_rule_that_is_gone_are_named(here: Site) -> None:
    here.script("later.sh", "#!/bin/sh\nexit 75\n")
    here.configure(rules=[here.rule("slow", exec=["./later.sh"])])
    here.repo().commit(draft())
    here.start().wait_line("delivery")
    wait_for(lambda: here.rows("deliveries", "--state", "retrying"), "a retrying delivery")
    here.daemons[0].terminate()
    here.configure(rules=[here.rule("other")])
    here.start()

    (gone,) = kind(here, "rule")

    assert (gone["rule"], gone["open"]) == ("slow", 1)
    said = here.ask("status")
    assert said.returncode == 1
    assert "rule slow: it is not configured any more; 1 delivery of it" in said.stdout
    assert "1 delivery of the rule slow open, but it is gone" in problems(here, status=1)


class TestCertificates:
    def root_key(self, here: Site) -> None:
        here.write_key("root.key", here.keys.root)

    def test_one_that_ends_soon_is_told_of_everywhere(self, here: Site) -> None:
        # Given a key in the last third of its time
        self.root_key(here)
        ending = here.keys.make(
            "ci", read=(EVERYTHING,), roles=("relay",), nbf=-70 * DAY, lasts=20 * DAY
        )
        here.write_key("ci.key", ending)
        here.repo().commit(draft())
        # Then check and the daemon's log say so, and status does without a problem
        said = problems(here, status=1)
        assert "the certificate of 'ci' expires" in said
        daemon = here.start()
        daemon.wait_line("WARNING", "the certificate of 'ci' expires")
        here.wait_runs(1)
        (row,) = kind(here, "certificate")
        assert (row["key"], row["over"]) == ("key", False)
        assert here.ask("status").returncode == 0
        # and the hint is a whole command, which puts a new key in the place of the old one
        command = row["next"].partition(": ")[2]
        assert f"{command}\n" in f"{said}\n"
        path = Path(sys.executable).parent
        subprocess.run(
            ["/bin/sh", "-euc", command], check=True, env={"PATH": str(path)}, timeout=60
        )
        assert daemon.terminate() == 0
        here.start()
        assert "PROBLEM" not in here.ask("check").stdout
        assert kind(here, "certificate") == []

    def test_one_that_has_expired_is_a_problem_of_status(self, here: Site) -> None:
        received_once(here)
        here.write_key("ci.key", here.keys.make("ci", read=(EVERYTHING,), nbf=-99, lasts=-9))

        (row,) = kind(here, "certificate")

        assert row["over"]
        assert "relays refuse us" in row["reason"]
        assert f"zmq-keys rotate {here.folder / 'ci.key'} --root" in row["next"]

    def test_a_missing_key_is_named_with_the_command_that_makes_it(self, here: Site) -> None:
        self.root_key(here)
        here.repo()
        (here.folder / "ci.key").unlink()
        here.configure(name="ci")

        said = problems(here, status=78)

        assert f"{here.config}: key: '{here.folder}/ci.key': does not exist" in said
        command = said.partition("or make it: ")[2].partition("\n")[0]
        path = Path(sys.executable).parent
        subprocess.run(
            ["/bin/sh", "-euc", command], check=True, env={"PATH": str(path)}, timeout=60
        )
        assert here.ask("check").returncode == 0

    def test_a_missing_root_is_named_and_not_to_be_issued(self, here: Site) -> None:
        here.configure(trust=["root.pub", "none.pub"])

        said = problems(here, status=78)

        assert f"{here.config}: trust[1]: '{here.folder}/none.pub': does not exist" in said
        assert "issue" not in said.partition("none.pub")[2].partition("\n\n")[0].splitlines()[1]

    def test_who_serves_others_without_the_role_relay_is_told_before(self, here: Site) -> None:
        here.repo()
        here.configure(
            relay={
                "publish": f"ipc://{here.folder}/run/publish",
                "repositories": [f"{here.hg}/**"],
                "subscribe": [f"ipc://{here.folder}/run/subscribe"],
            }
        )

        said = problems(here, status=78)

        assert "does not have the role 'relay'" in said
        assert "--name ci --read 'hg:**:**:' --role relay --out" in said


def test_a_rule_that_may_read_nothing_is_told_of(here: Site) -> None:
    here.repo()
    here.write_key("ci.key", here.keys.make("ci", read=("hg:**:release-*:",)))
    partly = here.rule("partly", when={"topic": ["hg:**:default:", "hg:app:**:"]})
    here.configure(rules=[here.rule("deaf", when={"topic": "hg:**:default:"}), partly])

    said = problems(here, status=78)
    daemon = here.start()

    assert "rules[0].when.topic: ['hg:**:default:']" in said
    assert "may read hg:**:release-*: only: the rule would never run" in said
    assert "rules[1]" not in said
    assert "rule=deaf" in daemon.wait_line("WARNING", "a rule never runs")
    assert daemon.lines("rule=partly") == []


def test_a_misspelt_folder_of_repositories_is_told_of(here: Site) -> None:
    here.repo()
    names = [f"{here.hg}/**", f"{here.folder}/hgg/**"]
    relay = {"publish": f"ipc://{here.folder}/run/publish", "repositories": names}
    here.configure(relay=relay)

    said = problems(here, status=1)
    daemon = here.start()

    assert f"{here.folder}/hgg: not looked into: {here.folder}/hgg does not exist" in said
    assert f"value={names[1]}" in daemon.wait_line("WARNING", "no repository found")
    assert len(daemon.lines("no repository found")) == 1


def test_an_unknown_root_is_told_with_the_ones_that_are_trusted(here: Site) -> None:
    here.repo("app", Keys().publisher).commit(draft())
    here.start().wait_line("journal stopped")

    (row,) = kind(here, "journal")

    assert "add its root.pub to `trust`" in row["next"]
    assert f"{here.folder}/root.pub ({thumbprint(here.keys.root.public)})" in row["next"]


def test_two_repositories_of_one_name_are_both_shown(here: Site) -> None:
    first, twin = here.repo("app"), Repo(here.hg, "twin", here.keys.publisher)
    twin.writer = Writer(Directory(twin.store), "app")
    for repo in (first, twin):
        repo.commit(draft())
    here.configure(start="latest")
    here.start()
    wait_for(lambda: len(kind(here, "journal")) == 2, "both journals are known")

    said = here.ask("status")

    assert said.returncode == 1
    assert len([line for line in said.stdout.splitlines() if line.startswith("app  ")]) == 2
    assert f"app: 2 repositories have this name: {first.folder}, {twin.folder}" in said.stdout
    assert f"has the name app, which {first.folder} has too" in problems(here, status=1)


class TestStores:
    @pytest.mark.parametrize("name", ["ci.db", "ci.db.relay"])
    @pytest.mark.parametrize("kind", ["random", "header", "folder"])
    def test_one_that_the_daemon_could_not_use_is_a_problem(
        self, here: Site, name: str, kind: str
    ) -> None:
        received_once(here)
        path = here.folder / name
        content = path.read_bytes()
        path.unlink()
        if kind == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"\x07" * (len(content) if kind == "random" else 100))
            if kind == "header":
                path.write_bytes(b"\x07" * 100 + content[100:])

        said = problems(here, status=78)

        assert str(path) in said
        daemon = here.start(ready=False)
        assert daemon.process.wait(PATIENCE) != 0

    def test_checking_a_good_one_changes_nothing(self, here: Site) -> None:
        received_once(here)
        before = {path.name: path.stat().st_mtime_ns for path in here.folder.glob("ci.db*")}

        assert here.ask("check").returncode == 0

        after = {path.name: path.stat().st_mtime_ns for path in here.folder.glob("ci.db*")}
        assert after == before


def test_a_stop_says_what_it_waits_for(here: Site) -> None:
    here.script("long.sh", "#!/bin/sh\ntouch began\nuntil [ -e end ]; do sleep 0.05; done\n")
    here.configure(rules=[here.rule(exec=["./long.sh"])])
    here.repo().commit(draft())
    daemon = here.start()
    wait_for((here.folder / "began").exists, "the script runs")

    daemon.process.terminate()
    line = daemon.wait_line("waiting for a delivery to end; a second signal waits no more")
    (here.folder / "end").touch()

    assert "rule=build" in line
    assert "seconds=30" in line
    assert daemon.process.wait(PATIENCE) == 0


def test_a_public_file_in_place_of_a_key_is_not_to_be_closed(here: Site) -> None:
    secret: SecretKey = here.keys.subscriber
    here.repo()
    (here.folder / "ci.cert").write_bytes((secret.certificate or b"") + b"\n")
    for name, what in (("root.pub", "public key of a root"), ("ci.cert", "is a certificate")):
        here.configure(key=name)
        said = problems(here, status=78)
        assert what in said
        assert "chmod" not in said


def test_deliveries_stand_in_columns_with_time_user_and_node(here: Site) -> None:
    received_once(here)
    (row,) = here.rows("deliveries")
    head, line = (text.split() for text in here.ask("deliveries").stdout.splitlines())

    assert head[6:9] == ["made", "user", "node"]
    assert line[6:9] == [row["created"], row["user"] or "-", (row["node"] or "-")[:12]]


def test_an_event_that_is_not_stored_is_told_why(here: Site) -> None:
    repo = here.repo()
    for branch in ("old", "other", "default"):
        repo.commit(draft(branch))
    here.configure(rules=[here.rule(when={"topic": "hg:**:default:"})])
    here.start()
    here.wait_runs(1)
    (journal,) = kind(here, "journal")

    said = here.ask("show", f"{journal['journal']}/2").stderr
    ahead = here.ask("show", f"{journal['journal']}/99").stderr

    assert "read past: no rule wanted it" in said
    assert "not read yet" in ahead


def test_accepting_what_nobody_knows_names_what_is_known(here: Site) -> None:
    repo = received_once(here)
    (journal,) = kind(here, "journal")

    assert "known: app" in here.ask("accept", "nope").stderr
    assert "nothing of it is held" in here.ask("accept", repo.name).stderr
    running = here.ask("accept", "app", "--journal", journal["journal"]).stderr
    assert "hint: nothing is to be done" in running


def test_a_missing_folder_of_a_socket_is_one_story(here: Site) -> None:
    here.repo()
    publish = f"ipc://{here.folder}/no/such/publish"
    here.configure(relay={"publish": publish, "repositories": [f"{here.hg}/**"]})

    said = problems(here, status=78)
    daemon = here.start(ready=False)
    assert daemon.process.wait(PATIENCE) == 78

    told = f"{here.config}: relay.publish: '{publish}': cannot be served: {here.folder}/no does not"
    assert told in said
    assert told in daemon.said()
    assert f"mkdir -p {here.folder}/no;" in said
    assert f"mkdir -p {here.folder}/no;" in daemon.said()
