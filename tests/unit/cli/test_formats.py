"""Numbers, times and sizes as people read them."""

import pytest

from tunesmith_cli.formats import counted, duration, number, percent, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (86_399.9, "1 d 0 h"),
        (100_000, "1 d 3 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 50, "5120.0 TiB")],
)
def test_a_size_has_binary_units(num_bytes: int, text: str) -> None:
    assert size(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.41319, "2.413"),
        (12_401.0, "12,401"),
        (12_401.7, "12,402"),
        (999.96, "1000"),
        (2e-05, "2e-05"),
        (-0.25, "-0.25"),
        (0.0, "0"),
    ],
)
def test_a_number_has_four_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_parts_and_counts() -> None:
    assert percent(0.9958) == "99.6 %"
    assert (counted(1, "row"), counted(1050, "row")) == ("1 row", "1,050 rows")
