"""When a scheme pays, by rounds of the quantized and the unquantized model."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from timed_rounds import FAST, ROUNDS, SLOW
from tunesmith_serving.verify.guess_counts import GuessedTokens, Guesses
from tunesmith_serving.verify.speed import NUM_PROMPTS, Rates, Speed
from tunesmith_serving.verify.vllm_engine import VllmEngine


def speed_of(alone: list[float], together: list[float]) -> Speed:
    rates = Rates(alone=alone, together=together)
    return Speed("W4A16", compressed=rates, unquantized=Rates(alone=SLOW, together=SLOW))


@pytest.mark.parametrize(("alone", "together", "does_pay"), ROUNDS)
def test_a_scheme_pays_where_every_round_was_faster(
    alone: list[float], together: list[float], *, does_pay: bool
) -> None:
    speed = speed_of(alone, together)

    assert speed.pays is does_pay
    assert bool(speed.warnings) is not does_pay


def test_the_facts_have_the_spread_and_the_ratio_of_medians_and_the_warning_no_figures() -> None:
    speed = speed_of(SLOW, FAST)
    told: Any = speed.as_json()

    assert told["together"]["compressed"] == [14.0, 15.0, 16.0]
    assert told["together"]["ratio"] == pytest.approx(15 / 11, abs=1e-3)
    assert speed.told == "W4A16 makes 15 tokens/s, unquantized 11"
    (warning,) = speed_of(SLOW, SLOW).warnings
    # A version keeps it, whose digest is that of any other run of the same job.
    assert "11" not in warning.replace("W4A16", "")


class TimedEngine:
    """Stands for vLLM's clock alone: a second for each token of a row.

    One that guesses has a guess taken of the two for each row.
    """

    def __init__(self, *, is_guessing: bool = False) -> None:
        self.asked: list[tuple[list[int], int]] = []
        self._is_guessing = is_guessing

    def guesses(self) -> Guesses | None:
        num_rows = sum(len(lengths) for lengths, _ in self.asked)
        return Guesses(num_rows, 2 * num_rows, num_rows) if self._is_guessing else None

    def seconds(self, rows: Sequence[Sequence[int]], *, num_tokens: int) -> float:
        self.asked.append(([len(row) for row in rows], num_tokens))
        return float(num_tokens)


def test_prompts_leave_room_for_the_answer_and_few_are_asked_again() -> None:
    engine = TimedEngine()

    rates = Rates.of(cast("VllmEngine", engine), [[1] * 100, [2] * 3], max_length=40)

    assert {num_tokens for _, num_tokens in engine.asked} == {20}
    assert engine.asked[0][0] == [20, 3] * (NUM_PROMPTS // 2)
    assert rates.alone == [1.0] * 5
    assert rates.together == [float(NUM_PROMPTS)] * 5
    assert rates.guessed_alone is None


def test_guesses_are_counted_in_the_rounds_whose_speed_they_explain() -> None:
    engine = TimedEngine(is_guessing=True)

    rates = Rates.of(cast("VllmEngine", engine), [[1] * 3], max_length=40)

    # Five rounds of 20 tokens, not those of the round before them.
    assert rates.guessed_alone == GuessedTokens(5, 100, Guesses(5, 10, 5))
    num_answers = 5 * NUM_PROMPTS
    assert rates.guessed_together == GuessedTokens(
        num_answers, 20 * num_answers, Guesses(num_answers, 2 * num_answers, num_answers)
    )
