"""What a relay leaves out may come late, and never out of order, twice, or not at all unnoticed."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from signing import KEYRING, NOW, Journal, batch, certified

from hgext_zmqhooks.service.metrics import Counters
from hgext_zmqhooks.wire.session import JournalInfo, Record
from hgext_zmqhooks.wire.topics import Pattern
from hgext_zmqhooks.wire.values import Continued
from subscriber.intake.inbox import Inbox, Tools
from subscriber.intake.journals import Journals
from subscriber.store.memory import MemoryStore

SIGNER = certified("publisher")
IDS = ("1" * 32, "2" * 32, "3" * 32)
ALL, SOME = Pattern.parse("hg:**:**:"), Pattern.parse("hg:**:a:")
Place = tuple[str, int]

histories = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=len(IDS))
lies = st.lists(st.sets(st.tuples(st.sampled_from(IDS), st.integers(1, 5))), max_size=6)


class Written:
    """Journals that continue each other: `told` holds (branch, event) by journal, in order."""

    def __init__(self) -> None:
        self.told: dict[str, list[tuple[str, Record]]] = {}
        self._last: dict[str, Continued] = {}

    def begin(self, name: str) -> None:
        self._journal = Journal(SIGNER, journal=name, continuing=bool(self.told))
        self.told[name] = []

    def add(self, branch: str) -> None:
        mine = self._journal
        continues = self._last.get(branch) if branch not in mine.last else None
        self.told[mine.journal].append((branch, mine.record(branch, continues=continues)))
        link = mine.last[branch]
        self._last[branch] = Continued(mine.journal, link.sequence, link.sha256)


def written(histories: list[str]) -> Written:
    """A journal for each history, with an event on the branch that each of its letters names."""
    made = Written()
    for name, history in zip(IDS, histories, strict=False):
        made.begin(name)
        for branch in history:
            made.add(branch)
    return made


class Reader:
    """An intake, and the relay that it follows, which leaves out what it is told to."""

    def __init__(self, told: dict[str, list[tuple[str, Record]]], pattern: Pattern) -> None:
        self.told, self.pattern, self.tick = told, pattern, 0.0
        self.store = MemoryStore()
        tools = Tools(
            store=self.store,
            keyring=KEYRING,
            patterns=(pattern,),
            match=lambda _parts, _now: (),
            counters=Counters(),
            notify=lambda: None,
            clock=lambda: NOW,
            tick=lambda: self.tick,
            allowed=(ALL,),
        )
        self.journals = Journals(self.store, "hg1", "earliest")
        self.inbox = Inbox(tools, "hg1", self.journals)
        infos = [JournalInfo(name, "app", 1, len(all_)) for name, all_ in told.items()]
        self.journals.welcome(infos, NOW)

    def wanted(self, name: str) -> list[Record]:
        pairs = self.told[name]
        return [one for branch, one in pairs if self.pattern.matches(f"hg:app:{branch}:")]

    def follow(self, dropped: set[Place]) -> bool:
        """One FOLLOW and what it brings, up to the first journal that stops; whether one did."""
        positions = self.journals.positions(self.tick)
        for name, pairs in self.told.items():
            position = positions[name]
            if not isinstance(position, int) or position >= len(pairs):
                continue
            records = [
                one
                for one in self.wanted(name)
                if one.sequence > position and (name, one.sequence) not in dropped
            ]
            given = batch(records, SIGNER, journal=name, scanned=len(pairs))
            if self.inbox.take(given) is None:
                return True
        return False

    def retry(self) -> bool:
        """Wait until the next stopped journal is asked for; False: there is none."""
        due = self.journals.next_retry(self.tick)
        self.tick = self.tick if due is None else due
        return due is not None

    def stored(self) -> Iterator[tuple[str, Place]]:
        for event in self.store.events(0, 1000):
            yield event.record.branch, (event.record.journal, event.record.sequence)


@settings(deadline=None)
@given(histories, lies, st.sampled_from([ALL, SOME]))
def test_what_was_left_out_comes_in_order_or_is_missed(
    histories: list[str], lies: list[set[Place]], pattern: Pattern
) -> None:
    """Each branch is a prefix of what happened, and all of it once an event behind it is told."""
    journals = written(histories)
    reader = Reader(journals.told, pattern)
    for dropped in lies:
        reader.follow(dropped)
        reader.retry()
        check_order(reader)

    # Told the truth behind it all, the reader has everything after a while
    for branch in "abc":
        journals.add(branch)
    for _ in range(4 * len(IDS)):
        while reader.follow(set()):
            pass
        if not reader.retry():
            break
    check_order(reader)
    assert not any(row.stopped for row in reader.store.journals())
    wanted = {(name, one.sequence) for name in reader.told for one in reader.wanted(name)}
    assert {place for _, place in reader.stored()} == wanted


def check_order(reader: Reader) -> None:
    """What is stored of a branch is how it began, in order."""
    for branch in "abc":
        happened = [
            (name, one.sequence)
            for name, pairs in reader.told.items()
            for its, one in pairs
            if its == branch
        ]
        stored = [place for its, place in reader.stored() if its == branch]
        assert stored == happened[: len(stored)]
