"""What a store's record must say when all work is done.

skipped     events of a journal that are not stored, or have no delivery
doubled     events with two deliveries of a rule, or deliveries with two receipts "done"
unfinished  deliveries that are not done
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from subscriber.store.base import MAX_LIST, OPEN, Delivery, Reader, State, StoredEvent, Wanted

__all__ = ["BAD", "OPEN", "judge"]

BAD = ("skipped", "doubled", "unfinished")


def judge(store: Reader, journals: Mapping[str, int]) -> Counter[str]:
    """`journals`: how many events each repository has. One rule takes all of them."""
    count = Counter(dict.fromkeys(BAD, 0))
    stored = defaultdict[str, list[int]](list)
    for event in _events(store):
        stored[event.record.repo].append(event.record.sequence)
    made = Counter[tuple[str, int]]()
    for item in _deliveries(store):
        made[item.repo, item.last] += 1
        count["unfinished"] += item.state is not State.DONE
        verdicts = [receipt.outcome.verdict for receipt in store.receipts(item.id)]
        count["doubled"] += max(0, verdicts.count("done") - 1)
        count.update(f"attempts {verdict}" for verdict in verdicts)
    for repo, events in journals.items():
        places = Counter(stored[repo])
        count["skipped"] += sum(places[one] == 0 for one in range(1, events + 1))
        count["skipped"] += sum(made[repo, one] == 0 for one in range(1, events + 1))
        count["doubled"] += sum(times - 1 for times in places.values())
    count["doubled"] += sum(times - 1 for times in made.values())
    return count


def _events(store: Reader) -> Iterator[StoredEvent]:
    found = store.events(0, MAX_LIST)
    while found:
        yield from found
        found = store.events(found[-1].number, MAX_LIST)


def _deliveries(store: Reader) -> Iterator[Delivery]:
    found = store.deliveries(Wanted(), MAX_LIST)
    while found:
        yield from found
        found = store.deliveries(Wanted(after=found[-1].number), MAX_LIST)
