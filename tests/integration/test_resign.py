"""A publisher's certificate expires, and `hg events --resign` releases what waits for that."""

from support import attacks
from support.site import Site
from support.waiting import wait_for


def test_what_is_held_is_released_and_its_action_runs(site: Site) -> None:
    # Given a subscriber that holds events of two branches, whose certificate has expired
    site.configure()
    site.subscriber()
    app = site.repository("team/app")
    attacks.issue_for_the_past(site, "expired")
    late = ("--config", f"zmqhooks.key={site.folder}/keys/expired.key")
    app.build(2, "default,stable", *late)
    app.build(1, "default", *late)

    def held() -> int:
        return next(row["held_events"] for row in site.status() if row["kind"] == "status")

    wait_for(lambda: held() == 3, "three events are held")
    assert site.runs() == []
    # When the key is replaced, and the journal signed again
    told = app.hg("events", "--resign").out
    # Then each event runs its action, once and in order, and nothing else does
    assert sorted(line.split(":")[0] for line in told.splitlines()) == ["default", "stable"]
    runs = site.wait_runs(3)
    for branch in ("default", "stable"):
        nodes = [node for run in runs if run.branch == branch for node in run.nodes]
        assert nodes == app.branch_nodes(branch)
    assert held() == 0
    assert "no problems found" in app.verify()
    # and there is nothing more to do
    assert app.hg("events", "--resign").out == "nothing to sign again\n"
