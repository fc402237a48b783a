"""A publisher's key was stolen: its certificate is revoked, and what of it still counts."""

from pathlib import Path

import pytest
from keyskit import zmq_keys
from relaykit import EVERYTHING, Signer, draft
from subscriberkit import Site, burst, site
from support.waiting import PATIENCE

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def here():
    with site() as made:
        made.write_key("root.key", made.keys.root)
        yield made


def revoke(here: Site, *words: str) -> Path:
    path = here.folder / "root.crl"
    zmq_keys("revoke", "--root", here.folder / "root.key", *words, "--out", path)
    here.configure(revocations=["root.crl"])
    return path


def stopped(here: Site) -> list[dict]:
    return [row for row in here.rows("status") if row["kind"] == "journal" and row["stopped"]]


def test_what_a_revoked_key_signed_is_refused_unless_stored_or_vouched_for(here: Site) -> None:
    # Given two events that were stored, and two that came while the daemon did not run
    repo = here.repo()
    burst(repo, 2)
    daemon = here.start()
    here.wait_runs(2)
    daemon.terminate()
    burst(repo, 2)

    # When their certificate is revoked, and the daemon runs again
    revoke(here, "--id", "jti-publisher")
    daemon = here.start()

    # Then the journal is stopped before the new ones, and status says how to go on
    line = daemon.wait_line("journal stopped", "kind=revoked", "sequence=3")
    assert "accept app --journal" in line
    (row,) = stopped(here)
    assert row["stopped"].startswith("revoked at sequence 3: ")
    assert row["next"].startswith("if all of it up to 4 is genuine: accept app --journal")
    assert here.ask("status").returncode == 1
    assert len(here.runs()) == 2

    # When a person vouches for them
    (answer,) = here.rows("accept", "app", "--journal", row["journal"])

    # Then they are taken
    assert (answer["verb"], answer["sequence"]) == ("vouch", 4)
    here.wait_runs(4)

    # And what the stolen key signs later is not, whatever time it tells
    repo.commit(draft(time="2026-01-01T00:00:00.000000Z"))
    daemon.wait_line("journal stopped", "kind=revoked", "sequence=5")
    assert sorted(run["sequences"] for run in here.runs()) == [[1], [2], [3], [4]]
    assert here.sql("SELECT verb, sequence FROM decision") == [("vouch", 4)]

    # And with another key, and a person who has looked at that one event, all goes on
    repo.signer = Signer(here.keys.make("publisher-2", publish=(EVERYTHING,)))
    repo.commit(draft())
    here.rows("accept", "app", "--journal", row["journal"])
    here.wait_runs(6)


def test_a_daemon_with_a_list_that_is_not_there_does_not_start(here: Site) -> None:
    here.configure(revocations=["root.crl"])

    done = here.ask("check")

    assert "subscriber.yml: revocations[0]: " in done.stdout + done.stderr
    assert "zmq-keys revoke" in done.stdout + done.stderr
    assert here.start(ready=False).process.wait(PATIENCE) == 78


def test_a_revoked_subscriber_is_told_how_to_go_on(here: Site) -> None:
    revoke(here, "--name", "ci")

    done = here.ask("check")

    assert "was revoked" in done.stdout + done.stderr
    assert f"zmq-keys rotate {here.folder / 'ci.key'} --root" in done.stdout + done.stderr
