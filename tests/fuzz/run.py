"""Every parser under coverage-guided fuzzing, one process after another.

    PYTHONPATH=tests python -m fuzz.run [--seconds N | --inputs N] [TARGET]…

The time, or the number of inputs, is shared evenly by the targets. A table says what each has
gone through; `coverage` counts the branches of our code (edges between its basic blocks) that
libFuzzer saw taken. An input that breaks an invariant, takes more than 30 s or more than 512 MB is
kept in `.fuzz/` and printed; then the status is 1.
"""

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fuzz.targets import TARGETS
from support.tables import lines

TOP = Path(__file__).parents[2]
KEPT = TOP / ".fuzz"
LIMITS = ("-rss_limit_mb=512", "-timeout=30", "-print_final_stats=1")
_STAT = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)
_COVERAGE = re.compile(r"\bcov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What came of one target; `found`: the inputs that broke it; `said`: the end of its output."""

    target: str
    inputs: int
    rate: int
    coverage: int
    found: tuple[bytes, ...]
    status: int
    said: str

    @property
    def good(self) -> bool:
        """Whether it ran to its end and found nothing."""
        return not self.found and self.status == 0


def read_outcome(target: str, said: str, found: tuple[bytes, ...], status: int) -> Outcome:
    """The outcome from what libFuzzer printed."""
    stats = {name: int(number) for name, number in _STAT.findall(said)}
    return Outcome(
        target,
        inputs=stats.get("number_of_executed_units", 0),
        rate=stats.get("average_exec_per_sec", 0),
        coverage=max(map(int, _COVERAGE.findall(said)), default=0),
        found=found,
        status=status,
        said=said[-3000:],
    )


def run(
    target: str, limit: str, kept: Path = KEPT, child: Sequence[str] = ("-m", "fuzz.child")
) -> Outcome:
    """One process; `limit` is libFuzzer's option that ends it, `child` what Python runs."""
    kept.mkdir(exist_ok=True)
    prefix = f"{kept}/{target}-{datetime.now(UTC):%Y%m%dT%H%M%S}-"
    with tempfile.TemporaryDirectory(prefix="zh-fuzz-") as place, tempfile.TemporaryFile() as out:
        corpus = Path(place, "corpus")
        corpus.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, *child, target, str(corpus)),
                *(limit, *LIMITS, f"-artifact_prefix={prefix}"),
            ],
            # libFuzzer ends the process without a chance to tidy up: its files are ours to remove.
            env=os.environ | {"PYTHONPATH": f"{TOP / 'tests'}:{TOP}", "TMPDIR": place},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
        out.seek(0)
        said = out.read().decode(errors="replace")
    found = tuple(path.read_bytes() for path in sorted(kept.glob(f"{Path(prefix).name}*")))
    return read_outcome(target, said, found, done.returncode)


def table(outcomes: list[Outcome]) -> str:
    """One row each, and all together."""
    rows = [
        {
            "target": one.target,
            "inputs": one.inputs,
            "inputs/s": one.rate,
            "coverage": one.coverage,
            "crashes": len(one.found),
            "invariant": TARGETS[one.target].invariant,
        }
        for one in outcomes
    ]
    total = sum(one.inputs for one in outcomes)
    return "\n".join([*lines(rows), f"{total} inputs"])


def versions() -> str:
    """The day, and what ran."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()}, Python {platform.python_version()},"
        f" atheris {importlib.metadata.version('atheris')}"
    )


def finds(outcomes: list[Outcome]) -> str:
    """What went wrong: the end of the output, and each input as it can be given to the target."""
    parts = []
    for one in outcomes:
        if not one.good:
            parts.append(f"{one.said}\n{one.target}: ended with status {one.status}")
        parts += [f"TARGETS[{one.target!r}].check({data!r})" for data in one.found]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every parser.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--seconds", type=int, default=60, help="for all targets together")
    how.add_argument("--inputs", type=int, help="for all targets together")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    share = max(1, (given.inputs or given.seconds) // len(names))
    limit = f"-runs={share}" if given.inputs else f"-max_total_time={share}"
    outcomes = [run(name, limit) for name in names]
    print(f"{versions()}\n{table(outcomes)}")
    if problems := finds(outcomes):
        print(problems)
    return 0 if all(one.good for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
