"""Sizes in bytes."""

import pytest

from tunesmith_api.quantities import num_bytes


@pytest.mark.parametrize(
    ("size", "wanted"), [("1M", 10**6), ("300Mi", 300 << 20), ("2G", 2 * 10**9), ("1Ti", 1 << 40)]
)
def test_a_size_in_bytes(size: str, wanted: int) -> None:
    assert num_bytes(size) == wanted
