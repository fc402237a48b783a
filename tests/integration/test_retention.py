"""Events that were dropped before a subscriber read them: told, and gone on behind them."""

import pytest
from support.site import Repository, Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def app(site: Site) -> Repository:
    """A repository with two branches, of which the subscriber has read all."""
    site.configure(start="earliest")
    site.subscriber()
    app = site.repository("team/app")
    app.build(4, "default,stable", "--single")
    site.wait_settled(4)
    return app


def prune(app: Repository) -> None:
    """Of the journal only the newest transaction stays."""
    app.hg("events", "--prune", "--config", "zmqhooks.keep=1K")


def test_a_subscriber_that_was_away_too_long_is_told_and_goes_on(
    site: Site, app: Repository
) -> None:
    # Given one that ends, while more is pushed than is kept
    assert site.daemons[-1].terminate() == 0
    app.build(10, "default,stable", "--single")
    lost = app.nodes("--rev", "all()")[4:13]
    prune(app)
    # When it comes back, then it says what it will never get, and where to look
    back = site.subscriber()
    line = back.wait_line("events 5 to 13", "were pruned before they were read")
    assert "WARNING" in line
    assert "repo=team/app" in line
    assert 'next="audit team/app"' in line
    # and goes on with what is kept and with what follows, on both branches
    app.build(4, "default,stable", "--single")
    runs = site.wait_runs(9)
    kept = set(app.nodes()) - set(lost)
    assert sorted(node for run in runs for node in run.nodes) == sorted(kept)
    (row,) = [row for row in site.status() if row["kind"] == "journal"]
    assert (row["behind"], row["stopped"]) == (0, None)
    # The audit names what the dropped events told of
    rows = site.ask("ci", "audit", "team/app", status=1)
    assert sorted(node for row in rows for node in row["missing"]) == sorted(lost)
    app.verify()


def test_a_subscriber_that_is_level_does_not_notice_a_prune(site: Site, app: Repository) -> None:
    daemon = site.daemons[-1]
    prune(app)
    app.build(4, "default,stable", "--single")
    runs = site.wait_runs(8)
    assert sorted(node for run in runs for node in run.nodes) == sorted(app.nodes())
    # At its start there was no repository yet, which is all that it has to say
    (line,) = daemon.lines("WARNING")
    assert "daemon: no repository found" in line


def test_who_comes_first_after_a_prune_begins_with_what_is_kept(
    site: Site, app: Repository
) -> None:
    app.build(6, "default,stable", "--single")
    site.wait_settled(10)
    prune(app)
    site.issue("new", "--read", "hg:**:**:")
    site.configure(
        "new",
        relays=[site.endpoint("subscribe")],
        key="keys/new.key",
        start="earliest",
    )
    site.daemons[-1].terminate()
    site.configure(start="earliest", relay={"subscribe": [site.endpoint("subscribe")]})
    site.subscriber()
    new = site.subscriber("new")
    app.build(2, "default,stable", "--single")
    rows = site.wait_settled(3, "new")
    assert [row["state"] for row in rows] == ["done"] * 3
    assert not new.lines("WARNING")
