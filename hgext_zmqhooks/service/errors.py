"""What can be wrong with what an operator gave us, and how a command ends.

Every command ends with one of `EXIT`. An error says what is wrong in its first line and what to do
about it in a second one, the hint:

    zmq-relay: /etc/zmqhooks/relay.yml: publlsh: unknown key
    hint: did you mean "publish"?
"""

import enum
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

# Who wrote a password into an address shall not find it in a log as well. It may hold a slash or a
# blank, and stand where other programs take it.
_SECRET = re.compile(r"""(?<=[^/]//)(?!/)(?:\S*|[^'"]*)(?=@)|(?<=[?&]password=)[^&\s'"]+""")


def without_secret(address: str) -> str:
    """An address, in which … stands for user and password.

    >>> without_secret("redis://u:a/b@host/0"), without_secret("unix:///s.sock?password=ab&db=1")
    ('redis://…@host/0', 'unix:///s.sock?password=…&db=1')
    """
    return _SECRET.sub("…", address)


class EXIT(enum.IntEnum):
    """Exit statuses of every command; 69 and 78 are those of sysexits.h."""

    OK = 0
    PROBLEM = 1
    USAGE = 2
    UNREACHABLE = 69
    CONFIG = 78


class ServiceError(Exception):
    """The root of all errors that a command reports to its user.

    `hint` says what to do, naming the key or the command; `status` is how the command ends.
    """

    status = EXIT.PROBLEM

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unreachable(ServiceError):  # noqa: N818 - a finding, read as a sentence
    """The other side does not answer."""

    status = EXIT.UNREACHABLE


class ConfigError(ServiceError):
    """A setting is wrong: `file: key: value: reason`.

    `key` is the path inside the file, such as `rules[0].exec`; empty when the file as a whole is
    meant. `value` is shown as written, None when there is none to show.

    >>> str(ConfigError("r.yml", "relay.group", "nobdy", "no such group"))
    "r.yml: relay.group: 'nobdy': no such group"
    """

    status = EXIT.CONFIG

    def __init__(
        self,
        file: str | Path,
        key: str,
        value: object,
        reason: str,
        hint: str = "",
    ) -> None:
        shown = None if value is None else _shown(value)
        parts = [str(file), key, shown, reason]
        super().__init__(": ".join(part for part in parts if part), hint=hint)
        self.file = str(file)
        self.key = key
        self.value = value
        self.reason = reason


def _shown(value: object) -> str:
    text = without_secret(repr(value))
    return text if len(text) <= 200 else text[:200] + "…"


def run(main: Callable[[], int]) -> int:
    """Run a command's body and return its exit status; a ServiceError becomes text on stderr.

    Anything else that is raised is a defect and keeps its traceback.
    """
    try:
        status = main()
        sys.stdout.flush()
    except ServiceError as error:
        print_error(error)
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Python would complain again when
        # it flushes at exit, so stdout is pointed elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT.PROBLEM
    return status


def print_error(error: ServiceError) -> None:
    """The error and its hint, as the user of a command sees them."""
    program = Path(sys.argv[0]).name
    sys.stderr.write(f"{program}: {error}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
