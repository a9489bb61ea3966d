"""Numbers in the JSON of others: JSON writes what no number of Python's own is."""

from typing import Any

import pytest

from tunesmith_api.json_io import finite_number, read_json, whole_number


@pytest.mark.parametrize(("text", "whole"), [("3", 3), ("3.0", 3), ('"3"', 3), ("-1", -1)])
def test_a_whole_number_is_read(text: str, whole: int) -> None:
    assert whole_number(read_json(text)) == whole
    assert finite_number(read_json(text)) == whole


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", '"x"', "null", "[]"])
def test_what_is_no_number_is_refused(text: str) -> None:
    value: Any = read_json(text)
    for read in (whole_number, finite_number):
        with pytest.raises((ValueError, TypeError)):
            read(value)


def test_a_whole_number_that_no_float_holds_is_no_finite_one() -> None:
    value = read_json("9" * 400)

    assert whole_number(value) == value
    with pytest.raises(ValueError, match="400 digits is too large"):
        finite_number(value)
