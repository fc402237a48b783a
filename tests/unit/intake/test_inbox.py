"""The inbox over real stores: order of effects, positions, stops, parts over several batches."""

import logging
from dataclasses import replace

import pytest
from signing import DAY, KEYRING, NOW, ROOT, Journal, batch, certified
from storekit import BOXES

from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire.errors import Refused
from hgext_zmqhooks.wire.keyfiles import generate
from hgext_zmqhooks.wire.keyring import Keyring
from hgext_zmqhooks.wire.revocations import Revoked, issue
from hgext_zmqhooks.wire.session import JournalInfo, Record, Since
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import Continued
from subscriber.accept import Request, accept
from subscriber.engine.rules import RuleSpec, compile_rule, deliveries
from subscriber.intake.inbox import LIVE, Inbox, Tools
from subscriber.intake.journals import Alarm, Journals
from subscriber.store.base import Decision, OtherScope, State, Wanted

SIGNER = certified("publisher")
OLD = certified("old", nbf=NOW - 2 * DAY, exp=NOW - DAY)
ONE, TWO = "1" * 32, "2" * 32


class World:
    """An inbox, its store, and a clock that stands still until it is moved."""

    def __init__(self, store, start="earliest") -> None:
        self.store = store
        self.notified = 0
        self.tick = 100.0
        self.counters = Counters()
        rules = [compile_rule(RuleSpec(name="build", topics=("hg:**:**:",)))]
        self.tools = Tools(
            store=store,
            keyring=KEYRING,
            patterns=(Pattern.parse("hg:**:**:"),),
            match=lambda parts, created: deliveries(rules, parts, created),
            counters=self.counters,
            notify=self.notify,
            clock=lambda: NOW,
            tick=lambda: self.tick,
        )
        self.start = start
        self.restart()

    def notify(self) -> None:
        self.notified += 1

    def restart(self) -> None:
        self.journals = Journals(self.store, "hg1", self.start)
        self.inbox = Inbox(self.tools, "hg1", self.journals)

    def follow(self, text: str) -> None:
        """Read these topics from now on."""
        self.tools = replace(self.tools, patterns=(Pattern.parse(text),))
        self.store.follow(self.tools.scope)
        self.restart()

    def welcome(self, *infos: JournalInfo) -> list[Alarm]:
        return self.journals.welcome(infos, NOW)

    def row(self, journal: str = ONE):
        return next(row for row in self.store.journals() if row.journal == journal)

    def sequences(self) -> list[int]:
        return [each.record.sequence for each in self.store.events(0, 1000)]

    def deliveries(self) -> list:
        return self.store.deliveries(Wanted(), 1000)


@pytest.fixture(params=sorted(BOXES))
def world(request, tmp_path):
    store = BOXES[request.param](tmp_path).store
    yield World(store)
    store.close()


def info(sequence: int, journal: str = ONE, *, repo: str = "app", first: int = 1) -> JournalInfo:
    return JournalInfo(journal, repo, first, sequence)


def test_a_batch_is_stored_with_its_deliveries_and_its_position_is_told(world: World) -> None:
    journal = Journal(SIGNER)
    world.welcome(info(2))

    position = world.inbox.take(batch([journal.record(), journal.record("stable")], SIGNER))

    assert position == 2
    assert world.sequences() == [1, 2]
    assert [item.branch for item in world.deliveries()] == ["default", "stable"]
    assert (world.row().scanned, world.notified) == (2, 1)
    assert world.counters.get("stored") == 2


def test_the_same_batch_again_changes_nothing(world: World) -> None:
    journal = Journal(SIGNER)
    what = batch([journal.record(), journal.record()], SIGNER)
    world.welcome(info(2))
    world.inbox.take(what)

    again = world.inbox.take(what)
    world.restart()
    after_restart = world.inbox.take(what)

    assert (again, after_restart) == (2, 2)
    assert (world.sequences(), len(world.deliveries())) == ([1, 2], 2)


def test_what_nobody_wants_only_moves_the_position(world: World) -> None:
    world.welcome(info(50))

    assert world.inbox.take(batch([], scanned=50)) == 50
    assert (world.row().scanned, world.sequences(), world.notified) == (50, [], 0)


@pytest.mark.parametrize(
    ("start", "scanned", "position"),
    [("latest", 7, 7), ("earliest", None, 0), (60.0, None, Since(NOW - 60.0))],
)
def test_the_first_welcome_decides_where_reading_begins(
    world: World, start, scanned, position
) -> None:
    world.start = start
    world.restart()

    world.welcome(info(7))
    assert world.journals.passed_over == (scanned or 0)
    world.restart()
    world.welcome(info(9), info(3, TWO, repo="later"))

    assert world.journals.passed_over == 0
    assert world.row().scanned == scanned
    assert world.journals.positions(0)[ONE] == position
    assert world.journals.positions(0)[TWO] == 0


@pytest.mark.parametrize("start", ["latest", 60.0])
def test_of_two_repositories_of_one_name_the_second_is_held_whatever_start_says(
    world: World, start
) -> None:
    # Given two that go on under one name when their relay is met for the first time
    world.start = start
    world.restart()
    world.welcome(info(7), info(3, TWO))

    # Then the second is read from its beginning, which does not continue the first
    assert world.journals.positions(0)[ONE] != 0
    assert world.journals.positions(0)[TWO] == 0
    assert (
        world.inbox.take(batch([Journal(SIGNER, journal=TWO).record()], SIGNER, journal=TWO))
        is None
    )
    assert world.row(TWO).stopped.startswith("unfit-journal")


def test_a_bad_record_stops_its_journal_only_and_what_was_before_it_is_kept(world: World) -> None:
    journal = Journal(SIGNER)
    stranger = certified("publisher", root=generate("root"))
    world.welcome(info(3), info(1, TWO, repo="other"))
    records = [journal.record(), journal.record(signer=stranger)]

    position = world.inbox.take(batch(records, SIGNER, stranger))
    other = Journal(SIGNER, repo="other", journal=TWO)
    fine = world.inbox.take(batch([other.record()], SIGNER, journal=TWO))

    assert (position, fine) == (None, 1)
    assert (world.row().scanned, world.row(TWO).scanned) == (1, 1)
    assert world.row().stopped.startswith("unknown-root at sequence 2")
    assert world.counters.get("refused", "unknown-root") == 1
    assert world.journals.positions(world.tick) == {ONE: None, TWO: 1}


def test_a_stopped_journal_is_asked_for_again_with_growing_delay(world: World) -> None:
    journal = Journal(SIGNER)
    bad = batch([journal.record(signer=certified("x", publish=["hg:none:**:"]))], SIGNER)
    world.welcome(info(1))

    delays = []
    for _ in range(12):
        assert world.inbox.take(bad) is None
        retry = world.journals.next_retry(world.tick)
        delays.append(retry - world.tick)
        assert world.journals.positions(retry - 0.1)[ONE] is None
        assert world.journals.positions(retry)[ONE] == 0
        world.tick = retry

    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == 300


def test_a_stop_ends_when_the_journal_moves_on(world: World) -> None:
    journal = Journal(SIGNER)
    record = journal.record()
    world.welcome(info(1))
    assert world.inbox.take(batch([record])) is None  # its certificate is missing
    assert world.row().stopped.startswith("unknown-certificate")

    assert world.inbox.take(batch([record], SIGNER)) == 1

    assert world.row().stopped is None
    assert world.journals.next_retry(world.tick) is None


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_event_in_parts_makes_one_delivery_when_the_last_part_has_come(
    world: World, cut: int
) -> None:
    journal = Journal(SIGNER)
    parts = [journal.record(parts=(number, 3)) for number in (1, 2, 3)]
    world.welcome(info(3))

    for piece in (parts[:cut], parts[cut:]):
        if piece:
            assert world.deliveries() == []
            world.inbox.take(batch(piece, SIGNER))
            world.restart()

    (item,) = world.deliveries()
    assert (item.first, item.last) == (1, 3)


def test_a_later_valid_event_frees_what_was_held(world: World) -> None:
    journal = Journal(SIGNER)
    world.welcome(info(2))
    world.inbox.take(batch([journal.record(signer=OLD)], OLD))
    assert [item.state for item in world.deliveries()] == [State.HELD]

    world.inbox.take(batch([journal.record()], SIGNER))

    assert [item.state for item in world.deliveries()] == [State.PENDING, State.PENDING]


def test_another_reader_of_the_same_store_is_noticed(world: World) -> None:
    journal = Journal(SIGNER)
    first, second = batch([journal.record()], SIGNER), batch([journal.record()], SIGNER)
    world.welcome(info(2))
    fast = Inbox(world.tools, "hg1", Journals(world.store, "hg1", "earliest"))
    fast.take(first)
    fast.take(second)

    slow = world.inbox.take(first)

    assert slow is None
    assert world.row().scanned == 2
    assert world.inbox.take(second) == 2
    assert (world.sequences(), len(world.deliveries())) == ([1, 2], 2)


# What was left out


def some_branches(world: World) -> None:
    """Only `default` is read, so that the journal's sequences are not dense for us."""
    world.tools = replace(world.tools, patterns=(Pattern.parse("hg:**:default:"),))
    world.restart()


def test_what_a_relay_left_out_is_asked_for_again_and_taken_in_order(world: World) -> None:
    # Given a relay that leaves two events out, though it says that it looked at them
    some_branches(world)
    journal = Journal(SIGNER)
    first, _, left, out, behind = (journal.record(b) for b in ("default", "x", *["default"] * 3))
    world.welcome(info(5))
    assert world.inbox.take(batch([first], SIGNER, scanned=4)) == 4
    # When the next event of the branch comes
    assert world.inbox.take(batch([behind], SIGNER)) is None
    # Then it is asked for from behind the last one of the branch; the position stays
    assert world.row().stopped.startswith("gap at sequence 5")
    assert world.journals.positions(world.tick)[ONE] is None
    world.tick = world.journals.next_retry(world.tick)
    assert world.journals.positions(world.tick)[ONE] == 1
    assert world.row().scanned == 4
    # When the first one comes, alone, then it goes on, until the next one is missed
    assert world.inbox.take(batch([left], SIGNER)) == 4
    assert world.row().stopped is None
    assert world.inbox.take(batch([behind], SIGNER)) is None
    world.tick = world.journals.next_retry(world.tick)
    assert world.journals.positions(world.tick)[ONE] == 3
    # When everything comes
    assert world.inbox.take(batch([left, out, behind], SIGNER)) == 5
    # Then all is there, once and in order
    assert world.sequences() == [1, 3, 4, 5]
    assert [item.first for item in world.deliveries()] == [1, 3, 4, 5]
    assert world.row().stopped is None
    assert world.journals.positions(world.tick)[ONE] == 5


def test_what_a_relay_keeps_back_a_person_may_let_go(world: World) -> None:
    some_branches(world)
    journal = Journal(SIGNER)
    first, _, _, behind = (journal.record(b) for b in ("default", "x", "default", "default"))
    world.welcome(info(4))
    world.inbox.take(batch([first], SIGNER))
    for _ in range(3):
        assert world.inbox.take(batch([first, behind], SIGNER)) is None
        world.tick = world.journals.next_retry(world.tick)

    (row,) = accept(world.store, Request("app", None, ONE[:4], "alice"), NOW)

    assert (row["verb"], row["sequence"]) == ("admit", 4)
    assert world.journals.decided()
    assert world.journals.positions(world.tick)[ONE] == 1
    assert world.inbox.take(batch([first, behind], SIGNER)) == 4
    assert (world.sequences(), world.row().stopped) == ([1, 4], None)


def test_nothing_is_asked_for_from_before_where_reading_began(world: World) -> None:
    world.start = "latest"
    some_branches(world)
    journal = Journal(SIGNER, sequence=7)
    world.welcome(info(7))
    journal.record()
    behind = journal.record()

    assert world.inbox.take(batch([behind], SIGNER)) is None
    world.tick = world.journals.next_retry(world.tick)

    assert world.journals.positions(world.tick)[ONE] == 7


def continued(world: World, *, read: int) -> tuple[list[Record], Record]:
    """Three events of a journal, of which some are read, and the one of another that continues."""
    old = Journal(SIGNER)
    records = [old.record() for _ in range(3)]
    last = old.last["default"]
    new = Journal(SIGNER, journal=TWO, continuing=True)
    world.welcome(info(read), info(1, TWO))
    world.inbox.take(batch(records[:read], SIGNER))
    return records, new.record(continues=Continued(ONE, last.sequence, last.sha256))


def test_the_end_of_a_closed_journal_is_asked_for_before_its_successor_goes_on(
    world: World,
) -> None:
    # Given a relay that says nothing of a journal's end, and goes on with the next journal
    records, following = continued(world, read=1)
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) is None
    # Then the next journal waits, and what is missing is named and asked for
    stopped = world.row(TWO).stopped
    assert stopped.startswith("gap at sequence 1")
    assert f"it continues {ONE}/3; sequences 2 to 3 of that journal did not come" in stopped
    assert world.journals.positions(world.tick) == {ONE: 1, TWO: None}
    # When it comes, both go on
    assert world.inbox.take(batch(records[1:], SIGNER)) == 3
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1
    assert [each.record.event_id for each in world.store.events(0, 9)] == [
        *(f"{ONE}/{number}" for number in (1, 2, 3)),
        f"{TWO}/1",
    ]
    assert world.row(TWO).stopped is None


def test_a_relay_that_claims_to_have_looked_at_the_end_is_asked_again(world: World) -> None:
    some_branches(world)
    records, following = continued(world, read=1)
    world.inbox.take(batch([], scanned=3))
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) is None
    assert "though the relay looked up to 3" in world.row(TWO).stopped

    world.tick = world.journals.next_retry(world.tick)

    assert world.journals.positions(world.tick) == {ONE: 1, TWO: 0}
    assert world.inbox.take(batch(records[1:], SIGNER)) == 3
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1
    assert world.journals.positions(world.tick) == {ONE: 3, TWO: 1}


def test_an_event_that_comes_late_and_lacks_another_one_is_asked_for_again(world: World) -> None:
    # Given a relay that leaves out the end of a journal and the first event of the next one
    some_branches(world)
    records, following = continued(world, read=1)
    world.inbox.take(batch([], scanned=3))
    world.inbox.take(batch([], scanned=1, journal=TWO))
    # When it tells the second of them
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) is None
    # Then both are asked for
    world.tick = world.journals.next_retry(world.tick)
    assert world.journals.positions(world.tick) == {ONE: 1, TWO: 0}
    # and when they come, all is well
    assert world.inbox.take(batch(records[1:], SIGNER)) == 3
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1
    assert world.row(TWO).stopped is None
    assert world.journals.positions(world.tick) == {ONE: 3, TWO: 1}


def test_the_end_of_a_journal_at_another_relay_counts_when_it_is_stored(world: World) -> None:
    records, following = continued(world, read=1)
    second = Journals(world.store, "hg2", "latest")
    other = Inbox(world.tools, "hg2", second)
    second.welcome([info(1, TWO)], NOW)

    assert other.take(batch([following], SIGNER, journal=TWO)) is None
    assert second.positions(world.tick) == {TWO: None}
    world.inbox.take(batch(records[1:], SIGNER))

    assert other.take(batch([following], SIGNER, journal=TWO)) == 1


def test_the_pruned_end_of_a_journal_is_not_missing(world: World) -> None:
    _, following = continued(world, read=1)
    (alarm,) = world.journals.heads([JournalInfo(ONE, "app", 4, 3, closed=True)], NOW)

    assert (alarm.kind, alarm.repo, alarm.next) == ("pruned", "app", "audit app")
    assert "events 2 to 3" in alarm.text
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1


@pytest.mark.parametrize("start", ["latest", 60.0])
def test_what_is_continued_may_stand_before_where_reading_began(world: World, start) -> None:
    old, new = Journal(SIGNER), Journal(SIGNER, journal=TWO, continuing=True)
    old.record()
    world.start = start
    world.restart()
    world.welcome(info(1))
    world.journals.heads([info(1, TWO)], NOW)
    last = old.last["default"]
    following = new.record(continues=Continued(ONE, last.sequence, last.sha256))

    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1


def test_a_valid_event_frees_what_was_held_in_the_journals_before_its_own(world: World) -> None:
    three = "3" * 32
    world.welcome(info(1), info(2, TWO), info(1, three))
    last = None
    for name in (ONE, TWO):
        journal = Journal(SIGNER, journal=name, continuing=last is not None)
        records = [journal.record(signer=OLD, continues=last)]
        world.inbox.take(batch(records, OLD, journal=name))
        last = Continued(name, 1, journal.last["default"].sha256)
    assert {item.state for item in world.deliveries()} == {State.HELD}

    new = Journal(SIGNER, journal=three, continuing=True)
    world.inbox.take(batch([new.record(continues=last)], SIGNER, journal=three))

    assert [item.state for item in world.deliveries()] == [State.PENDING] * 3
    assert world.store.held() == []


def forget(world: World) -> None:
    """Everything that can be: what is to be done of it was done."""
    names = [item.id for item in world.deliveries()]
    world.store.bury(names, "given up", NOW)
    while world.store.prune(NOW + 1, 100):
        pass
    assert world.store.events(0, 9) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_journal_goes_on_behind_events_that_were_forgotten(world: World, restarted) -> None:
    # Given a journal whose events were all forgotten
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record("b"), journal.record()]
    world.welcome(info(9))
    assert world.inbox.take(batch(records, SIGNER)) == 3
    forget(world)
    if restarted:
        world.restart()
        world.welcome(info(9))

    # When the next ones come, on each branch
    following = [journal.record("b"), journal.record(), journal.record("new")]

    # Then they are taken, and an event that is missing between is still found to be
    assert world.inbox.take(batch(following, SIGNER)) == 6
    assert (world.sequences(), world.row().stopped) == ([4, 5, 6], None)
    journal.record()
    assert world.inbox.take(batch([journal.record()], SIGNER)) is None
    assert world.row().stopped.startswith("gap at sequence 8")


def test_a_forgotten_event_that_is_sent_again_does_nothing(world: World) -> None:
    journal = Journal(SIGNER)
    records = [journal.record(), journal.record()]
    world.welcome(info(9))
    world.inbox.take(batch(records, SIGNER))
    forget(world)

    assert world.inbox.take(batch([*records, journal.record()], SIGNER)) == 3

    assert world.sequences() == [3]
    assert [item.last for item in world.deliveries()] == [3]


def test_an_event_that_comes_when_later_ones_are_forgotten_is_warned_of(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an event that the relay left out, and later ones that were forgotten since
    world.tools = replace(
        world.tools, patterns=tuple(Pattern.parse(f"hg:**:{name}:") for name in ("default", "b"))
    )
    world.restart()
    journal = Journal(SIGNER)
    first, late, last = (journal.record(name) for name in ("default", "b", "default"))
    world.welcome(info(3))
    assert world.inbox.take(batch([first, last], SIGNER)) == 3
    forget(world)
    made = world.counters.get("stored")
    # When it comes after all
    assert world.inbox.take(batch([late], SIGNER)) == 3
    # Then it does nothing, and a warning says so
    assert (world.deliveries(), world.counters.get("stored")) == ([], made)
    (line,) = [each for each in caplog.records if "too late" in each.message]
    about = line.fields
    assert (line.levelno, about["repo"], about["journal"]) == (logging.WARNING, "app", ONE)
    assert (about["sequences"], about["pruned"]) == ("2..2", 3)
    assert "`keep`" in about["hint"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_journal_continues_one_whose_events_were_forgotten(world: World, restarted) -> None:
    _, following = continued(world, read=3)
    forget(world)
    if restarted:
        world.restart()
        world.welcome(info(3), info(1, TWO))

    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1

    assert world.row(TWO).stopped is None


def test_a_journal_that_continues_other_bytes_than_those_forgotten_is_a_fork(world: World) -> None:
    continued(world, read=3)
    forget(world)
    forged = Journal(SIGNER, journal=TWO, continuing=True)

    following = forged.record(continues=Continued(ONE, 3, "ab" * 32))
    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) is None

    assert world.row(TWO).stopped.startswith("fork at sequence 1")


def test_what_is_continued_may_be_older_than_the_newest_that_was_forgotten(world: World) -> None:
    # Given a repository whose newest transaction was undone
    old, new = Journal(SIGNER), Journal(SIGNER, journal=TWO, continuing=True)
    records = [old.record()]
    last = old.last["default"]
    world.welcome(info(2), info(1, TWO))
    world.inbox.take(batch([*records, old.record()], SIGNER))
    forget(world)

    following = new.record(continues=Continued(ONE, last.sequence, last.sha256))

    assert world.inbox.take(batch([following], SIGNER, journal=TWO)) == 1


def test_other_bytes_at_a_known_place_are_a_fork(world: World) -> None:
    world.welcome(info(1))
    world.inbox.take(batch([Journal(SIGNER).record()], SIGNER))

    position = world.inbox.take(batch([Journal(SIGNER).record(origin="catchup")], SIGNER))

    assert position is None
    assert world.row().stopped.startswith("fork at sequence 1")


def test_events_of_a_journal_that_was_never_introduced_end_the_session(world: World) -> None:
    with pytest.raises(Refused, match="unknown-journal"):
        world.inbox.take(batch([], scanned=4))


def test_a_relay_cannot_name_journals_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subscriber.intake.journals.MAX_JOURNALS", 2)
    infos = [info(1, f"{number:032x}", repo=f"r{number}") for number in range(3)]

    with pytest.raises(Refused, match="too-many"):
        world.welcome(*infos)

    assert world.store.journals() == []
    world.welcome(*infos[:2])
    with pytest.raises(Refused, match="too-many"):
        world.journals.heads(infos[2:], NOW)


def test_a_journal_that_lost_its_end_or_its_beginning_is_told(world: World) -> None:
    world.welcome(info(9))
    world.inbox.take(batch([], scanned=9))

    (lost_end,) = world.journals.heads([info(5)], NOW)
    (pruned,) = world.journals.heads([info(40, first=30)], NOW)

    assert "ends at sequence 5, but was read up to 9" in lost_end.text
    assert "events 10 to 29" in pruned.text


def test_what_was_pruned_is_no_gap(world: World) -> None:
    journal = Journal(SIGNER)
    first = journal.record()
    world.welcome(info(1))
    world.inbox.take(batch([first], SIGNER))
    journal.record()
    late = journal.record()

    world.journals.heads([info(3, first=3)], NOW)

    assert world.inbox.take(batch([late], SIGNER)) == 3


def test_a_gap_of_a_branch_met_for_the_first_time_is_seen_after_reading_by_age(
    world: World,
) -> None:
    world.start = 60.0
    world.restart()
    journal = Journal(SIGNER)
    for _ in range(3):
        journal.record("default")
    world.welcome(info(6))
    world.inbox.take(batch([journal.record("default")], SIGNER))
    journal.record("stable")  # withheld
    withheld = journal.record("stable")

    assert world.inbox.take(batch([withheld], SIGNER)) is None
    assert world.row().stopped.startswith("gap at sequence 6")


def test_a_successor_is_checked_against_the_journals_before_it_only(world: World) -> None:
    old, new = Journal(SIGNER), Journal(SIGNER, journal=TWO)
    world.welcome(info(1), info(1, TWO))

    assert world.inbox.take(batch([old.record()], SIGNER)) == 1
    assert world.inbox.take(batch([new.record()], SIGNER, journal=TWO)) is None
    assert world.row(TWO).stopped.startswith("unfit-journal")


def test_a_journal_that_ends_before_what_was_read_is_held_until_it_does_not(world: World) -> None:
    world.start = "latest"
    world.restart()
    world.welcome(info(9))
    ended = JournalInfo(ONE, "app", 1, 5, closed=True)

    # When it ends before, then it is held, which is said once, and not asked for
    (alarm,) = world.journals.heads([info(5)], NOW)
    assert (alarm.kind, alarm.repo, alarm.next) == ("beyond-head", "app", "audit app")
    assert world.journals.heads([info(6)], NOW) == []
    assert world.row().stopped.startswith("beyond-head")
    assert world.journals.positions(0.0) == {ONE: None}
    assert world.journals.next_retry(0.0) is None
    # and goes on when it is as long again, or has ended because another one took over
    for again in (info(9), ended):
        world.journals.heads([info(5)], NOW)
        world.restart()
        assert world.journals.positions(0.0) == {ONE: None}
        assert world.journals.heads([again], NOW) == []
        assert world.row().stopped is None
        assert world.journals.positions(0.0) == {ONE: 9}


def test_a_name_that_another_relay_serves_is_read_from_its_beginning(world: World) -> None:
    three = "3" * 32
    world.welcome(info(9))
    second = Journals(world.store, "hg2", "latest")

    second.welcome([info(3, TWO), info(3, three, repo="b")], NOW)

    assert second.positions(0.0) == {TWO: 0, three: 3}
    assert second.known(TWO).others == {ONE}
    assert second.known(three).others == frozenset()


def test_an_event_that_a_person_admits_is_taken_although_it_does_not_fit(world: World) -> None:
    # Given a second journal of a repository, which continues nothing
    journal = Journal(SIGNER, journal=TWO)
    records = [journal.record(), journal.record()]
    world.welcome(info(0), info(2, TWO))
    assert world.inbox.take(batch(records, SIGNER, journal=TWO)) is None
    assert world.row(TWO).stopped.startswith("unfit-journal at sequence 1")
    assert not world.journals.decided()
    # When its first event is admitted
    world.store.decide(
        Decision(at=NOW, who="alice", verb="admit", journal=TWO, branch=None, sequence=1)
    )
    # Then it goes on at once
    assert world.journals.decided()
    assert world.journals.positions(world.tick)[TWO] == 0
    assert world.inbox.take(batch(records, SIGNER, journal=TWO)) == 2
    assert world.row(TWO).stopped is None


def test_a_person_vouches_for_what_a_revoked_certificate_signed_until_then(world: World) -> None:
    # Given a journal of three events, whose signer is revoked after the first one was stored
    journal = Journal(SIGNER)
    records = [journal.record() for _ in range(3)]
    world.welcome(info(3))
    assert world.inbox.take(batch(records[:1], SIGNER)) == 1
    entry = Revoked(int(NOW), jti="publisher")
    keyring = Keyring([ROOT.public], revocations=[issue(ROOT, 1, [entry], int(NOW))])
    world.tools = replace(world.tools, keyring=keyring)
    world.inbox = Inbox(world.tools, "hg1", world.journals)
    assert world.inbox.take(batch(records, SIGNER)) is None
    assert world.row().stopped.startswith("revoked at sequence 2: the certificate publisher of")
    assert world.counters.get("refused", "revoked") == 1
    # When a person accepts it, while the relay tells of three events
    (row,) = accept(world.store, Request("app", None, ONE, "alice"), NOW)
    # Then those are taken, after a restart too
    assert (row["verb"], row["sequence"]) == ("vouch", 3)
    assert world.journals.decided()
    world.restart()
    assert world.inbox.take(batch(records, SIGNER)) == 3
    assert (world.row().stopped, len(world.deliveries())) == (None, 3)
    # And what is signed later is not
    assert world.inbox.take(batch([journal.record()], SIGNER)) is None
    assert world.row().stopped.startswith("revoked at sequence 4")


# Where reading began


def test_a_beginning_that_was_kept_back_is_noticed_after_a_restart_too(world: World) -> None:
    journal = Journal(SIGNER)
    world.welcome(info(3))
    seen, kept_back, last = journal.record(), journal.record("new"), journal.record("new")
    world.inbox.take(batch([seen], SIGNER, scanned=kept_back.sequence))
    world.restart()
    world.welcome(info(3))

    assert world.inbox.take(batch([last], SIGNER)) is None
    assert world.row().stopped.startswith("gap at sequence 3")


@pytest.mark.parametrize("start", ["latest", 3600.0])
def test_where_reading_began_stays_the_same(world: World, start) -> None:
    """What stands before it was never asked for; what stands behind it may not be missing."""
    journal = Journal(SIGNER)
    journal.record("old")
    world.start = start
    world.restart()
    world.welcome(info(1))
    before, here, after = journal.record(), journal.record("old"), journal.record("new")
    for record in (before, here):
        assert world.inbox.take(batch([record], SIGNER)) == record.sequence
        world.restart()
        world.welcome(info(3))
    last = journal.record("new")

    assert (world.row().origin, world.row().scanned) == (1, 3)
    assert world.inbox.take(batch([last], SIGNER)) is None, f"{after.sequence} is missing"


def test_a_branch_that_is_asked_for_again_goes_on_behind_what_was_not(world: World) -> None:
    journal = Journal(SIGNER)
    world.follow("hg:**:**:")
    world.welcome(info(4))
    first, unasked, other = journal.record(), journal.record(), journal.record("other")
    world.inbox.take(batch([first], SIGNER))
    # Given that the patterns leave out `default` for a while
    world.follow("hg:**:other:")
    world.welcome(info(4))
    assert world.inbox.take(batch([other], SIGNER)) == 3
    # When they name it again
    world.follow("hg:**:**:")
    world.welcome(info(4))
    # Then its next event is taken although it follows one that was not asked for, but only then
    journal_at = batch([journal.record()], SIGNER)
    assert world.inbox.take(journal_at) == 4
    journal.record()
    assert world.inbox.take(batch([journal.record()], SIGNER)) is None
    assert unasked.sequence == 2


def test_who_reads_by_older_rules_passes_nothing_over(world: World) -> None:
    journal = Journal(SIGNER)
    world.follow("hg:**:other:")
    world.welcome(info(2))
    # When another daemon of the store wants more
    world.store.follow("what the other one reads")
    # Then this one does not say that it has looked at what it did not ask for
    journal.record()
    with pytest.raises(OtherScope):
        world.inbox.take(batch([journal.record("other")], SIGNER))
    assert world.row().scanned in {None, 0}
    assert world.notified == 0


def test_what_was_pruned_excuses_nothing_that_was_read(world: World) -> None:
    """A relay that keeps an event back cannot say later that it was pruned."""
    journal = Journal(SIGNER)
    world.welcome(info(4))
    first, kept_back = journal.record(), journal.record()
    world.inbox.take(batch([first], SIGNER, scanned=kept_back.sequence))

    world.journals.heads([info(4, first=3)], NOW)

    assert world.inbox.take(batch([journal.record()], SIGNER)) is None
    assert world.row().stopped.startswith("gap at sequence 3")


def test_behind_what_was_pruned_unread_reading_begins_anew(world: World) -> None:
    journal = Journal(SIGNER)
    world.welcome(info(5))
    first, _, _, fourth = (journal.record() for _ in range(4))
    world.inbox.take(batch([first], SIGNER))

    (alarm,) = world.journals.heads([info(5, first=4)], NOW)

    assert (alarm.kind, alarm.repo, alarm.next) == ("pruned", "app", "audit app")
    assert "events 2 to 3" in alarm.text
    assert world.inbox.take(batch([fourth], SIGNER)) == 4
    assert world.row().origin == 3


def test_a_journal_that_another_relay_told_of_must_be_introduced_by_this_one(
    world: World,
) -> None:
    """Else a relay could end the daemon with a batch that begins where we do not stand."""
    journal = Journal(SIGNER)
    world.welcome(info(2))
    world.inbox.take(batch([journal.record()], SIGNER))
    other = Inbox(world.tools, "hg2", Journals(world.store, "hg2", "earliest"))

    with pytest.raises(Refused, match="never told of"):
        other.take(batch([journal.record()], SIGNER))


def test_the_scope_is_what_is_asked_for_and_what_may_be_read(world: World) -> None:
    one, two = Pattern.parse("hg:a:**:"), Pattern.parse("hg:b:**:")
    scopes = [
        replace(world.tools, patterns=patterns, allowed=allowed).scope
        for patterns, allowed in (((one, two), ()), ((two, one), ()), ((one,), (two,)))
    ]

    assert scopes[0] == scopes[1] != scopes[2]


def test_live_events_have_a_line_each_and_a_long_batch_has_one_for_all(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zmqhooks.intake")
    journal = Journal(SIGNER)
    world.welcome(info(2 * LIVE + 1))

    world.inbox.take(batch([journal.record() for _ in range(LIVE)], SIGNER))
    world.inbox.take(batch([journal.record() for _ in range(LIVE + 1)], SIGNER))

    said = [each for each in caplog.records if "stored" in each.message]
    assert [each.message for each in said] == ["event stored"] * LIVE + ["events stored"]
    assert said[-1].fields == {
        "repo": "app",
        "sequences": f"{LIVE + 1}..{2 * LIVE + 1}",
        "count": LIVE + 1,
        "journal": ONE,
    }
