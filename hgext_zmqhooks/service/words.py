"""Words for people. Nothing but the standard library is needed: hg uses them, too."""


def counted(number: int, thing: str) -> str:
    """A number and its noun, whose first word has a plural with s.

    >>> counted(1, "event"), counted(2, "journal"), counted(0, "changeset without an event")
    ('1 event', '2 journals', '0 changesets without an event')
    """
    first, *rest = thing.split(" ")
    return " ".join([str(number), first if number == 1 else f"{first}s", *rest])
