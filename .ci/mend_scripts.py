# ruff: noqa: INP001
# A script beside the others of `.ci`, no package.
"""Let the scripts of an environment start where its path has a space: `mend_scripts.py BIN`.

pip writes `#!/a b/.venv/bin/python` into a script such as hg, and no system can run that: the
program ends at the space. Scripts that pip makes itself begin with a line for sh; so do these then.
"""

import os
import sys
from pathlib import Path

for script in Path(sys.argv[1]).iterdir():
    if script.is_symlink() or not script.is_file():
        continue
    head, _, rest = script.read_bytes().partition(b"\n")
    python = os.fsdecode(head.removeprefix(b"#!").strip())
    if head.startswith(b"#!") and " " in python and Path(python).exists():
        start = f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"
        script.write_bytes(os.fsencode(start) + rest)
