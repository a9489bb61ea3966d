"""Which metric suits the data, which prompts are asked, and that scores lie between 0 and 1."""

from typing import Literal

import pytest

from tunesmith_api.finetunejob.evaluation import Bootstrap, Generation
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.evaluate.generation_metric import (
    MetricName,
    choose_generation_suite,
    generation_result,
    mean_score,
    metric_for,
    score_predictions,
)

SENTENCE = "Check the cable between the screen and the computer first."


def rows(number: int, *, reference: str | None = SENTENCE) -> list[RowRecord]:
    return [
        RowRecord(
            source=f"rows.jsonl:{place}",
            messages=None,
            text=None,
            prompt=f"question {place}",
            reference=reference,
        )
        for place in range(number)
    ]


@pytest.mark.parametrize(
    ("references", "metric"),
    [
        (["yes", "no idea"], "exactMatch"),
        (["yes", SENTENCE], "rougeL"),
        (["東京です", "大阪です"], "chrf"),
        ([], None),
    ],
)
def test_the_metric_follows_from_the_answers(
    references: list[str], metric: MetricName | None
) -> None:
    assert metric_for(Generation(), references=references) == metric


@pytest.mark.parametrize(("wanted", "metric"), [("none", None), ("chrf", "chrf")])
def test_a_metric_that_is_asked_for_is_taken(
    wanted: Literal["none", "chrf"], metric: MetricName | None
) -> None:
    assert metric_for(Generation(metric=wanted), references=["yes"]) == metric


@pytest.mark.parametrize("metric", ["exactMatch", "rougeL", "chrf"])
def test_scores_reach_from_nothing_to_all_right(metric: MetricName) -> None:
    scores = score_predictions(
        metric, predictions=[SENTENCE, "\u0416\u0443\u043a"], references=[SENTENCE, SENTENCE]
    )

    assert scores.tolist() == pytest.approx([1.0, 0.0])


def test_a_short_answer_is_right_whatever_its_case_and_full_stop() -> None:
    scores = score_predictions(
        "exactMatch", predictions=[" YES. ", "yes sir"], references=["Yes", "yes"]
    )

    assert scores.tolist() == [1.0, 0.0]


def test_rouge_sees_words_of_every_script() -> None:
    scores = score_predictions(
        "rougeL", predictions=["\u0433\u043e\u0440\u043e\u0434 \u0441\u043f\u0438\u0442"],
        references=["\u0433\u043e\u0440\u043e\u0434 \u0441\u043f\u0438\u0442"],
    )  # fmt: skip

    assert scores.tolist() == [1.0]


def test_prompts_are_spread_evenly_over_the_rows() -> None:
    suite = choose_generation_suite(rows(10), settings=Generation(max_samples=4))

    assert suite.prompts == ["question 0", "question 2", "question 5", "question 7"]
    assert suite.references == [SENTENCE] * 4


def test_rows_without_an_answer_are_not_asked() -> None:
    suite = choose_generation_suite(rows(3, reference=None), settings=Generation())

    assert (suite.prompts, suite.metric) == ([], None)
    assert mean_score(suite, []) is None
    assert generation_result(suite, [], split="tuned", base=None, settings=Bootstrap()) is None


def test_the_result_is_the_mean_score_with_its_interval() -> None:
    suite = choose_generation_suite(rows(2), settings=Generation(metric="exactMatch"))

    result = generation_result(
        suite, [SENTENCE, "other"], split="tuned", base=0.25, settings=Bootstrap()
    )

    assert result is not None
    assert (result.value, result.base, result.n) == (0.5, 0.25, 2)
    assert (result.low, result.high) == (0.0, 1.0)
    assert mean_score(suite, [SENTENCE, "other"]) == 0.5
