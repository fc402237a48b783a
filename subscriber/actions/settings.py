"""What a rule may say of its action: one of the keys in `ACTIONS`, each with a form of its own.

exec: ["./build.sh", "-v"]            # the command and its arguments
"""

from collections.abc import Iterator

ACTIONS = ("exec",)
"""The keys of a rule, of which it has exactly one."""

Said = tuple[str, ...]
"""What stands under such a key."""

Wrong = tuple[str, object, str, str]
"""A mistake: key, value, reason, hint."""


def wrong_action(key: str, said: Said) -> Iterator[Wrong]:
    """What is wrong with an action; keys begin with its own."""
    if not said or not said[0]:
        yield key, list(said), "names no command", 'write exec: ["./build.sh"]'
    if any("\0" in word for word in said):
        yield key, list(said), "holds a NUL character", "take it out"
