"""`hg events --init --full`: the whole history as events, in bounded memory, all or nothing."""

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hgkit import HG, HG_DEADLINE, Host, fold
from support.site import Site
from support.waiting import wait_for

from hgext_zmqhooks.history import BATCH
from hgext_zmqhooks.journal.format import EVENTS, HEAD

OFF = ("--config", "zmqhooks.enabled=no")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def old(host: Host) -> Path:
    """A repository of 20,000 changesets that has told nothing yet."""
    served = host.repository("old")
    host.hg("debugbuilddag", "+20000", *OFF, cwd=served, ok=False)
    return served


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twenty_thousand_changesets(host: Host, old: Path) -> None:
    """Every node is told once, in order; memory grows by less than 50 MB; later pushes fit."""
    twin = host.root / "twin"
    shutil.copytree(old, twin)
    without = host.peak("-R", twin, "events", "--init")
    with_events = host.peak("-R", old, "events", "--init", "--full")
    assert with_events - without < 50
    found = host.events(old)
    nodes = [changeset.node for event in found for changeset in event.changesets]
    assert nodes == host.hg("log", "-r", "all()", "-T", "{node}\n", cwd=old).split()
    assert {event.origin for event in found} == {"catchup"}
    assert len({event.transaction.id for event in found}) == 1
    assert max(len(event.changesets) for event in found) <= BATCH
    assert max(map(len, host.raw_events(old))) <= 262_144
    host.verify(old)
    host.hg("update", "-q", "tip", cwd=old)
    new = host.commit(old, "later")
    assert [changeset.node for changeset in host.events(old)[-1].changesets] == [new]
    host.verify(old)


@pytest.mark.timeout(600)
def test_a_kill_leaves_all_or_nothing(host: Host, old: Path) -> None:
    # Given a process that is killed as soon as events are in the file
    file = old / ".hg/store" / EVENTS
    with subprocess.Popen(
        [HG, "events", "--init", "--full"],
        cwd=old,
        env=host.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_for(
            lambda: (file.exists() and file.stat().st_size) or process.poll() is not None, "events"
        )
        process.send_signal(signal.SIGKILL)
        process.wait(HG_DEADLINE)
    assert process.returncode == -signal.SIGKILL, "it was killed in the midst of it"
    assert not (old / ".hg/store" / HEAD).exists()
    # When what it left is recovered, then there is no journal
    host.hg("recover", cwd=old)
    assert host.events(old) == []
    # and it can be begun again
    host.hg("events", "--init", "--full", cwd=old)
    assert len(fold(host.events(old))) == 20_000
    host.verify(old)


def test_a_subscriber_from_the_earliest_gets_every_changeset_once(site: Site) -> None:
    # Given an old repository with branches that grew side by side, and a subscriber
    app = site.repository("team/app")
    app.build(2500, "default,stable,feature: x", plain=True)
    site.configure(start="earliest")
    site.subscriber()
    # When its history is told, and somebody pushes after that
    app.hg("events", "--init", "--full")
    app.build(3, "default,stable,feature: x")
    wait_for(lambda: sum(len(run.nodes) for run in site.runs()) >= 2503, "all changesets")
    # Then every changeset came once, on its branch, parents before children
    runs = site.runs()
    assert set(Counter(node for run in runs for node in run.nodes).values()) == {1}
    for branch in ("default", "stable", "feature: x"):
        told = [node for run in runs if run.branch == branch for node in run.nodes]
        assert told == app.branch_nodes(branch)
    # and what was received is what the repository has
    audit = site.ask("ci", "audit", "team/app")
    assert {row["state"] for row in audit} == {"equal"}
    assert "no problems found" in app.verify()
