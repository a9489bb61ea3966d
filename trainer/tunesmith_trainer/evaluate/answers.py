"""Which held-out prompts are answered by both models, and how the answers are scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith_api.finetunejob.evaluation import Bootstrap, Generation
from tunesmith_api.results import EvaluationResult
from tunesmith_trainer.data.records import RowRecord
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.generation_metric import MetricName, metric_for, score_answers
from tunesmith_trainer.evaluate.suites import HELD_OUT


@dataclass(frozen=True, slots=True)
class Questions:
    """Rendered prompts with the answers the data gives to them, and the metric that suits them."""

    prompts: list[str]
    references: list[str]
    metric: MetricName | None


def choose_questions(records: Sequence[RowRecord], *, wanted: Generation) -> Questions:
    """At most `wanted.max_samples` rows that have a prompt and an answer, evenly spread."""
    pairs = [
        (record.prompt, record.reference)
        for record in records
        if record.prompt is not None and record.reference
    ]
    step = max(1.0, len(pairs) / wanted.max_samples)
    chosen = [pairs[int(place * step)] for place in range(min(len(pairs), wanted.max_samples))]
    references = [reference for _, reference in chosen]
    metric = metric_for(wanted, references=references)
    if metric is None:
        return Questions(prompts=[], references=[], metric=None)
    return Questions(prompts=[prompt for prompt, _ in chosen], references=references, metric=metric)


def answer_result(
    questions: Questions, *, base: Sequence[str], tuned: Sequence[str], settings: Bootstrap
) -> EvaluationResult | None:
    """The mean score of the tuned model's answers beside the base's; None without a metric."""
    if questions.metric is None:
        return None
    before = score_answers(questions.metric, answers=base, references=questions.references)
    return scored(questions, tuned, split="tuned", base=float(before.mean()), settings=settings)


def scored(
    questions: Questions,
    answers: Sequence[str],
    *,
    split: str,
    base: float | None,
    settings: Bootstrap,
) -> EvaluationResult | None:
    """The mean score of `answers`, with its interval; None without a metric."""
    if questions.metric is None:
        return None
    scores = score_answers(questions.metric, answers=answers, references=questions.references)
    ones = np.ones_like(scores)
    interval = bootstrap(scores, ones, resamples=settings.resamples, confidence=settings.confidence)
    return EvaluationResult(
        suite=HELD_OUT,
        split=split,
        metric=questions.metric,
        value=ratio(scores, ones),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        base=base,
        n=len(scores),
    )
