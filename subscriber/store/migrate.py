"""The forms of the SQLite schema, and the statements over it, as texts.

`schema.sql` is the whole newest form. A database made by an older version is changed step by step
by `migrate-2.sql`, `migrate-3.sql` and so on; `PRAGMA user_version` says where it stands. Each
step is one transaction, so that a crash leaves the old form or the new one. A test proves that
a migrated database equals a fresh one.
"""

import re
from functools import cache
from importlib import resources

VERSION = 6


def text(name: str) -> str:
    """The text of an SQL file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def queries() -> dict[str, str]:
    """The statements of queries.sql, by the name that stands above each."""
    parts = re.split(r"^-- name: (\w+)\n", text("queries.sql"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def steps(version: int) -> list[str]:
    """Scripts that bring a database of this version to VERSION, in order; 0: an empty one."""
    if version == 0:
        return [_script("schema.sql", VERSION)]
    return [_script(f"migrate-{to}.sql", to) for to in range(version + 1, VERSION + 1)]


def _script(name: str, version: int) -> str:
    return f"BEGIN IMMEDIATE;\n{text(name)}\nPRAGMA user_version = {version};\nCOMMIT;"
