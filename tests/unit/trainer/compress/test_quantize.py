"""What is calibrated on."""

from tunesmith_trainer.compress.quantize import equal_blocks


def test_blocks_are_as_long_as_the_longest_row_and_lose_less_than_one_of_them() -> None:
    assert equal_blocks([[1, 2], [3, 4, 5], [6], [7, 8]]) == [[1, 2, 3], [4, 5, 6]]
    assert equal_blocks([[1, 2]]) == [[1, 2]]
