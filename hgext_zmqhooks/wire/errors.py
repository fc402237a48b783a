"""What the wire says when something from outside is not as it must be.

One root, `Refused`. Its `kind` is a short slug that counters and logs use, so that an operator can
grep for it and a test can assert it; `detail` says what was seen, without secrets.
"""


class Refused(ValueError):  # noqa: N818 - a verdict about the peer, read as a sentence
    """Something that came from outside was refused; nothing of it was used.

    `kind`: slug such as "bad-signature" (see the reference of counters in the docs).
    `detail`: what was seen and what was expected, for a person.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"
