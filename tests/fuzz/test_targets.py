"""Each target holds for its seeds and for some mutations of them; `make fuzz` makes millions."""

import re
from pathlib import Path
from random import Random

import pytest
from fuzz.target import Target
from fuzz.targets import TARGETS

MUTATIONS = 300
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "fuzzing.md"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_keep_the_invariant(target: Target) -> None:
    assert target.invariant.endswith(".")
    assert target.seeds
    for data in (*target.seeds, b"", b"\n\n\n", b"\xff" * 100):
        target.check(data)
    assert max(map(len, target.seeds)) <= target.size


@pytest.mark.parametrize(
    "target", [target for target in TARGETS.values() if target.mutate], ids=lambda one: one.name
)
def test_mutations_keep_the_structure_and_the_invariant(target: Target) -> None:
    rng = Random(1)
    made: set[bytes] = set()
    data = list(target.seeds)
    for _ in range(MUTATIONS):
        changed = target.mutate(rng.choice(data), rng)
        if changed is not None and len(changed) <= target.size:
            made.add(changed)
            data.append(changed)
    for changed in made:
        target.check(changed)
    assert len(made) > MUTATIONS // 3, "most seeds have a structure"


def test_the_docs_say_what_holds_for_each_target() -> None:
    said = dict(re.findall(r"^\| `([a-z-]+)` \| (\D.*) \|$", PAGE.read_text(), re.MULTILINE))
    assert said == {target.name: target.invariant for target in TARGETS.values()}
