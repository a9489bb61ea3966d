"""When a scheme pays, by rounds of the quantized and the unquantized model."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tunesmith_serving.verify.speed import NUM_PROMPTS, Rates, Speed
from tunesmith_serving.verify.vllm_engine import VllmEngine

SLOW, FAST = [10.0, 11.0, 12.0], [14.0, 15.0, 16.0]


def speed_of(alone: list[float], together: list[float]) -> Speed:
    rates = Rates(alone=alone, together=together)
    return Speed("W4A16", compressed=rates, unquantized=Rates(alone=SLOW, together=SLOW))


@pytest.mark.parametrize(
    ("alone", "together", "does_pay"),
    [
        (FAST, SLOW, True),
        (SLOW, FAST, True),
        (SLOW, SLOW, False),
        # One slow round: what else the machine did may explain the rest.
        ([11.5, *FAST], SLOW, False),
    ],
)
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
    """Stands for vLLM's clock alone: a second for each token of a row."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

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
