"""The suites a model is scored on by loss, and the results that are drawn from its losses.

`evaluate` compares the base with the tuned model, `compress` the tuned model with the quantized
one; both go through here, so the numbers of a job can be laid side by side.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS, bootstrap, ratio
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, score_rows

HELD_OUT = "heldOut"
GENERAL = "general"
# Nats per token. A model that knows nothing has the logarithm of its vocabulary, about 12; from 709
# on the perplexity overflows.
_DIVERGED_LOSS = 100.0

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Findings:
    """Numbers for status and gates, and the record for report and model card."""

    results: list[EvaluationResult]
    record: dict[str, JsonValue]


def score_suites(
    model: PreTrainedModel, suites: Mapping[str, TokenRows], *, pad_id: int, say: Say
) -> dict[str, RowLosses]:
    """The losses of `model` on each suite; `say(suite, done, total)` is called on the way.

    Raises:
        VerdictError: a loss is infinite or undefined.
    """
    by_suite = {}
    for suite, rows in suites.items():
        losses = score_rows(model, rows, pad_id=pad_id, on_batch=partial(say, suite))
        loss = mean_loss(losses)
        if not math.isfinite(loss) or loss > _DIVERGED_LOSS:
            raise VerdictError(
                Reason.LOSS_DIVERGED,
                f"the model's {suite} loss is {loss:g}, so training has destroyed it; lower "
                "training.optimizer.learningRate.",
            )
        by_suite[suite] = losses
    return by_suite


def mean_loss(losses: RowLosses) -> float:
    """Nats per target token."""
    return ratio(losses.sums, losses.weights)


def loss_results(
    suite: str, losses: RowLosses, *, base: RowLosses, split: str, settings: Bootstrap
) -> list[EvaluationResult]:
    """Loss (nats per target token) and perplexity, whose bounds are those of the loss, raised."""
    interval = bootstrap(
        losses.sums,
        losses.weights,
        resamples=settings.resamples,
        confidence=settings.confidence,
    )
    loss = EvaluationResult(
        suite=suite,
        split=split,
        metric="loss",
        value=mean_loss(losses),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        base=mean_loss(base),
        n=len(losses.sums),
    )
    # Percentiles pass through any rising function, so the ends need no bootstrap of their own.
    perplexity = {
        name: None if nats is None else math.exp(nats)
        for name in ("value", "low", "high", "base")
        for nats in [getattr(loss, name)]
    }
    return [loss, loss.model_copy(update={"metric": "perplexity", **perplexity})]


def few_rows_warnings(losses: Mapping[str, RowLosses]) -> list[str]:
    """A warning for each suite that is too small for narrow intervals."""
    num_rows = {suite: len(of_rows.sums) for suite, of_rows in losses.items()}
    return [
        f"{suite} has {number} rows: with fewer than {FEW_ROWS}, intervals are wide."
        for suite, number in num_rows.items()
        if number < FEW_ROWS
    ]
