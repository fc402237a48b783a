"""Run one of our commands, or hg, with a clock that can be set while it runs.

    python clock.py FILE zmq-subscriber|zmq-relay|hg ARGUMENT...

FILE holds the seconds that are added to the wall clock, and is read at each look at it. The
monotonic clock goes on as ever. Nothing of ours is imported before time.time is replaced.
"""

import sys
import time
from pathlib import Path

_true = time.time


def main() -> int | None:
    file = Path(sys.argv[1])
    time.time = lambda: _true() + float(file.read_text())
    sys.argv = sys.argv[2:]
    match sys.argv[0]:
        case "hg":
            from mercurial import dispatch

            return dispatch.run()
        case "zmq-relay":
            from hgext_zmqhooks.relay import cli
        case _:
            from subscriber import cli
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
