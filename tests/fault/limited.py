"""Run a command with limited resources, and without root's right to write everywhere.

    python limited.py [fsize=BYTES] [nofile=NUMBER] COMMAND ARGUMENT...

Root may write to files that nobody may write to, unless CAP_DAC_OVERRIDE is taken away.
"""

import ctypes
import os
import resource
import sys

_LIMITS = {"fsize": resource.RLIMIT_FSIZE, "nofile": resource.RLIMIT_NOFILE}
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1


def main() -> None:
    command = sys.argv[1:]
    while "=" in command[0]:
        name, _, value = command.pop(0).partition("=")
        hard = resource.getrlimit(_LIMITS[name])[1]
        resource.setrlimit(_LIMITS[name], (int(value), hard))
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
