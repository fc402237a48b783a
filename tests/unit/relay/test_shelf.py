import logging
import shutil

import pytest
import relaykit

from hgext_zmqhooks.relay.catalog import scan
from hgext_zmqhooks.relay.shelf import RETRY_SECONDS, SAY_SECONDS, Shelf
from hgext_zmqhooks.service.life import Throttle
from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire.events import decode


@pytest.fixture
def place():
    with relaykit.place() as here:
        yield here


@pytest.fixture
def shelf():
    return Shelf(Counters(), Throttle(logging.getLogger("zmqhooks.relay")))


def update(place, shelf, tick=0.0):
    return shelf.update([one for one in scan((f"{place.hg}/**",)) if one], tick)


def everything(shelf):
    return [(info.journal, info.sequence) for info in shelf.journals(lambda _: True)]


def test_repositories_come_and_go(place, shelf):
    repo = place.repo()
    repo.commit()
    assert [one.path for one in update(place, shelf)] == [str(repo.folder)]
    assert everything(shelf) == [(repo.head().journal, 1)]
    shutil.rmtree(repo.folder)
    update(place, shelf)
    assert (len(shelf), everything(shelf)) == (0, [])


def test_a_poll_tells_which_heads_moved(place, shelf):
    one, two = place.repo("one"), place.repo("two")
    update(place, shelf)
    assert shelf.poll(1) == ()
    two.commit()
    assert [repository.path for repository in shelf.poll(2)] == [str(two.folder)]
    assert shelf.poll(3) == ()
    one.commit()
    two.commit()
    assert len(shelf.poll(4)) == 2


@pytest.mark.parametrize("names", [("app", "zcopy"), ("zapp", "copy")])
def test_a_copy_is_served_once_from_the_original(place, shelf, names):
    repo = place.repo(names[0])
    repo.commit()
    shutil.copytree(repo.folder, place.hg / names[1])
    update(place, shelf)
    assert everything(shelf) == [(repo.head().journal, 1)]
    owners = [one.path for one in shelf if shelf.served(one)]
    assert owners == [str(repo.folder)]
    repo.commit()
    shelf.poll(1)
    assert everything(shelf) == [(repo.head().journal, 2)]


def test_when_the_original_is_gone_its_copy_takes_over(place, shelf):
    repo = place.repo("app")
    repo.commit()
    journal = repo.head().journal
    shutil.copytree(repo.folder, place.hg / "copy")
    update(place, shelf)
    shutil.rmtree(repo.folder)
    update(place, shelf)
    assert everything(shelf) == [(journal, 1)]


class TestHints:
    def test_a_known_journal_is_looked_at(self, place, shelf):
        repo, other = place.repo("one"), place.repo("two")
        repo.commit()
        other.commit()
        update(place, shelf)
        event = decode(repo.commit()[0].event)
        other.commit()
        change = shelf.hint(event, 1)
        assert [one.path for one in change.changed] == [str(repo.folder)]
        assert not change.unknown

    def test_a_known_repository_without_a_journal_so_far(self, place, shelf):
        repo = place.repo("one")
        update(place, shelf)
        change = shelf.hint(decode(repo.commit()[0].event), 1)
        assert [one.path for one in change.changed] == [str(repo.folder)]
        assert not change.unknown

    def test_a_repository_that_nobody_saw(self, place, shelf):
        update(place, shelf)
        assert shelf.hint(decode(place.repo("new").commit()[0].event), 1).unknown


def test_a_repository_that_cannot_be_read_is_tried_again_after_some_time(place, shelf):
    repo = place.repo()
    repo.commit()
    update(place, shelf)
    (repository,) = shelf
    shelf.stop(repository, OSError("disk"), tick=100.0)
    assert repository.retry_at == 100.0 + RETRY_SECONDS
    assert shelf.poll(101) == ()
    assert shelf.poll(100 + RETRY_SECONDS) == (repository,)
    assert repository.retry_at == 0


def test_what_cannot_be_read_is_said_once_for_each_reason_and_again_later(place, caplog):
    counters = Counters()
    shelf = Shelf(counters, Throttle(logging.getLogger("zmqhooks.relay"), period=0.0))
    repo = place.repo()
    repo.commit()
    update(place, shelf)
    (repository,) = shelf

    def said(tick, error):
        caplog.clear()
        shelf.stop(repository, error, tick=tick)
        return [(one.fields["kind"], one.fields["reason"]) for one in caplog.records]

    denied = PermissionError(13, "Permission denied", str(repo.store))
    again = [said(100.0, denied), said(130.0, denied), said(100.0 + SAY_SECONDS, denied)]
    assert again == [
        [("journal-unreadable", str(denied))],
        [],
        [("journal-unreadable", str(denied))],
    ]
    assert said(800.0, OSError("disk")) == [("journal-unreadable", "disk")]
    assert counters.get("journal-stopped", "unreadable") == 4
    # A head that moved is news
    repo.commit()
    shelf.poll(801)
    assert said(802.0, OSError("disk")) == [("journal-unreadable", "disk")]


def test_a_moved_head_ends_the_waiting(place, shelf):
    repo = place.repo()
    repo.commit()
    update(place, shelf)
    (repository,) = shelf
    shelf.stop(repository, OSError("disk"), tick=100.0)
    repo.commit()
    assert shelf.poll(101) == (repository,)
    assert repository.retry_at == 0


def test_a_head_of_a_newer_version_is_left_alone(place, shelf, caplog):
    repo = place.repo()
    repo.commit()
    head = repo.store / "zmqhooks-head"
    head.write_bytes(head.read_bytes().replace(b'"version":1', b'"version":7'))
    assert update(place, shelf) == ()
    assert everything(shelf) == []
    assert "a journal cannot be read" in caplog.text
