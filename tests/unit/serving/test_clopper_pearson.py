"""Bounds on a counted share, against published values and against their own definition."""

from math import comb

import pytest

from tunesmith_serving.verify.parity import CONFIDENCE, clopper_pearson


@pytest.mark.parametrize(
    ("num_hits", "num_tries", "low", "high"),
    [
        # One of none or all: 1 - 0.05 ** (1 / n) and its mirror image.
        (0, 10, 0.0, 1 - 0.05**0.1),
        (10, 10, 0.05**0.1, 1.0),
        # Quantiles 0.05 of Beta(4, 17) and 0.95 of Beta(5, 16), as mpmath has them.
        (4, 20, 0.0713538, 0.4010281),
    ],
)
def test_bounds_are_the_exact_ones(num_hits: int, num_tries: int, low: float, high: float) -> None:
    assert clopper_pearson(num_hits, num_tries) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("num_hits", "num_tries"), [(23, 27), (85, 94), (390, 446), (3, 200)])
def test_at_its_highest_share_a_count_so_low_is_as_rare_as_was_asked(
    num_hits: int, num_tries: int
) -> None:
    low, high = clopper_pearson(num_hits, num_tries)

    def at_most(hits: int, share: float) -> float:
        return sum(
            comb(num_tries, each) * share**each * (1 - share) ** (num_tries - each)
            for each in range(hits + 1)
        )

    assert at_most(num_hits, high) == pytest.approx(1 - CONFIDENCE)
    assert 1 - at_most(num_hits - 1, low) == pytest.approx(1 - CONFIDENCE)


def test_more_tokens_with_the_same_share_leave_less_credible() -> None:
    ends = [clopper_pearson(17 * times, 20 * times)[1] for times in (1, 5, 50, 2000)]

    assert ends == sorted(ends, reverse=True)
    assert ends[-1] == pytest.approx(0.85, abs=0.01)
