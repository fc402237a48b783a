"""What the runner makes of what libFuzzer says and leaves. The fuzzer itself is not needed here."""

from pathlib import Path

from fuzz import run

SAID = """\
INFO: seed corpus: files: 16 min: 1b max: 21b total: 131b rss: 46Mb
#491	REDUCE cov: 23 ft: 24 corp: 5/37b lim: 21 exec/s: 0 rss: 46Mb L: 1/16 MS: 1 ChangeByte-
#30000	DONE   cov: 191 ft: 499 corp: 74/65Kb lim: 4096 exec/s: 15000 rss: 52Mb
Done 30000 runs in 2 second(s)
stat::number_of_executed_units: 30000
stat::average_exec_per_sec:     15000
stat::peak_rss_mb:              52
"""
GOOD = f"import sys; assert sys.argv[1] == 'topic', sys.argv; print({SAID!r})"
CRASHES = f"""\
import sys
name, corpus, *options = sys.argv[1:]
prefix = dict(option.split("=") for option in options)["-artifact_prefix"]
open(prefix + "crash-1234", "wb").write(b"a\\xff")
print({SAID!r}, "AssertionError: not so")
sys.exit(77)
"""


def test_a_target_that_keeps_its_invariant(tmp_path: Path) -> None:
    outcome = run.run("topic", "-runs=1", tmp_path / "kept", ("-c", GOOD))

    assert (outcome.inputs, outcome.rate, outcome.coverage) == (30_000, 15_000, 191)
    assert outcome.good
    assert run.finds([outcome]) == ""
    shown = run.table([outcome, outcome])
    assert "A text that splits is the topic" in shown
    assert shown.endswith("\n60000 inputs")


def test_an_input_that_breaks_one_is_kept_and_printed_as_python(tmp_path: Path) -> None:
    outcome = run.run("topic", "-runs=1", tmp_path / "kept", ("-c", CRASHES))

    assert not outcome.good
    assert outcome.found == (b"a\xff",)
    shown = run.finds([outcome])
    assert "AssertionError: not so" in shown
    assert shown.endswith(r"TARGETS['topic'].check(b'a\xff')")
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.read_bytes() == b"a\xff"


def test_a_process_that_ends_without_an_input_is_no_success(tmp_path: Path) -> None:
    outcome = run.run("topic", "-runs=1", tmp_path / "kept", ("-c", "raise SystemExit(3)"))

    assert not outcome.good
    assert "topic: ended with status 3" in run.finds([outcome])
