"""What a push loads for the journal: the standard library and nothing else."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[3]


def test_the_writer_loads_nothing_foreign():
    program = """
import sys
import hgext_zmqhooks.journal.append
tops = {name.partition(".")[0] for name in sys.modules}
print(sorted(tops - set(sys.stdlib_module_names) - {"hgext_zmqhooks", "__main__"}))
"""
    found = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(TOP)!r})\n{program}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
