"""Files that a daemon takes up: what is read when, and what a bad one does."""

import logging
import os
import threading
from pathlib import Path

import pytest
from support.waiting import wait_for

from hgext_zmqhooks.service.errors import ServiceError
from hgext_zmqhooks.service.life import ROOT, Bell, Stop
from hgext_zmqhooks.service.watch import AGAIN, Part, Watch


class Taken:
    """Parts over files of one folder; `got` is what was taken up, in order.

    A text that begins with "bad" is refused, one that begins with "of NAME" as long as the newest
    taken up of that part is another one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.got: list[tuple[str, str]] = []

    def part(self, name: str, *more: str) -> Part:
        def load() -> bool:
            path = self.folder / name
            try:
                text = path.read_text()
            except OSError as error:
                raise ServiceError(f"{path}: {error.strerror}", hint="write it") from None
            if text.startswith("bad"):
                raise ServiceError(f"{path}: {text}", hint="make it good")
            if text.startswith("of ") and text.split()[1] not in dict(self.got).values():
                raise ServiceError(f"{path}: not yet", hint="later")
            self.got.append((name, text))
            return len(self.got) > 1

        return Part(name, (self.folder / name, *[self.folder / other for other in more]), load)

    def write(self, name: str, text: str) -> None:
        """Put a file in the place of another one, as zmq-keys does."""
        path = self.folder / f"{name}.new"
        path.write_text(text)
        path.replace(self.folder / name)


@pytest.fixture
def taken(tmp_path: Path) -> Taken:
    made = Taken(tmp_path)
    made.write("trust", "first")
    made.write("key", "first")
    return made


def watch(*parts: Part) -> Watch:
    made = Watch(parts, Bell())
    made.look()
    return made


def test_all_is_read_once_and_then_only_what_changed(taken: Taken) -> None:
    made = watch(taken.part("trust"), taken.part("key"))
    assert taken.got == [("trust", "first"), ("key", "first")]

    made.look()
    taken.write("key", "second")
    made.look()
    made.look()

    assert taken.got[2:] == [("key", "second")]


def test_any_of_its_files_makes_a_part_change_also_one_that_comes_or_goes(taken: Taken) -> None:
    made = watch(taken.part("trust", "list"))
    for change in (lambda: taken.write("list", "x"), (taken.folder / "list").unlink):
        change()
        made.look()
    assert taken.got == [("trust", "first")] * 3


def test_other_rights_are_a_change(taken: Taken) -> None:
    made = watch(taken.part("key"))
    (taken.folder / "key").chmod(0o400)
    made.look()
    assert len(taken.got) == 2


def test_what_cannot_be_used_is_told_once_and_leaves_the_old_in_force(
    taken: Taken, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(ROOT), "propagate", True)
    made = watch(taken.part("key"))

    taken.write("key", "bad second")
    for _ in range(3):
        made.look()

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.fields["what"] == "key"
    assert str(record.fields["reason"]) == f"{taken.folder}/key: bad second"
    assert record.fields["hint"] == "make it good"
    assert taken.got == [("key", "first")]
    # and the next good one is taken
    taken.write("key", "third")
    caplog.set_level("INFO", ROOT)
    made.look()
    assert taken.got[1:] == [("key", "third")]
    last = caplog.records[-1]
    assert (last.message, last.fields["files"]) == ("taken up", f"{taken.folder}/key")


def test_what_failed_is_tried_again_when_another_part_changed(taken: Taken) -> None:
    made = watch(taken.part("trust"), taken.part("key"))
    taken.write("key", "of second root")
    made.look()
    assert len(taken.got) == 2

    taken.write("trust", "second")
    made.look()

    assert taken.got[2:] == [("trust", "second"), ("key", "of second root")]


def test_what_failed_is_tried_again_every_minute_and_told_of_once(
    taken: Taken, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(ROOT), "propagate", True)
    away = [True]

    def load() -> bool:
        if away[0]:
            raise ServiceError("the store is away")
        taken.got.append(("configuration", "taken"))
        return True

    # Given a part that fails for something that no file tells of
    made = watch(Part("configuration", (taken.folder / "key",), load))
    for _ in range(3 * AGAIN):
        made.look()
    assert len(caplog.records) == 1
    # When that is over
    away[0] = False
    for _ in range(AGAIN):
        made.look()
    # Then it is taken up, once
    assert taken.got == [("configuration", "taken")]


def test_a_hangup_reads_everything_at_once_and_the_end_of_all_ends_it(taken: Taken) -> None:
    # Given a watch that runs
    bell, stop = Bell(), Stop()
    runs = threading.Thread(target=Watch([taken.part("key")], bell).run, args=(stop,))
    runs.start()
    wait_for(lambda: taken.got, "the first look")
    # When it is rung for, and when a file changes
    bell.ring()
    wait_for(lambda: len(taken.got) == 2, "everything is read again")
    taken.write("key", "second")
    wait_for(lambda: ("key", "second") in taken.got, "the change is seen")
    stop.set()
    runs.join(10)
    # Then each was taken up, and it has ended
    assert not runs.is_alive()


def test_a_file_written_over_in_place_is_seen(taken: Taken) -> None:
    made = watch(taken.part("key"))
    before = (taken.folder / "key").stat()
    (taken.folder / "key").write_text("other")  # as long as the old one
    os.utime(taken.folder / "key", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    made.look()
    assert taken.got[1:] == [("key", "other")]
