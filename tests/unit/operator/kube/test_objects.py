"""A status is written as its difference, and what a server makes of that is the status."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from json_merge import merged
from tunesmith_operator.kube.objects import merge_patch

_LEAVES = st.integers() | st.lists(st.integers(), max_size=2)
_INNER = st.dictionaries(st.sampled_from("ab"), _LEAVES)
OBJECTS = st.dictionaries(st.sampled_from("abc"), _LEAVES | _INNER)


@given(before=OBJECTS, after=OBJECTS)
def test_applied_to_what_was_it_gives_what_is_meant(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert merged(before, merge_patch(before, after)) == after


@given(same=OBJECTS)
def test_of_no_difference_nothing_is_sent(same: dict[str, Any]) -> None:
    assert merge_patch(same, same) == {}
