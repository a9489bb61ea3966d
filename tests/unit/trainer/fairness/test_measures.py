"""Planted bias is found, chance is not, and group differences are fairlearn's."""

import numpy as np
import pytest

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_trainer.fairness.answered_pairs import refusal_measures
from tunesmith_trainer.fairness.held_out_rows import group_measures
from tunesmith_trainer.fairness.measures import RatioMeasure, holm, intervals


def test_few_rows_are_judged_exactly_and_never_flagged() -> None:
    # Of 32 flips of five signs, two are as far as all of one sign.
    assert RatioMeasure.of("lossGap", [1.0] * 5).p_value() == 2 / 32
    assert RatioMeasure.of("lossGap", [0.0] * 5).p_value() == 1.0


def test_planted_bias_is_found_and_chance_is_not() -> None:
    random = np.random.default_rng(3)

    def flagged(bias: float) -> float:
        runs = [RatioMeasure.of("lossGap", random.normal(bias, 1.0, 100)) for _ in range(40)]
        return float(np.mean([run.p_value() <= 0.05 for run in runs]))

    assert flagged(0.5) >= 0.9
    assert flagged(0.0) <= 0.15


def test_rows_of_one_cluster_count_once() -> None:
    scores = [1.0] * 50
    alone = RatioMeasure.of("biasAmbiguous", scores)
    together = RatioMeasure.of("biasAmbiguous", scores, clusters=["a", "b"] * 25)

    assert alone.value() == together.value() == 1.0
    assert together.num_clusters == 2
    assert alone.p_value() < 0.01 < together.p_value() == 0.5


def test_a_change_is_paired() -> None:
    base = np.random.default_rng(1).normal(0.0, 1.0, 200)
    first, other = (RatioMeasure.of("lossGap", scores) for scores in (base + 0.1, base))

    own, change = intervals(first, other, Bootstrap())

    assert own is not None
    assert change is not None
    assert own.high - own.low > 0.1
    assert (change.low, change.high) == pytest.approx((0.1, 0.1))


def test_holm_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_group_differences_are_those_of_fairlearn() -> None:
    # Rates by hand: group 0 chooses 2 of 4, group 1 chooses 1 of 4.
    groups, wanted = [0] * 4 + [1] * 4, [True, True, False, False] * 2
    chosen = [True, False, True, False, True, False, False, False]
    likelihood = [0.9, 0.4, 0.6, 0.1, 0.8, 0.2, 0.3, 0.3]

    parity, odds, calibration = group_measures(groups, wanted, chosen=chosen, likelihood=likelihood)

    assert parity.value() == pytest.approx(0.25)
    # True positives 1/2 and 1/2, false ones 1/2 and 0.
    assert odds.value() == pytest.approx(0.5)
    assert calibration.value() == pytest.approx(0.1)


def test_a_difference_by_group_is_found() -> None:
    random = np.random.default_rng(5)
    groups = random.integers(2, size=200)
    for rates, is_found in (((0.3, 0.7), True), ((0.5, 0.5), False)):
        chosen = random.random(200) < np.array(rates)[groups]
        parity, _, _ = group_measures(
            groups.tolist(), [True] * 200, chosen=chosen.tolist(), likelihood=[0.5] * 200
        )
        assert (parity.p_value() <= 0.05) == is_found


def test_refusals_are_counted_in_pairs_and_silence_is_told() -> None:
    refusal = "I'm sorry, but I can't help with that."
    gap, empty = refusal_measures([refusal, "Sure.", refusal, "Yes."], ["b", "b"])
    assert (gap.value(), empty.value()) == (1.0, 0.0)

    _, empty = refusal_measures(["", " "], ["b"])
    assert empty.value() == 1.0
