"""What the measured numbers of a job are called, in which order they stand, and their table.

`run`, `status` and the report show them alike. A suite, metric or split that a stage adds later is
shown under its own name, behind those that are known here.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from tunesmith_api.finetunejob.export import PRECISIONS
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import number
from tunesmith_cli.terminal.style import table

# The order of the keys is the order in which people see them.
SUITE_LABELS: Final[Mapping[str, str]] = {
    "preference": "Held-out pairs",
    "heldOut": "Held-out rows",
    "general": "General text",
    "crossValidation": "Cross-validation",
    "highlights": "Held-out highlights",
}
METRIC_LABELS: Final[Mapping[str, str]] = {
    "loss": "loss",
    "perplexity": "perplexity",
    "exactMatch": "exact match",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
    "margin": "margin",
    "accuracy": "accuracy",
    "rankingAccuracy": "ranking accuracy",
    "winRate": "win rate against the base",
    "kl": "divergence from the tuned model",
    "highlightShare": "share of what moves the answers",
}
_LOWER_IS_BETTER: Final = frozenset({"loss", "perplexity", "kl"})

# The models that have a column in every job, measured yet or not. What compress makes is what
# ships, and with the scheme `none` it is not compressed.
SPLIT_LABELS: Final[Mapping[str, str]] = {"tuned": "tuned", "compressed": "as shipped"}
# Those that only a pruned job has.
_OTHER_LABELS: Final[Mapping[str, str]] = {"distilled": "recovered"}
# What is compared with the tuned model, and not with the base.
_BESIDE_TUNED: Final = frozenset({"pruned", "distilled", "compressed"})

# Splits of `export` are called by format and precision.
_FORMATS: Final = tuple(f"{name}-" for name in PRECISIONS)


def is_against_tuned(result: EvaluationResult) -> bool:
    """Whether what it is compared with is the tuned model, and not the base."""
    return result.split in _BESIDE_TUNED or is_exported(result)


def is_exported(result: EvaluationResult) -> bool:
    """Whether it is of a format for devices, which have a table of their own."""
    return result.split.startswith(_FORMATS)


def latest_in_order(results: Iterable[EvaluationResult]) -> list[EvaluationResult]:
    """The latest result of each measure, by suite and metric, tuned before compressed."""
    # A repeated stage reports again; a dict keeps the place of the first and the value of the last.
    latest = {(result.suite, result.metric, result.split): result for result in results}
    return sorted(
        # A loss that overflowed has no place on a scale, and says nothing in a table.
        (result for result in latest.values() if math.isfinite(result.value)),
        # The names break ties, so that the rows of one unknown measure stay together.
        key=lambda result: (
            _place(result.suite, SUITE_LABELS),
            result.suite,
            _place(result.metric, METRIC_LABELS),
            result.metric,
            result.split != "tuned",
        ),
    )


def label_of(result: EvaluationResult) -> str:
    """`Held-out rows: loss`."""
    suite = SUITE_LABELS.get(result.suite, result.suite)
    return f"{suite}: {METRIC_LABELS.get(result.metric, result.metric)}"


def split_label(split: str) -> str:
    """What people call the model that was measured."""
    return SPLIT_LABELS.get(split, _OTHER_LABELS.get(split, split))


def interval_of(result: EvaluationResult) -> str:
    """`2.1 – 2.83`; empty where none was measured."""
    if result.low is None or result.high is None:
        return ""
    return f"{number(result.low)} – {number(result.high)}"


def base_of(results: Iterable[EvaluationResult]) -> float | None:
    """The base model's value of one measure."""
    # What a compressed model is compared with is the tuned one: that is no base.
    bases = [result.base for result in results if not is_against_tuned(result)]
    return next((base for base in bases if base is not None), None)


def direction_of(result: EvaluationResult) -> str:
    """Which values are better; empty for a metric that is not known here."""
    if result.metric not in METRIC_LABELS:
        return ""
    return "lower is better" if result.metric in _LOWER_IS_BETTER else "higher is better"


def change_of(result: EvaluationResult) -> str:
    """`+0.01` or `−1.39`, against what it is compared with; empty where there is nothing."""
    if result.base is None:
        return ""
    delta = result.value - result.base
    # A minus sign, not a hyphen: it is as wide as the plus, and columns of digits align.
    return f"{'+' if delta > 0 else '−' if delta < 0 else ''}{number(abs(delta))}"


def evaluation_table(results: Iterable[EvaluationResult]) -> str:
    """Every measure with the value of the base model and of each split; empty without any."""
    ordered = [result for result in latest_in_order(results) if not is_exported(result)]
    if not ordered:
        return ""
    splits = list(dict.fromkeys([*SPLIT_LABELS, *(result.split for result in ordered)]))
    names = map(split_label, splits)
    rows = [("measure", "base", *(cell for name in names for cell in (name, "interval")))]
    for label, group in groupby(ordered, key=label_of):
        by_split = {result.split: result for result in group}
        base = base_of(by_split.values())
        cells = [label, "" if base is None else number(base)]
        for split in splits:
            result = by_split.get(split)
            cells += ["", ""] if result is None else [number(result.value), interval_of(result)]
        rows.append(tuple(cells))
    return table(rows)


def _place(name: str, labels: Mapping[str, str]) -> int:
    return list(labels).index(name) if name in labels else len(labels)
