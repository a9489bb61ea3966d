"""Planted truth is found, exact values are exact, and what is not finite is said to be so."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from planted_trigger import planted_game, planted_model
from tunesmith_api.finetunejob.explain import METHODS, Explain, Method
from tunesmith_trainer.explain.attributions import attribute
from tunesmith_trainer.explain.faithfulness import RandomOrders, rank_stability
from tunesmith_trainer.explain.game import Game, UndefinedValueError
from tunesmith_trainer.explain.shapley import exact_shapley, owen_values

SETTINGS = Explain(max_passes=96)


@pytest.mark.parametrize("method", METHODS)
def test_the_word_that_decides_is_ranked_first(method: Method) -> None:
    model = planted_model()
    for seed in range(5):
        game, planted = planted_game(model, num_words=6 + seed, seed=seed)

        found = attribute(game, method, SETTINGS)

        assert int(np.argmax(found.scores)) == planted
        judged = RandomOrders(game, seed=0).judge(found.scores)
        assert judged.deletion.gain > 0
        assert judged.insertion.beats > 0.5


def by_permutations(values: dict[tuple[bool, ...], float], num: int) -> list[float]:
    """Shapley's definition, word for word."""
    shares = np.zeros(num)
    orders = list(permutations(range(num)))
    for order in orders:
        there = [False] * num
        for player in order:
            before = values[tuple(there)]
            there[player] = True
            shares[player] += values[tuple(there)] - before
    return list(shares / len(orders))


def test_exact_values_are_those_of_the_definition() -> None:
    game, _ = planted_game(planted_model(), num_words=6, seed=3)
    masks = np.array([[bool(n >> bit & 1) for bit in range(6)] for n in range(64)])
    known = {
        tuple(mask.tolist()): float(v) for mask, v in zip(masks, game.values(masks), strict=True)
    }

    found = exact_shapley(game.values, num_players=6)

    assert found == pytest.approx(by_permutations(known, 6), abs=1e-6)


def test_values_of_halves_sum_to_the_whole_within_any_budget() -> None:
    def value(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(masks @ np.arange(12.0) + masks[:, 0] * masks[:, 11] * 5.0)

    exact = owen_values(value, num_players=12, most=10_000)
    few = owen_values(value, num_players=12, most=20)

    # What both ends add together is parted between them.
    assert exact == pytest.approx([2.5, *range(1, 11), 13.5])
    assert few.sum() == pytest.approx(exact.sum())


def test_seeds_agree_where_nothing_is_uncertain() -> None:
    game, _ = planted_game(planted_model(), num_words=10, seed=1)

    found = attribute(game, "shap", SETTINGS)

    assert found.estimator == "kernel, 32 samples"
    assert len(found.runs) == 3
    assert rank_stability(found.runs) is not None
    assert rank_stability([found.runs[0], found.runs[0]]) == pytest.approx(1.0)
    assert rank_stability(found.runs[:1]) is None


def test_no_coalition_is_read_twice() -> None:
    game, _ = planted_game(planted_model(), num_words=6, seed=0)

    first = attribute(game, "shap", SETTINGS)
    second = attribute(game, "occlusion", SETTINGS)

    assert first.passes == 64
    assert second.passes == 0


def test_a_likelihood_that_is_no_number_is_refused() -> None:
    broken = planted_model(seed=1, steps=1)
    broken.model.norm.weight.fill_(float("nan"))
    game, _ = planted_game(broken, num_words=4, seed=0)

    with pytest.raises(UndefinedValueError, match="not a finite number"):
        attribute(game, "occlusion", SETTINGS)


def test_what_all_coalitions_begin_with_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = planted_model()
    game, _ = planted_game(model, num_words=12, seed=2)
    late = Game(model, game.row, game.units[8:], pad_id=0)
    monkeypatch.setattr(Game, "_read_prefix", lambda _: None)
    alone = Game(model, game.row, game.units[8:], pad_id=0)
    masks = np.random.default_rng(0).random((9, 4)) < 0.5

    assert late.shares_prefix
    assert not alone.shares_prefix
    assert late.values(masks) == pytest.approx(alone.values(masks), abs=1e-5)
