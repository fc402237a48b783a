"""The invariants of the fuzz targets, over what Hypothesis draws: every parser has one."""

import pytest
import wirestrategies as draw
from fuzz.target import Target
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_parser_keeps_its_invariant_for_any_bytes(target: Target) -> None:
    """The docstring of each target's check says what it is."""

    @settings(deadline=2000, max_examples=60)
    @given(st.binary(max_size=200) | draw.damaged(st.sampled_from(target.seeds)))
    def keeps_it(data: bytes) -> None:
        target.check(data)

    keeps_it()
