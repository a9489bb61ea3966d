"""`row-scores.json`: what each row was scored, so that two jobs can be compared row by row.

`tunesmith compare` draws paired intervals from it. A row is known by a digest of its tokens and of
what of it is predicted: two jobs have the same row only where tokenizer, template, cut and mask are
the same, which is where their losses can be compared at all. No text is kept.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.generation_metric import GenerationSuite, score_predictions
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import HELD_OUT

# 64 bits: of a million rows, two share a digest once in 40 million jobs.
_DIGEST_BYTES = 8
# Beyond the resolution of fp32, in which rows are scored.
_DIGITS = 8


def loss_scores(
    suites: Mapping[str, TokenRows],
    *,
    base: Mapping[str, RowLosses],
    tuned: Mapping[str, RowLosses],
) -> list[JsonValue]:
    """One record for each suite; scores are nats summed over a row's targets, `weights` of them."""
    return [
        _record(
            suite,
            "loss",
            rows=[_digest_of_row(rows, index) for index in range(len(rows))],
            weights=tuned[suite].weights,
            scores={"base": base[suite].sums, "tuned": tuned[suite].sums},
        )
        for suite, rows in suites.items()
    ]


def answer_scores(
    suite: GenerationSuite, *, base: Sequence[str], tuned: Sequence[str]
) -> list[JsonValue]:
    """A record of the scores of answers, between 0 and 1; empty without a metric."""
    if suite.metric is None:
        return []
    scores = {
        name: score_predictions(suite.metric, predictions=answers, references=suite.references)
        for name, answers in (("base", base), ("tuned", tuned))
    }
    asked = zip(suite.prompts, suite.references, strict=True)
    rows = [_digest(f"{prompt}\0{wanted}".encode()) for prompt, wanted in asked]
    return [_record(HELD_OUT, suite.metric, rows=rows, weights=np.ones(len(rows)), scores=scores)]


def _record(
    suite: str,
    metric: str,
    *,
    rows: list[str],
    weights: NDArray[np.float64],
    scores: Mapping[str, NDArray[np.float64]],
) -> dict[str, JsonValue]:
    return {
        "suite": suite,
        "metric": metric,
        "rows": list[JsonValue](rows),
        "weights": weights.tolist(),
        **{name: [float(f"{value:.{_DIGITS}g}") for value in of] for name, of in scores.items()},
    }


def _digest_of_row(rows: TokenRows, index: int) -> str:
    ids, trained = rows.row(index)
    return _digest(ids.astype("<i4").tobytes() + trained.astype(np.uint8).tobytes())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
