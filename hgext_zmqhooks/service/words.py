"""Words for people. Nothing but the standard library is needed: hg uses them, too."""


def counted(number: int, thing: str) -> str:
    """A number and its noun, whose first word has a plural with s, or with ies for y.

    >>> counted(1, "event"), counted(2, "delivery"), counted(0, "changeset without an event")
    ('1 event', '2 deliveries', '0 changesets without an event')
    """
    first, *rest = thing.split(" ")
    if number != 1:
        first = f"{first[:-1]}ies" if first.endswith("y") else f"{first}s"
    return " ".join([str(number), first, *rest])
