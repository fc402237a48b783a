"""What a rule may say of its action: one of the keys in `ACTIONS`, each with a form of its own.

    exec: ["./build.sh", "-v"]            # the command and its arguments, or with more to say:
    exec:
      command: ["./build.sh", "-v"]
      directory: work                     # where it runs; default: the folder of the file
      user: ci                            # who runs it, where the daemon runs as root
      environment: {pass: [HTTPS_PROXY], set: {MODE: full}}
      limits: {memory: 2GiB, cpu: 10m, files: 1024, processes: 64}
    webhook: {url: …}                     # see webhook_settings
    redis: {url: …, stream: …}            # see redis_settings

Whatever can be seen in the file alone is found wrong here; what depends on the host, in `make`.
"""

import re
from collections.abc import Iterator

from msgspec import field

from hgext_zmqhooks.service.config import Duration, Frozen, Size

from .redis_settings import RedisSettings, wrong_redis
from .webhook_settings import WebhookSettings, wrong_webhook
from .wrong import Wrong

ACTIONS = ("exec", "webhook", "redis")
"""The keys of a rule, of which it has exactly one."""

MAX_CPU = 7 * 86400

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


class Environment(Frozen, frozen=True):
    """What a command sees beside the usual: names handed on from the daemon, and values."""

    passed: tuple[str, ...] = field(default=(), name="pass")
    set: dict[str, str] = field(default_factory=dict)


class Limits(Frozen, frozen=True):
    """Of each process: `memory` (address space), `cpu` time, open `files`; `processes` of its user.

    None: as the daemon itself was started.
    """

    memory: Size | None = None
    cpu: Duration | None = None
    files: int | None = None
    processes: int | None = None


class ExecSettings(Frozen, frozen=True):
    """A command, without a shell, and what it runs with."""

    command: tuple[str, ...]
    directory: str = "."
    user: str | None = None
    environment: Environment = Environment()
    limits: Limits = Limits()


Written = tuple[str, ...] | ExecSettings
"""What stands under `exec`."""

Said = Written | WebhookSettings | RedisSettings
"""What stands under a key of `ACTIONS`."""


def whole(said: Written) -> ExecSettings:
    """The full form of what was said.

    >>> whole(("true",)) == ExecSettings(command=("true",))
    True
    """
    return ExecSettings(command=said) if isinstance(said, tuple) else said


def wrong_action(key: str, said: Said) -> Iterator[Wrong]:
    """What is wrong with an action; keys begin with its own."""
    if isinstance(said, WebhookSettings):
        found = wrong_webhook(said)
    elif isinstance(said, RedisSettings):
        found = wrong_redis(said)
    else:
        yield from _wrong_command(key if isinstance(said, tuple) else f"{key}.command", whole(said))
        found = _wrong_exec(whole(said))
    for part, value, reason, hint in found:
        yield f"{key}.{part}", value, reason, hint


def _wrong_command(key: str, said: ExecSettings) -> Iterator[Wrong]:
    if not said.command or not said.command[0]:
        yield key, list(said.command), "names no command", 'write exec: ["./build.sh"]'
    if any("\0" in word for word in said.command):
        yield key, list(said.command), "holds a NUL character", "take it out"


def _wrong_exec(said: ExecSettings) -> Iterator[Wrong]:
    if not said.directory or "\0" in said.directory:
        yield "directory", said.directory, "not a path", "leave it out for the folder of the file"
    for key, names in (("pass", said.environment.passed), ("set", said.environment.set)):
        for name in names:
            yield from _wrong_variable(f"environment.{key}", name)
    for name, value in said.environment.set.items():
        if "\0" in value:
            yield f"environment.set.{name}", value, "holds a NUL character", "take it out"
    limits = said.limits
    for name, number in (("memory", limits.memory), ("files", limits.files)):
        if number is not None and number < 1:
            yield f"limits.{name}", number, "not at least 1", "leave it out for no limit of its own"
    if limits.processes is not None and limits.processes < 1:
        yield "limits.processes", limits.processes, "not at least 1", "the command itself is one"
    if limits.cpu is not None and not 1 <= limits.cpu <= MAX_CPU:
        yield "limits.cpu", limits.cpu, "not between 1s and 7d", "write for example 10m"


def _wrong_variable(key: str, name: str) -> Iterator[Wrong]:
    if not _VARIABLE.fullmatch(name):
        yield key, name, "not the name of a variable", "letters, digits and _ only"
    elif name.startswith("ZMQHOOKS_"):
        yield key, name, "is told by the event", "take another name"
