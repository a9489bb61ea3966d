"""What the numbers of a job are called and in which order they are shown."""

import math
from collections.abc import Iterable

from tunesmith_api.results import EvaluationResult

SUITES = {"heldOut": "Held-out rows", "general": "General text"}
METRICS = {
    "loss": "loss",
    "perplexity": "perplexity",
    "exactMatch": "exact match",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
}
LOWER_IS_BETTER = {"loss", "perplexity"}


def in_order(results: Iterable[EvaluationResult]) -> list[EvaluationResult]:
    """The latest result of each measure, by suite and metric, tuned before compressed."""
    latest = {(each.suite, each.metric, each.split): each for each in results}
    return sorted(
        (each for each in latest.values() if math.isfinite(each.value)),
        key=lambda each: (
            _place(each.suite, SUITES),
            _place(each.metric, METRICS),
            each.split != "tuned",
        ),
    )


def name_of(result: EvaluationResult) -> str:
    """`Held-out rows: loss`."""
    suite = SUITES.get(result.suite, result.suite)
    return f"{suite}: {METRICS.get(result.metric, result.metric)}"


def _place(name: str, known: Iterable[str]) -> int:
    names = list(known)
    return names.index(name) if name in names else len(names)
