"""The way of an event, whole: from `hg push` to a script that ran. Real hg, sockets, daemons."""

import os
import pwd
from collections import Counter

import pytest
from support.site import Site, rule

LIMIT = 256 * 1024
"""Bytes of the largest event."""

MEMORY = 50 << 20
"""Bytes by which the extension may enlarge a push."""


@pytest.mark.parametrize("way", ["local", "ssh", "http"])
def test_the_script_gets_exactly_the_changesets_of_a_push(site: Site, way: str) -> None:
    # Given a served repository and a clone of it
    site.configure()
    daemon = site.subscriber()
    app = site.repository("team/app")
    urls = {"local": lambda: str(app.path), "ssh": lambda: f"ssh://host/{app.path}"}
    urls["http"] = lambda: site.web(app)
    client = site.clone(app, urls[way]())
    users = {"local": pwd.getpwuid(os.getuid()).pw_name, "ssh": "alice", "http": ""}
    for number, count in enumerate((1, 300), 1):
        # When changesets are pushed
        before = len(client.nodes())
        client.build(count)
        client.hg("push", environment={"HG_USER": "alice"})
        # Then the script ran once, and its standard input named what `hg log` shows, in its order
        run = site.wait_runs(number)[-1]
        assert run.nodes == app.nodes("--rev", f"{before}:")
        assert len(run.nodes) == count
        assert run.node == run.nodes[-1]
        assert (run.rule, run.repo, run.branch) == ("build", "team/app", "default")
        assert run.topic == "hg:team/app:default:"
        assert (run.user, run.attempt) == (users[way], 1)
        assert max(len(line) for line in run.lines) <= LIMIT
    # and the receipts say the same
    assert [(one["id"], one["event_id"]) for one in site.wait_settled(2)] == [
        (run.delivery, run.event_id) for run in site.runs()
    ]
    assert app.verify() == "checked 2 events in 1 journal: no problems found\n"
    assert daemon.terminate() == 0


def test_each_branch_of_a_push_runs_the_script_once(site: Site) -> None:
    # Given three branches, of which the rule wants two
    site.configure(rules=[rule("build", ["hg:team/*:default:", "hg:team/*:release-*:"])])
    site.subscriber()
    app = site.repository("team/app")
    client = site.clone(app)
    client.build(30, "default,release-1,wild: 100%*?")
    # When they are pushed together
    client.hg("push", "--new-branch")
    # Then the rule's branches ran it once each, with their own changesets and no others
    runs = {run.branch: run for run in site.wait_runs(2)}
    assert set(runs) == {"default", "release-1"}
    for branch, run in runs.items():
        assert run.nodes == app.branch_nodes(branch)
        assert len(run.nodes) == 10


def test_names_arrive_whatever_the_encoding_of_the_pusher(site: Site) -> None:
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    client = site.clone(app)
    client.build(2, "default,größe: 100%*?/変更")
    client.hg("push", "--new-branch", environment={"HGENCODING": "ascii"})
    topics = {run.topic: run for run in site.wait_runs(2)}
    assert set(topics) == {
        "hg:team/app:default:",
        "hg:team/app:größe%3A 100%25%2A%3F/変更:",
    }
    (changeset,) = topics["hg:team/app:default:"].all("changesets")
    assert changeset["user"] == "Jörg <joerg@example.com>"
    assert changeset["description"].startswith("Ändere 0 für alle: 変更")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_20000_changesets_on_three_branches(site: Site) -> None:
    # Given a push of 20,000 changesets, and the memory that it needs without the extension
    site.configure(rules=[rule("build"), rule("other", "hg:**:stable:")])
    site.subscriber()
    client = site.clone(site.repository("team/before"))
    client.build(20_000, "default,stable,feature/x")
    without = site.repository("team/without")
    plain = client.hg("push", "--new-branch", str(without.path), plain=True)
    app = site.repository("team/app")
    # When they are pushed with it
    told = client.hg("push", "--new-branch", str(app.path))
    # Then every node arrived, once, on its branch, in events within their limit
    runs = site.wait_runs(4, deadline=300)
    assert Counter(run.rule for run in runs) == {"build": 3, "other": 1}
    arrived = [node for run in runs if run.rule == "build" for node in run.nodes]
    assert len(arrived) == 20_000
    assert set(arrived) == set(app.nodes())
    for run in runs:
        assert run.nodes == app.branch_nodes(run.branch)
        assert max(len(line) for line in run.lines) <= LIMIT
        parts = [event["data"]["transaction"] for event in run.events]
        assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
        assert {part["parts"] for part in parts} == {len(parts)}
    # and the push needed little more memory
    grown = told.peak - plain.peak
    largest = max(len(line) for run in runs for line in run.lines)
    print(
        f"push of 20,000: {plain.seconds:.1f} s, {plain.peak >> 20} MiB without;"
        f" {told.seconds:.1f} s, {told.peak >> 20} MiB with the extension;"
        f" largest event {largest} bytes"
    )
    assert grown < MEMORY
    assert "no problems found" in app.hg("events", "--verify").out


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["ssh", "http"])
def test_20000_changesets_enlarge_the_server_process_little(site: Site, way: str) -> None:
    # Given two served repositories, one of which is left alone by the extension
    site.configure()
    site.subscriber()
    without, app = site.repository("team/without"), site.repository("team/app")
    (without.path / ".hg" / "hgrc").write_text("[zmqhooks]\nenabled = no\n")
    client = site.clone(without)
    client.build(20_000, "default,stable,feature/x")
    # When the same is pushed to both, then the process that serves the one needs little more
    peaks = []
    for served in (without, app):
        if way == "ssh":
            ran = client.hg("push", "--new-branch", f"ssh://host/{served.path}")
            peaks += [line["peak"] for line in ran.probe if "serve" in line["argv"]]
        else:
            client.hg("push", "--new-branch", site.web(served))
            peaks.append(site.daemons[-1].memory())
    runs = site.wait_runs(3, deadline=300)
    assert {node for run in runs for node in run.nodes} == set(app.nodes())
    print(f"server process over {way}: {peaks[0] >> 20} MiB without, {peaks[1] >> 20} MiB with")
    assert peaks[1] - peaks[0] < MEMORY


def test_bookmarks_and_phases(site: Site) -> None:
    # Given a server that does not publish, and rules for bookmarks and phases
    site.configure(rules=[rule("marks", changes="bookmarks"), rule("phases", changes="phases")])
    site.subscriber()
    app = site.repository("team/app")
    (app.path / ".hg" / "hgrc").write_text("[phases]\npublish = no\n")
    client = site.clone(app)
    first, second = client.commit("one"), client.commit("two")
    client.hg("bookmark", "-r", first, "live")
    # When a bookmark is pushed, moved and deleted, and changesets become public
    client.hg("push", "--bookmark", "live")
    client.hg("bookmark", "--force", "-r", second, "live")
    client.hg("push", "--bookmark", "live")
    client.hg("phase", "--public", first)
    client.hg("push", status=1)
    client.hg("bookmark", "--delete", "live")
    client.hg("push", "--bookmark", "live", status=1)
    # Then each rule saw what it asked for, in order
    marks = site.wait_runs(3, "marks")
    assert [run.all("bookmarks") for run in marks] == [
        [{"name": "live", "old": None, "new": first}],
        [{"name": "live", "old": first, "new": second}],
        [{"name": "live", "old": second, "new": None}],
    ]
    (moved,) = site.wait_runs(1, "phases")
    assert moved.all("phases") == [{"node": first, "old": "draft", "new": "public"}]
    assert {change["phase"] for change in marks[0].all("changesets")} == {"draft"}
    app.verify()


def test_secret_changesets_stay_in_the_process_until_they_are_revealed(site: Site) -> None:
    # Given a repository that is committed to where it is served, with a secret changeset
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    shown = app.commit("shown")
    secret = app.commit("the word is swordfish", "--secret")
    # When another change, on a branch of its own, proves that all before it has been told
    app.hg("update", "--quiet", shown)
    app.hg("branch", "--quiet", "other")
    other = app.commit("other")
    # Then neither journal nor script knows of the secret one
    runs = site.wait_runs(2)
    assert [node for run in runs for node in run.nodes] == [shown, other]
    for file in [*app.store.glob("zmqhooks-*"), *site.folder.glob("ci.db*")]:
        data = b"" if file.is_socket() else file.read_bytes()
        assert secret.encode() not in data
        assert b"swordfish" not in data
    # When it is published, then it arrives as revealed
    app.hg("phase", "--draft", "--force", secret)
    (_, _, revealed) = site.wait_runs(3)
    assert revealed.nodes == [secret]
    assert {event["data"]["origin"] for event in revealed.events} == {"revealed"}
    assert revealed.all("changesets")[0]["description"] == "the word is swordfish"
    app.verify()
