"""What a store raises: one root, and the two verdicts of `accept`."""

from hgext_zmqhooks.service.errors import ServiceError


class StoreError(ServiceError):
    """The store could not do it; nothing of the call was done.

    `file` names the store, `reason` what went wrong, `hint` what an operator can do about it.
    """

    def __init__(self, file: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{file}: {reason}", hint=hint)
        self.file = file
        self.reason = reason


class NoStore(StoreError):  # noqa: N818 - what there is
    """There is none yet: the daemon makes it when it starts first."""

    def __init__(self, file: str) -> None:
        hint = "the daemon makes it when it starts first"
        super().__init__(file, "there is no such store yet", hint)


class Conflict(StoreError):  # noqa: N818 - a verdict, read as a sentence
    """Somebody else moved this journal's position; read the journal's row again.

    `position` is where it stands now.
    """

    def __init__(self, file: str, journal: str, expected: int | None, position: int | None) -> None:
        super().__init__(
            file, f"journal {journal} stands at {position}, the batch begins at {expected}"
        )
        self.journal = journal
        self.position = position


class OtherScope(StoreError):  # noqa: N818 - a verdict, read as a sentence
    """Somebody else said since that something else is read; see `Store.follow`."""

    def __init__(self, file: str) -> None:
        super().__init__(
            file,
            "another daemon that shares it reads other topics since",
            "give all daemons of a fleet the same rules",
        )


class Fork(StoreError):  # noqa: N818 - a verdict, read as a sentence
    """The same place in a journal holds other bytes than those stored: history was rewritten."""

    def __init__(self, file: str, journal: str, sequence: int, stored: str, received: str) -> None:
        super().__init__(
            file,
            f"event {journal}/{sequence} has SHA-256 {stored} here and {received} there",
            "was the repository restored or copied? Compare it with `hg events --verify`",
        )
        self.journal = journal
        self.sequence = sequence
        self.stored = stored
        self.received = received
