"""One history, one topic: names are told as the changelog holds them, whatever the locale."""

import re
from pathlib import Path

import pytest
from hgkit import Host

BRANCH = "würze/übung"
USER = "Jürgen Müller <jm@example.org>"
MESSAGE = "größer & schöner: „ja“"
BOOKMARK = "märz"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def work(host: Host) -> Path:
    """Non-ASCII branch, user, description and bookmark, and a file name that is no UTF-8."""
    repository = host.outside()
    (repository / "datei-ä").write_text("x")
    with open(bytes(repository) + b"/latin-\xe4", "w") as file:  # noqa: PTH123 - no UTF-8
        file.write("x")
    host.hg("branch", "-q", BRANCH, cwd=repository)
    host.hg("commit", "-Aqm", MESSAGE, "-u", USER, cwd=repository)
    host.hg("bookmark", BOOKMARK, cwd=repository)
    host.hg("bookmark", "@", cwd=repository)
    return repository


def without_accidents(event: bytes) -> bytes:
    """The event less what differs between two journals: ids and times."""
    event = re.sub(rb'"time":"[^"]*"', b"", event)
    return re.sub(rb"[0-9a-f]{32}\b|TXN:[0-9a-f]{40}", b"", event)


def test_every_encoding_gives_the_same_bytes(host: Host, work: Path) -> None:
    """ascii, latin1 and utf-8 of the server, and hgweb's web.encoding."""
    told = {}
    for encoding in ("ascii", "latin1", "utf-8"):
        served = host.folder / "srv/app"
        host.hg("init", served)
        # Mercurial itself refuses non-ASCII bookmarks where the server's encoding has them not.
        host.push_ssh(work, served, "-B", "@", "--new-branch", LOGNAME="bob", HGENCODING=encoding)
        told[encoding] = [without_accidents(event) for event in host.raw_events(served)]
        host.hg("events", "--verify", cwd=served, HGENCODING=encoding)
        served.rename(host.folder / f"kept-{encoding}")
    assert told["ascii"] == told["latin1"] == told["utf-8"]
    assert all(told.values())
    host.hg("init", served)
    with host.web(served, "--config", "web.encoding=ascii", HGENCODING="latin1") as url:
        host.hg("push", "--new-branch", url, cwd=work)
    with host.web(served, "--config", "web.encoding=utf-8", HGENCODING="ascii") as url:
        host.hg("push", "-B", BOOKMARK, url, cwd=work, ok=False)
    changesets, bookmarks = host.events(served)
    (changeset,) = changesets.changesets
    assert changesets.branch == bookmarks.branch == BRANCH
    assert (changeset.user, changeset.description) == (USER, MESSAGE)
    assert changeset.files == ("datei-ä", "latin-\ufffd")
    assert [move.name for move in bookmarks.bookmarks] == [BOOKMARK]
    assert changesets.topic == f"hg:app:{BRANCH}:"
    host.verify(served)


def test_heads_are_found_under_every_encoding(host: Host, work: Path) -> None:
    """The branch map has local names; the heads of the branch are its own all the same."""
    served = host.repository()
    host.push_ssh(work, served, "--new-branch", HGENCODING="ascii")
    first = host.hg("log", "-r", ".", "-T", "{node}", cwd=work)
    second = host.commit(work, "second")
    host.push_ssh(work, served, HGENCODING="ascii")
    before, after = (event.heads for event in host.events(served))
    assert before
    assert (before.tip, before.added, before.removed) == (first, (first,), ())
    assert after
    assert (after.tip, after.added, after.removed) == (second, (second,), (first,))
    assert (before.count, after.count) == (1, 1)


def test_listing_in_ascii(host: Host, work: Path) -> None:
    served = host.repository()
    host.push_ssh(work, served, "--new-branch")
    listed = host.hg("events", "-b", BRANCH, "-T", "{branch}\n", cwd=served)
    assert listed == f"{BRANCH}\n"
    assert host.hg("events", "-T", "{branch}\n", cwd=served, HGENCODING="ascii") == "w?rze/?bung\n"


def test_repository_names(host: Host) -> None:
    """Special characters are encoded in the topic; the name stays what the path says."""
    served = host.repository("team/a: 100%*")
    host.commit(served, "one")
    (event,) = host.events(served)
    assert event.repo == "team/a: 100%*"
    assert event.topic == "hg:team/a%3A 100%25%2A:default:"


def test_a_changeset_as_it_was_written(host: Host) -> None:
    """Date with its own offset, parents, closing, topic, and a description that is not touched."""
    served = host.repository()
    first = host.commit(served, "one", "-d", "1700000000 -19800")
    host.hg("commit", "--close-branch", "-qm", "close\n\nbye", "-d", "0 3600", cwd=served)
    opened, closed = host.events(served)
    (one,) = opened.changesets
    assert (one.date, one.parents, one.closes_branch) == ("2023-11-15T03:43:20+05:30", (), False)
    (two,) = closed.changesets
    assert (two.date, two.parents, two.closes_branch) == (
        "1969-12-31T23:00:00-01:00",
        (first,),
        True,
    )
    assert two.description == "close\n\nbye"
    assert closed.heads
    assert (closed.heads.count, closed.heads.removed) == (0, (first,))
    assert closed.heads.tip == two.node


def test_a_changeset_beyond_the_limit_is_cut(host: Host) -> None:
    """A description of a megabyte: one event within the limit, marked as truncated."""
    served = host.repository()
    (served / "file").write_text("x")
    (host.folder / "message").write_text("ü" * 600_000)
    host.hg("commit", "-Aq", "-l", host.folder / "message", cwd=served)
    (event,) = host.raw_events(served)
    assert len(event) <= 262_144
    (changeset,) = host.events(served)[0].changesets
    assert changeset.truncated
    assert changeset.files == ("file",)
    host.verify(served)


def test_traceparent_is_handed_on(host: Host) -> None:
    served = host.repository()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    host.commit(served, "one", TRACEPARENT=trace)
    (served / "file").write_text("x")
    host.hg("commit", "-qm", "two", cwd=served, TRACEPARENT="nonsense")
    assert [event.traceparent for event in host.events(served)] == [trace, None]
