"""Order keys: what shares a lane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriber.engine.orders import FIELDS, MAX_LENGTH, WORDS, compile_order

VALUES = st.fixed_dictionaries(
    {name: st.none() | st.text(alphabet="ab:%{}- ", max_size=4) for name in FIELDS}
)
PARTS = st.sampled_from([*(f"{{{name}}}" for name in FIELDS), "a", ":", "-", "{{"])
TEMPLATES = st.lists(PARTS, max_size=20)
"""Each part has at most nine characters, and a template MAX_LENGTH."""


@given(TEMPLATES.filter(lambda parts: any(len(part) > 2 for part in parts)), VALUES, VALUES)
def test_two_keys_of_a_template_are_the_same_only_if_its_values_are(parts, one, other):
    """Invariant: equal keys if and only if equal values in every field that the template names."""
    order = compile_order("".join(parts))
    named = [name for name in FIELDS if f"{{{name}}}" in parts]

    same = all(one[name] == other[name] for name in named)

    assert (order("r", "x", one) == order("r", "y", other)) is same


@pytest.mark.parametrize("text", [*WORDS, "{repo}", "a-{branch}"])
def test_rules_do_not_share_keys(text):
    about = dict.fromkeys(FIELDS, "x")

    assert compile_order(text)("r", "1", about) != compile_order(text)("s", "1", about)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither branch"),
        ("Branch", "neither branch"),
        ("deploy", "neither branch"),
        ("{{repo}}", "neither branch"),
        ("{}", "{} is none"),
        ("{0}", "{0} is none"),
        ("{rule}", "{rule} is none"),
        ("{repo.name}", "{repo.name} is none"),
        ("{repo!r}", "takes nothing"),
        ("{repo:>9}", "takes nothing"),
        ("{repo", "expected '}'"),
        ("repo}", "Single '}'"),
        ("{repo}" + "x" * MAX_LENGTH, "longer than"),
    ],
)
def test_what_says_no_order_is_refused(text, reason):
    with pytest.raises(ValueError, match=r".") as caught:
        compile_order(text)

    assert reason in str(caught.value)
