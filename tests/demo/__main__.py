"""See the package. Ends with 0 only if every action ran and every signature is good."""

import signal
import sys
import time
from pathlib import Path

from . import push, report, serve
from .place import DemoError, Place, new_folder, set_up


def run(place: Place) -> None:
    """Daemons up, pushes, report, daemons down. Raises DemoError."""
    with serve.subscriber(place) as daemon, serve.web_server(place, "team/site") as web:
        pushed = push.push_all(place, web)
        rows = report.wait_for_actions(place, pushed, daemon)
        report.show(rows)
        report.judge(rows, pushed)
        report.verify(place, pushed)


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    match arguments:
        case []:
            folder, steps = new_folder(), ("setup", "run")
        case ["setup" | "run" as step, name]:
            folder, steps = Path(name).absolute(), (step,)
        case _:
            sys.stderr.write("usage: python -m tests.demo [setup DIR | run DIR]\n")
            return 2
    try:
        if "setup" in steps:
            set_up(folder)
        if "run" in steps:
            run(Place(folder))
    except DemoError as error:
        sys.stderr.write(f"demo failed: {error}\nThe files are in {folder}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted\nThe files are in {folder}\n")
        return 130
    print(f"{' and '.join(steps)}: done in {time.monotonic() - started:.0f} s")
    print(f"The files are in {folder}")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    # Whoever ends the demo ends its daemons: the exception leaves through their contexts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
