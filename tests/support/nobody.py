"""Tests about rights: root may do everything, so who runs as root becomes somebody else."""

import contextlib
import os
import pwd
from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[str]:
    """The name of a user to whom files with mode 0000 are closed, whom the block runs as."""
    user = os.geteuid()
    groups = os.getgroups()
    if user == 0:
        os.setgroups([])
        os.seteuid(NOBODY)
    try:
        yield pwd.getpwuid(os.geteuid()).pw_name
    finally:
        if user == 0:
            os.seteuid(0)
            os.setgroups(groups)
